"""Which keys of a model config do not belong where they stand?"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.core import nearest


def misplaced_keys(model: Mapping[str, Any]) -> list[str]:
    """One phrase for each key that its class does not take: ``model.backbone.in_channels: ...``.

    Classes that take any key, and types nobody has registered, say nothing: building them does.

    Args:
        model: the config's `model`, with mmengine's default scope set to mmpose.
    """
    return [phrase for path, part in _parts("model", model) for phrase in _wrong(path, part)]


def _parts(path: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield path, value
        for key, inner in value.items():
            yield from _parts(f"{path}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _parts(f"{path}[{i}]", inner)


def _wrong(path: str, part: Mapping[str, Any]) -> Iterator[str]:
    from mmpose.registry import KEYPOINT_CODECS, MODELS

    name = str(part["type"]).rpartition(".")[2]
    taken: dict[str, inspect.Parameter] = {}
    found = KEYPOINT_CODECS.module_dict.get(name) or MODELS.module_dict.get(name)
    if found is None or not inspect.isclass(found):
        return
    # A class hands what it does not know to the class above as long as it says **kwargs.
    for owner in found.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters
        taken |= parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    else:
        return
    for key in part:
        # `_scope_` is mmengine's own; see mmengine.registry.build_functions.
        if key not in taken and key not in ("type", "_scope_"):
            yield f"{path}.{key}: {name} takes no {key!r} (nearest: {nearest(key, set(taken) - {'self'})})"
