"""Mistakes in the words of a call, before a verb sees them: one sentence each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def check_words(argv: Sequence[str]) -> None:
    """Refuse an empty word: it would be read as the current folder, or as an option that was not given.

    Args:
        argv: the words after `workbench`.

    Raises:
        ValueError: there is one; it says after which word.
    """
    for before, word in zip(("workbench", *argv), argv, strict=False):
        name, is_value, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value.strip() or (name and not is_value):
            continue
        raise ValueError(
            f"expected a value after {name or before}, got an empty word; name one or leave it out "
            "(a shell variable that is not set gives an empty word)"
        )


def usage_sentence(mistake: Any, argv: Sequence[str], verbs: Collection[str]) -> str:
    """What is wrong with an option or a value, and which help says more.

    Args:
        mistake: typer's error.
        argv: the words after `workbench`.
        verbs: names of the verbs.
    """
    from workbench.core.errors import shortened
    from workbench.core.plain_text import printable

    # Some errors of the parser know no command.
    verb = next((word for word in argv if not word.startswith("-")), "")
    path = (
        mistake.ctx.command_path
        if mistake.ctx
        else " ".join(["workbench", verb] if verb in verbs else ["workbench"])
    )
    return printable(f"{shortened(_said(mistake)).rstrip('.')} (see `{path} -h`)")


def _said(mistake: Any) -> str:
    """The message; where pydantic checked a value: the option, what it takes and what came."""
    found = getattr(mistake.__cause__, "errors", None)
    if found is None or not getattr(mistake, "param", None):
        return mistake.format_message()
    first = found()[0]
    expected = first["msg"].removeprefix("Input should be ").partition(", unable to parse")[0]
    if expected == first["msg"]:  # of typer's own choices: it names the value
        return mistake.format_message().replace("Value error, ", "", 1)
    expected = expected if expected.startswith("a ") else f"a value {expected}"
    return f"{mistake.param.opts[0]}: expected {expected}, got {first['input']!r}"
