"""Which of the served runs can answer a page's question, for its first visit and for its refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core.capabilities import Conditioned, Groups, RollsOut

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.inspector import Inspector

TAGS, SEQUENCE, TEXT = "Groups", "RollsOut", "Conditioned"
"""Capabilities (workbench.core) of models that have tags, are sequence models, or read text."""


def runs_of(context: Context, capability: str) -> list[RunFolder]:
    """The served runs whose models have a capability, in the order of the list.

    Empty with an adapter: it opens every file, and what a file looks like says nothing then.

    Args:
        context: of the server.
        capability: its name.
    """
    if context.settings.adapter is not None:
        return []
    registry = context.registry
    return [run for run in registry.runs() if capability in registry.capabilities(run)]


def able_runs(context: Context, inspector: Inspector) -> list[RunFolder]:
    """The served runs that an inspector of one kind of model can be asked about; empty where it takes any."""
    for capability, runs in ((Groups, TAGS), (RollsOut, SEQUENCE), (Conditioned, TEXT)):
        if capability in inspector.needs.capabilities:
            return runs_of(context, runs)
    return []
