"""While a stranger's config is built, mmengine imports nothing and runs or loads no file that it names.

`config_trust` has looked through the config before; this is the second lock, within mmengine itself, for what
a class makes of its arguments or defaults.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_only: ContextVar[bool] = ContextVar("registered_only", default=False)


def published_description(name: str) -> Path | None:
    """The file in which mmpose describes a data set, by its name wherever it is said to lie; None without."""
    import mmpose

    path = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets" / Path(name).name
    return path if Path(name).name and path.is_file() else None


@contextlib.contextmanager
def registered_only(wanted: bool = True) -> Iterator[None]:
    """While the block runs, registries import nothing in this thread, and no file is run or loaded.

    Args:
        wanted: False changes nothing.
    """
    token = _only.set(wanted)
    try:
        yield
    finally:
        _only.reset(token)


def install() -> None:
    """Within `registered_only`, keep mmengine from importing, running or loading what a config names.

    mmengine 0.10.7: Registry.get falls back to get_object_from_string, and imports `SCOPE.registry` of any
    scope. Some of mmpose's classes run a file of a data set that lies below the present folder by default,
    `configs/_base_/datasets/coco.py`; they get the one that comes with mmpose.
    """
    registry: Any = importlib.import_module("mmengine.registry.registry")
    by_path, import_module = registry.get_object_from_string, registry.import_module

    def refusing(name: str) -> Any:
        if _only.get():
            raise KeyError(f"{name} is not registered")
        return by_path(name)

    def importing(name: str, package: str | None = None) -> Any:
        if _only.get() and name not in sys.modules:
            raise ImportError(f"{name} is not imported")
        return import_module(name, package)

    registry.get_object_from_string, registry.import_module = refusing, importing

    from mmengine.config import Config
    from mmengine.runner.checkpoint import CheckpointLoader

    run_file, load_file = Config.fromfile, CheckpointLoader.load_checkpoint

    @functools.wraps(run_file)
    def running(filename: Any, *args: Any, **named: Any) -> Any:
        if not _only.get():
            return run_file(filename, *args, **named)
        path = published_description(str(filename))
        if path is None:
            raise ValueError(f"config: the file {filename} is refused: a config that is only read runs none")
        return run_file(path, *args, **named)

    @functools.wraps(load_file)
    def loading(filename: Any, *args: Any, **named: Any) -> Any:
        if _only.get():
            raise ValueError(f"config: the file {filename} is refused: a config that is only read loads none")
        return load_file(filename, *args, **named)

    Config.fromfile = staticmethod(running)  # type: ignore[method-assign]
    CheckpointLoader.load_checkpoint = staticmethod(loading)  # type: ignore[method-assign]
