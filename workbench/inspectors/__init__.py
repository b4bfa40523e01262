"""The inspections, in the order user interfaces show them: one file, one name here, one test.

Those of a room of its own (the rollout lab, the tag lab, the clinic) lie there and are found through `ROOMS`.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from workbench.records import nearest
from workbench.report import Inspector

_ROLLOUT: tuple[str, ...] = (
    "forced_and_free",
    "prefix",
    "corruption",
    "support",
    "calibration",
    "step_attention",
    "coordinates",
)
_TAGS: tuple[str, ...] = (
    "tag_values",
    "tag_maps",
    "tag_space",
    "grouping_steps",
    "grouping_costs",
)
_CONDITIONING: tuple[str, ...] = (
    "film",
    "paths",
    "features_kept",
    "refined_scores",
    "switches",
)

# Names, not modules: a command line that only lists them imports nothing heavy.
ALL: tuple[str, ...] = (
    "overlay",
    "heatmap_grid",
    "simcc_curves",
    "peaks",
    "map_likeness",
    "target_residual",
    "vector_fields",
    "activations",
    "weights",
    "gradients",
    *_ROLLOUT,
    *_TAGS,
    *_CONDITIONING,
)

ROOMS: dict[str, str] = {
    **dict.fromkeys(_ROLLOUT, "workbench.rollout"),
    **dict.fromkeys(_TAGS, "workbench.tags"),
    **dict.fromkeys(_CONDITIONING, "workbench.conditioning"),
}
"""Inspector -> package of its file, where that is not this one."""


def get(name: str) -> Inspector:
    """The inspector of that name.

    Raises:
        KeyError: no such inspector; the message lists near ones.
    """
    if name not in ALL:
        raise KeyError(f"no inspector {name!r}; nearest: {nearest(name, ALL)}")
    return importlib.import_module(f"{ROOMS.get(name, __name__)}.{name}").INSPECTOR


def file_of(name: str) -> Path:
    """The inspector's file, found without importing it."""
    return Path(__file__).parents[1] / ROOMS.get(name, __name__).partition(".")[2] / f"{name}.py"
