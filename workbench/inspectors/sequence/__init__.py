"""Rollout lab: what does an autoregressive model lose when it reads its own answers (free-running)?

The inspectors need a model that can be rolled out, see `SequenceModel`. Each file answers one question with a
Report.
"""

from __future__ import annotations

from workbench.inspectors.sequence.rollout import PckRule, SequenceModel

__all__ = ["PckRule", "SequenceModel"]
