"""The rollout lab: what does a sequence model lose when it has to read its own answers?

It asks two things of a model: `forward` with given tokens, and `rollout`; see SequenceModel. Every file
answers one question with a Report.
"""

from __future__ import annotations

from workbench.inspectors.sequence.rollout import PckRule, SequenceModel

__all__ = ["PckRule", "SequenceModel"]
