"""The inspectors by name, found by scanning the folders of this package and the entry points of others.

An inspector is a file with the record ``INSPECTOR`` in one of the folders here, or in another package that
names it in its metadata; the entry point's name is that of the module::

    [project.entry-points."workbench.inspectors"]
    brightness = "my_package.brightness"

Finding imports no inspector: a command line that only lists them starts fast.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from workbench.core import nearest
from workbench.core.inspector import Inspector

ENTRY_POINTS = "workbench.inspectors"

ALL: tuple[str, ...]
"""Names of all inspectors, in the order in which user interfaces show them."""

# User interfaces show these folders first, in this order; then others by their names, then other packages.
_FOLDERS = ("outputs", "attribution", "sequence", "grouping", "conditioning")
_RECORD = re.compile(r"^INSPECTOR = Inspector\(", re.MULTILINE)
_ORDER = re.compile(r"\border=(\d+)")


@dataclass(frozen=True)
class _Found:
    """Where one inspector is: its module, and the folder of this package ("" for another package)."""

    module: str
    folder: str


def __getattr__(name: str) -> tuple[str, ...]:
    if name == "ALL":
        return tuple(_found())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get(name: str) -> Inspector:
    """The inspector of that name.

    Raises:
        KeyError: no such inspector; the message lists near ones.
        ValueError: another package's module cannot be imported, or has no record of this name.
    """
    place = _place(name)
    if place.folder:
        return importlib.import_module(place.module).INSPECTOR
    try:
        module = importlib.import_module(place.module)
    except ImportError as error:
        raise ValueError(f"inspector {name}: {place.module} cannot be imported: {error}") from None
    record = vars(module).get("INSPECTOR")
    if not isinstance(record, Inspector) or record.name != name:
        raise ValueError(
            f"inspector {name}: {place.module} has no INSPECTOR of this name; the entry point, the "
            "module and the module of the record's compute must have one name"
        )
    return record


def folder_of(name: str) -> str:
    """The folder of workbench.inspectors that an inspector is in; "" for one of another package."""
    return _place(name).folder


def file_of(name: str) -> Path:
    """The inspector's file, found without importing it.

    Raises:
        KeyError: no such inspector.
        ValueError: another package's module is not there.
    """
    place = _place(name)
    if place.folder:
        return Path(__file__).parent / place.folder / f"{name}.py"
    try:
        found = importlib.util.find_spec(place.module)
    except ImportError:
        found = None
    if found is None or not found.origin:
        raise ValueError(
            f"inspector {name}: entry point {ENTRY_POINTS} names {place.module}, which is not there"
        )
    return Path(found.origin)


def _place(name: str) -> _Found:
    found = _found()
    if name not in found:
        raise KeyError(f"no inspector {name!r}; nearest: {nearest(name, found)}")
    return found[name]


@functools.cache
def _found() -> dict[str, _Found]:
    """All inspectors by name, in order.

    Raises:
        ValueError: another package gives a name that is taken.
    """
    from importlib.metadata import entry_points  # slow to import, and only this function needs it

    here = Path(__file__).parent
    others = sorted({path.parent.name for path in here.glob("*/__init__.py")} - set(_FOLDERS))
    found = {
        name: _Found(f"{__name__}.{folder}.{name}", folder)
        for folder in (*_FOLDERS, *others)
        for _, name in sorted(_ordered(here / folder))
    }
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        if point.name in found:
            raise ValueError(
                f"inspector {point.name}: {point.value} and {found[point.name].module} share the name"
            )
        found[point.name] = _Found(point.module, "")
    return found


def _ordered(folder: Path) -> list[tuple[int, str]]:
    """Order and name of the inspectors in a folder, read from the text of their files."""
    found = []
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if record := _RECORD.search(text):
            order = _ORDER.search(text, record.end())
            found.append((int(order[1]) if order else Inspector.order, path.stem))
    return found
