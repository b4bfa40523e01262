"""Which of the served runs can answer a page's question, for its first visit and for its refusal."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

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
    return _runs(context, lambda capabilities: capability in capabilities)


def able_runs(context: Context, inspector: Inspector) -> list[RunFolder]:
    """The served runs that an inspector of one kind of model can be asked about; empty where it takes any."""
    needs = inspector.needs
    return _runs(context, needs.met_by_names) if needs.capabilities else []


def _runs(context: Context, able: Callable[[Collection[str]], bool]) -> list[RunFolder]:
    if context.settings.adapter is not None:
        return []
    registry = context.registry
    return [run for run in registry.runs() if able(registry.capabilities(run))]
