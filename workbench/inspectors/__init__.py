"""The inspectors, in the order in which user interfaces show them: one file and one name here for each.

Those of models with one network pass lie in `outputs`, others in the folder that `ROOMS` names.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from workbench.core import nearest
from workbench.core.report import Inspector

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

OUTPUTS = "workbench.inspectors.outputs"

ROOMS: dict[str, str] = {
    **dict.fromkeys(_ROLLOUT, "workbench.inspectors.sequence"),
    **dict.fromkeys(_TAGS, "workbench.inspectors.grouping"),
    **dict.fromkeys(_CONDITIONING, "workbench.inspectors.conditioning"),
}
"""Inspector -> package of its file, where that is not `OUTPUTS`."""


def get(name: str) -> Inspector:
    """The inspector of that name.

    Raises:
        KeyError: no such inspector; the message lists near ones.
    """
    if name not in ALL:
        raise KeyError(f"no inspector {name!r}; nearest: {nearest(name, ALL)}")
    return importlib.import_module(f"{ROOMS.get(name, OUTPUTS)}.{name}").INSPECTOR


def file_of(name: str) -> Path:
    """The inspector's file, found without importing it."""
    return Path(__file__).parent / ROOMS.get(name, OUTPUTS).rpartition(".")[2] / f"{name}.py"
