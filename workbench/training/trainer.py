"""The loop itself, one step at a time: the same bare steps, whoever watches.

Everything random in step n comes from (seed, n) alone, so a run that resumes from a snapshot repeats the
steps it lost bit for bit on a CPU, without keeping the state of any generator.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.core import Batch, Codec, DecodeOptions, Outputs, PoseModel, Prediction, Sample
from workbench.core.capabilities import HasObjective
from workbench.training import measures
from workbench.training.measures import evaluated, finite
from workbench.training.objectives import Objective, Target, objective_for
from workbench.training.optimizer import new_average, new_optimizer, parameter_groups
from workbench.training.passes import Diverged, Passes, compile_in_place
from workbench.training.passes import uncompiled as plainly
from workbench.training.sequence_checks import own_log
from workbench.training.settings import Settings
from workbench.training.settings import schedule_factor as factor
from workbench.training.trainer import batch_target, checked, checked_device

Augment = Callable[[Sequence[Sample], np.random.Generator], Sequence[Sample]]
"""From samples to changed samples (image, box and truth together), random by the generator alone."""

__all__ = ["Augment", "Diverged", "Trainer"]


class Trainer:
    """One model, some samples, and the optimizer between them.

    Attributes:
        step_number: steps done.
        seen: outputs and predictions of the last measurement in evaluation mode, for whoever draws them;
            None before the first.
    """

    def __init__(
        self,
        model: PoseModel,
        samples: Sequence[Sample],
        settings: Settings,
        *,
        augment: Augment | None = None,
        codec: Codec | None = None,
        pck_threshold: float = 0.05,
        device: str = "cpu",
    ) -> None:
        """Prepare the samples once and build the optimizer.

        Args:
            model: its module is trained in place.
            samples: with truth; all of them form every batch.
            settings: how to train.
            augment: changes the samples before every step.
            codec: writes the target; the model's own by default.
            pck_threshold: fraction of the longer side of the box.
            device: where the network is trained.

        Raises:
            ValueError: no sample, no visible keypoint, another number of keypoints, no codec, or a device
                that is absent or cannot do what the settings ask.
        """
        checked(model, samples)
        checked_device(model, settings, device, augment is not None)
        given = codec or model.codec
        own = model.objective if isinstance(model, HasObjective) else None
        if given is None and own is None:
            raise ValueError("training: this model declares no codec, so no target can be made for it")
        self.model, self.samples, self.settings = model, tuple(samples), settings
        self.codec, self.augment, self.device = given, augment, device
        self.pck_threshold = pck_threshold
        # A model with a loss of its own (a sequence model) reads its target off the batch.
        self._own_objective: Any = own
        self.objective: Objective | None = (
            objective_for(given, settings.objective) if given and not own else None
        )
        self.step_number = 0
        self.seen: tuple[Outputs, tuple[Prediction, ...]] | None = None
        self._factor = 1.0
        module = model.module.to(device)
        self.groups = parameter_groups(module, settings)
        self.optimizer = new_optimizer(self.groups, settings)
        self.average = new_average(module, settings)
        self._batch, self._target = self._prepared(self.samples)
        self._fixed = self._batch, self._target
        # The batch as it lies when it is asked for: augmentation changes it before every step.
        self._passes = Passes(
            module, lambda: self.model.forward(self._batch), self._losses, self.optimizer, settings, device
        )
        self.scaler = self._passes.scaler
        self._updates = measures.Updates(self.groups)
        self._measuring = False
        self._activations: dict[str, Any] = {}
        if settings.compile:
            compile_in_place(module)

    def step(self, measure: bool = False) -> dict[str, Any]:
        """Do one step and measure it, where it is to be measured.

        Args:
            measure: also when this is no step that the settings measure; the weights stay the same.

        Returns:
            what `advance` and `measured` give, together.

        Raises:
            Diverged: the loss is not finite; no weight was touched.
        """
        row = self.advance(measure)
        return row | self.measured(row["seconds"])

    def due(self, number: int) -> bool:
        """Whether the settings want this step measured."""
        return number % self.settings.measure_every == 0 or number in (1, self.settings.steps)

    def advance(self, measure: bool = False) -> dict[str, Any]:
        """Do one step.

        Args:
            measure: keep what `measured` needs, also when the settings do not want this step measured.

        Returns:
            ``step`` (from 1), ``loss``, ``loss/PART``, ``lr/GROUP``, ``gradient/GROUP``, ``seconds``.

        Raises:
            Diverged: the loss is not finite; no weight was touched.
        """
        began = time.perf_counter()
        number = self.step_number + 1
        measuring = measure or self.due(number)
        if self.augment:
            generator = np.random.default_rng((self.settings.seed, number))
            self._batch, self._target = self._prepared(self.augment(self.samples, generator))
        # Somebody may have looked at it in evaluation mode between two steps, and left it there.
        if not self.model.module.training:
            self.model.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self._factor * factor(self.settings, self.step_number)
        done, self._activations = self._passes(number, measuring, self._accepted)
        gradients = self._learned(measuring)
        self.step_number = number
        row: dict[str, Any] = {"step": number, "loss": done.loss.item()}
        row |= {f"loss/{name}": part.item() for name, part in done.parts.items()}
        row |= {f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        row |= {f"gradient/{name}": norm.item() for name, norm in gradients.items()}
        return {**row, "seconds": time.perf_counter() - began}

    def measured(self, seconds: float = 0.0) -> dict[str, Any]:
        """What the last step did, where it was to be measured; else nothing.

        Args:
            seconds: that the step took; the measurement's are added.

        Returns:
            ``update/GROUP`` (norm of the update over that of the weights), ``dead``, ``pck_train`` and
            ``pck`` (the weights after the step, in training and in evaluation mode), ``seconds``; and
            ``logged/NAME`` beside ``measured/NAME`` for a model that tells what its own log would say.
        """
        if not self._measuring:
            return {}
        began = time.perf_counter()
        ratios = self._updates.ratios()
        row: dict[str, Any] = {f"update/{name}": ratio for name, ratio in ratios.items()}
        row["dead"] = measures.dead_share(self._activations)
        self._measuring, self._activations = False, {}
        row |= {"pck_train": self.pck_train(), "pck": self.pck()}
        if self.seen and row["pck"] == row["pck"]:  # nan: nothing could be read off
            row |= own_log(self.model, *self.seen, self._fixed[0])
        return {**row, "seconds": seconds + time.perf_counter() - began}

    def _learned(self, measuring: bool) -> dict[str, Any]:
        """One step of the optimizer; the gradient norms it was made with."""
        import torch

        self.scaler.unscale_(self.optimizer)
        gradients = measures.norms(self.groups, gradients=True)
        if self.settings.clip:
            parameters = [p for g in self.groups for p in g["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        if measuring:
            self._updates.keep()
        self._measuring = measuring
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.model.module)
        return gradients

    def _accepted(self, loss: float) -> None:
        if not math.isfinite(loss):
            half = (
                ", or a value is too large for mixed precision (try without it)" if self.settings.amp else ""
            )
            raise Diverged(
                f"the loss is {loss} at step {self.step_number + 1}: the learning rate ({self.lr():.2g}) "
                f"is too high, or input or weights are not finite{half}; the weights "
                "of the step before are kept"
            )

    @property
    def batch(self) -> Batch:
        """The unchanged samples as the network is given them in evaluation mode."""
        return self._fixed[0]

    def _losses(self, outputs: Outputs) -> dict[str, Any]:
        if self.objective is None or self._target is None:
            return dict(self._own_objective(outputs, self._batch))
        return dict(self.objective(outputs, self._target))

    def lr(self) -> float:
        """The learning rate of the next step, before group factors."""
        return self.peak_learning_rate * factor(self.settings, self.step_number)

    @property
    def peak_learning_rate(self) -> float:
        """What the schedule is a share of, as it was set last."""
        return self.settings.learning_rate * self._factor

    def set_learning_rate(self, rate: float) -> None:
        """Change the peak learning rate from the next step on; groups keep their ratios.

        Raises:
            ValueError: not a positive finite number.
        """
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"learning rate: expected a positive number, got {rate}")
        self._factor = rate / self.settings.learning_rate

    def evaluated(self) -> Outputs:
        """Outputs in evaluation mode, of the averaged weights where there are some."""
        with plainly(self.settings.compile):
            return evaluated(self.model, self._fixed[0], self.average)

    def pck(self) -> float:
        """PCK in evaluation mode, as the model will be used; nan when its outputs are not finite."""
        outputs = self.evaluated()
        if not finite(outputs):
            return float("nan")
        self.seen = outputs, tuple(self.model.decode(outputs, self._fixed[0], DecodeOptions()))
        return self._pck(self.seen[1])

    def pck_train(self) -> float:
        """PCK in training mode of the weights as they are, as `pck` has them; nan before the first step.

        The step's own outputs were made by the weights before it: long steps alone would part the two modes.
        """
        self.model.module.train()
        if not self.step_number or not finite(last := self._passes.looked_at(self.step_number)):
            return float("nan")
        # an augmented batch has its own truth, in the pixels of its own images
        return self._pck(self.model.decode(last, self._batch, DecodeOptions()), self._batch.samples)

    def _pck(self, predictions: Sequence, samples: Sequence[Sample] = ()) -> float:
        return measures.pck(predictions, samples or self.samples, self.pck_threshold)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain values."""
        return {
            "step": self.step_number,
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "factor": self._factor,
            "settings": self.settings.to_json(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it belongs to another model or other settings.
        """
        try:
            self.model.module.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as other:
            raise ValueError(f"this snapshot belongs to another model or other settings: {other}") from other
        if bool(self.average) != (state["average"] is not None):
            raise ValueError("this snapshot was written with another setting of ema")
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step_number, self._factor = int(state["step"]), float(state["factor"])

    def _prepared(self, samples: Sequence[Sample]) -> tuple[Batch, Target | None]:
        batch = self.model.prepare(samples)
        batch = dataclasses.replace(batch, pixels=batch.pixels.to(self.device), samples=tuple(samples))
        if self.objective is None or self.codec is None:
            return batch, None
        return batch, batch_target(batch, self.codec, self.device)
