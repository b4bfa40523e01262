"""Importing this registers the modules with mmpose, under the names of the published code.

``custom_imports = dict(imports=["workbench.models.text_fusion.register"])`` in a config does so. A name that
another module has registered before (the published code itself) stays with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.models.mmpose_compat import install

install()

from mmpose.registry import MODELS, TRANSFORMS  # noqa: E402 - mmpose imports only after install()

from workbench.models.text_fusion.estimator import (  # noqa: E402
    LoadTextEmbeddings,
    RTMCCHeadWithRefinement,
    SimCCDiffusionRefiner,
    TopdownPoseEstimatorWithNeck,
)
from workbench.models.text_fusion.neck import TextFusionNeck  # noqa: E402

_OWN: tuple[tuple[Any, type], ...] = (
    (MODELS, TopdownPoseEstimatorWithNeck),
    (MODELS, TextFusionNeck),
    (MODELS, RTMCCHeadWithRefinement),
    (MODELS, SimCCDiffusionRefiner),
    (TRANSFORMS, LoadTextEmbeddings),
)


def register() -> None:
    """Register what has no other owner; the second call does nothing."""
    for registry, module in _OWN:
        if module.__name__ not in registry.module_dict:
            registry.register_module(module=module)


@contextmanager
def making_room() -> Iterator[None]:
    """Without these names while the block runs: a user's own config may register the published code."""
    for registry, module in _OWN:
        if registry.module_dict.get(module.__name__) is module:
            registry.module_dict.pop(module.__name__)
    try:
        yield
    finally:
        register()


register()
