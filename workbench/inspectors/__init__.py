"""The inspections, in the order user interfaces show them: one file, one name here, one test."""

from __future__ import annotations

import importlib

from workbench.records import nearest
from workbench.report import Inspector

# Names, not modules: a command line that only lists them imports nothing heavy.
ALL: tuple[str, ...] = (
    "overlay",
    "heatmap_grid",
    "simcc_curves",
    "peaks",
    "target_residual",
    "vector_fields",
    "activations",
    "weights",
    "gradients",
)


def get(name: str) -> Inspector:
    """The inspector of that name.

    Raises:
        KeyError: no such inspector; the message lists near ones.
    """
    if name not in ALL:
        raise KeyError(f"no inspector {name!r}; nearest: {nearest(name, ALL)}")
    return importlib.import_module(f"workbench.inspectors.{name}").INSPECTOR
