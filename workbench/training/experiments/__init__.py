"""What does each switch of a text fusion model give back? Short trainings from the same start, side by side.

An experiment is a list of arms that differ in one thing. All arms start from the same weights, see the same
crops in the same order and are judged on the same images, so their differences have paired intervals.
"""

from __future__ import annotations

from workbench.training.experiments.arms import EXPERIMENTS, Arm, Experiment, experiment_named

__all__ = ["EXPERIMENTS", "Arm", "Experiment", "experiment_named"]
