"""Do the files and folders that options name exist? Asked once for all verbs, before anything is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import typer

# Options whose files a verb writes.
WRITTEN = frozenset({"out", "arrows", "folder"})
# Values that name no file. The parser hands --claims the option that follows it, as in --claims --demo.
_WORDS = {"boxes": ("", "annotation", "whole"), "claims": ("--demo",)}


def check_given_paths(annotations: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse an option that names a file, a folder or a data set which does not exist.

    Positional arguments are left to the verbs: what they are, a name or a path, differs.

    Args:
        annotations: of the options, by name, as typer reads them.
        options: their values.

    Raises:
        FileNotFoundError: there is no such file or folder.
        KeyError: there is no data set of that name.
    """
    for name, value in options.items():
        kind, info = (*get_args(annotations.get(name)), None, None)[:2]
        if not is_path_option(name, kind, info):
            continue
        for one in _given(value):
            _check(name, flag_of(name, info), one)


def flag_of(name: str, info: Any) -> str:
    """How an option is typed.

    Args:
        name: of the parameter.
        info: what typer knows of it; in `Annotated` the first name stands where a default would.
    """
    typed = str(info.default)
    return typed if typed.startswith("--") else f"--{name.replace('_', '-')}"


def is_path_option(name: str, kind: Any, info: Any) -> bool:
    """Whether an option names something that has to be there.

    Args:
        name: of the option, with underscores.
        kind: its type.
        info: what typer knows of it.
    """
    # typer's class of options is not exported under a public name
    if type(info) is not type(typer.Option()) or name in WRITTEN:
        return False
    return "Path" in str(kind) or name in ("data", "boxes")


def _given(value: Any) -> Iterator[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from value
    elif value is not None:
        yield value


def _check(name: str, flag: str, value: Path | str) -> None:
    from workbench.core.errors import beside

    if name == "data":
        from workbench.data.opening import check_data_name

        check_data_name(value)
        return
    if str(value) in _WORDS.get(name, ()):
        return
    path = Path(value)
    if not path.exists():
        raise FileNotFoundError(f"{flag}: no such file or folder {value}{beside(path.absolute())}")
