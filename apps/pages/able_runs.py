"""Which of the served runs can answer a page's question, for its first visit and for its refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core.capabilities import Conditioned, Groups, RollsOut

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.inspector import Inspector

TAGS, SEQUENCE, TEXT = "HigherHRNet", "cape", "RTMPose with text fusion"
"""How the names of families begin whose files have tags, are sequence models, or read text."""


def runs_of(context: Context, family: str) -> list[RunFolder]:
    """The served runs of a family, in the order of the list.

    Empty with an adapter: it opens every file, and which family a file looks like says nothing then.
    """
    if context.settings.adapter is not None:
        return []
    registry = context.registry
    return [run for run in registry.runs() if (registry.family(run)[0] or "").startswith(family)]


def able_runs(context: Context, inspector: Inspector) -> list[RunFolder]:
    """The served runs that an inspector of one kind of model can be asked about; empty where it takes any."""
    for capability, runs in ((Groups, TAGS), (RollsOut, SEQUENCE), (Conditioned, TEXT)):
        if capability in inspector.needs.capabilities:
            return runs_of(context, runs)
    return []
