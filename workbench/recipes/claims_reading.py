"""Read statements about a recipe: TOML, lines of `key = value`, or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.recipes.claims import Claim, field_named, recognised
from workbench.recipes.claims_markdown import markdown_claims
from workbench.recipes.comparison import shown


def read_claims(path: Path) -> tuple[tuple[Claim, ...], str]:
    """The statements of a file, and the recipe that it names; "" where it names none.

    Args:
        path: TOML with ``recipe`` and ``[[claim]]`` tables of ``key`` and ``value``; text with lines
            ``key = value`` and one ``recipe: name``; or Markdown, in which statements are recognised.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or holds no statement.
    """
    return claims_of(content_of(path), path.name)


def claims_of(text: str, title: str) -> tuple[tuple[Claim, ...], str]:
    """The statements of a text, and the recipe that it names; "" where it names none.

    Args:
        text: in the format that the ending of `title` says, as of `read_claims`.
        title: name of the file.

    Raises:
        ValueError: it is no such text, or holds no statement.
    """
    ending = Path(title).suffix.lower()
    if ending == ".toml":
        claims, name = _toml_claims(text, title)
    elif ending in (".md", ".markdown"):
        claims, name = markdown_claims(text)
    else:
        claims, name = _text_claims(text)
    if not claims:
        raise ValueError(
            f"{title}: no statement found; expected [[claim]] tables (.toml), lines `key = value`, or "
            "Markdown (.md)"
        )
    return tuple(claims), name


# The longest audit that somebody writes by hand.
_SIZE = 1 << 18


def content_of(path: Path) -> str:
    """The text of a file of statements.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any such file, or no text.
    """
    with path.open("rb") as file:
        data = file.read(_SIZE + 1)
    if len(data) > _SIZE:
        raise ValueError(f"{path.name}: statements of more than {_SIZE} bytes are refused")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8 (byte {error.start})") from error


def _toml_claims(text: str, name: str) -> tuple[list[Claim], str]:
    from workbench.checkpoints.config_reader import config_budget
    from workbench.checkpoints.config_values import plain_values

    try:
        content = plain_values(text, "toml", config_budget(name))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error
    entries = content.get("claim", [])
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) and "key" in one for one in entries):
        raise ValueError(f"{name}: expected [[claim]] tables with key and value")
    claims = [
        Claim(
            str(one.get("text", f"{one['key']} = {shown(one.get('value'))}")),
            field_named(str(one["key"])),
            one.get("value"),
            recipe=str(one.get("recipe", "")),
        )
        for one in entries
    ]
    return claims, str(content.get("recipe", ""))


def _text_claims(text: str) -> tuple[list[Claim], str]:
    from workbench.checkpoints.config_reader import read_config

    claims, name = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line.lower().startswith("recipe:"):
            name = line.partition(":")[2].strip()
        elif "=" in line:
            key, _, value = line.partition("=")
            try:
                read = read_config(f"value = {value.strip()}")["value"]
            except ValueError:
                read = value.strip()
            claims.append(Claim(line, field_named(key.strip()), read, number))
        elif line:
            claims += recognised(line, number) or [Claim(line, line=number)]
    return claims, name
