"""Settings of an attempt as words of the Overfit page's address, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.pages.links import number_of_link, word_of_link
from apps.pages.overfit.choices import Choices, defaults_for

NUMBERS: Mapping[str, tuple[str, float, bool]] = {
    "steps": ("steps", 1, True),
    "rate": ("learning_rate", 0, False),
    "weight-decay": ("weight_decay", 0, False),
    "ema": ("ema", 0, False),
    "warm-up": ("warm_up", 0, True),
    "clip": ("clip", 0, False),
    "seed": ("seed", 0, True),
    "every": ("every", 0, True),
    "pck-falls": ("pck_falls", 0, False),
    "wait": ("wait", 0, False),
}
"""Name in the address -> name of the choice, its least value, and whether it is a whole number."""

SWITCHES: Mapping[str, str] = {"dropout": "dropout", "config-training": "config_training"}
"""The same of what is on or off: yes or no."""

WORDS = ("family", "schedule", "plant")
"""Those that are words, under their own names."""

LINKED = (*WORDS, *NUMBERS, *SWITCHES)
"""Names in the address, in the order of `settings_of_link`."""

SCHEDULES = ("constant", "cosine", "multistep")


def _usual(family: str, config_training: bool) -> dict[str, Any]:
    """The values of a page that was opened without any, of a family."""
    usual = defaults_for(family)
    named = {name: getattr(Choices, name) for name, _, _ in NUMBERS.values()} | {"plant": "", "dropout": True}
    proposed = {name: getattr(usual, name) for name in ("steps", "learning_rate", "schedule")}
    return {"family": family, **named, **proposed, "config_training": config_training}


def settings_of_link(
    words: Sequence[str | None], families: Sequence[str], config_training: bool = False
) -> dict[str, Any]:
    """The choices that the words of a link make, by name; a wrong word is said, and the default taken.

    Args:
        words: of LINKED; None where the link has none.
        families: that the page offers, its default first.
        config_training: whether the config's own training is used where the link does not say.
    """
    from workbench.training.faults import FAULTS

    said = dict(zip(LINKED, words, strict=True))
    family = word_of_link("family", said["family"], families, families[0])
    usual, defaults = _usual(family, config_training), defaults_for(family)
    found = dict(usual)
    found["schedule"] = word_of_link("schedule", said["schedule"], SCHEDULES, usual["schedule"])
    if said["plant"]:
        found["plant"] = word_of_link("plant", said["plant"], ("none", *FAULTS), "none").replace("none", "")
    for name, (choice, least, whole) in NUMBERS.items():
        if said[name]:  # an empty field stands for the family's own value
            default = getattr(defaults, choice) if usual[choice] is None else usual[choice]
            found[choice] = number_of_link(name, said[name], default, least, whole)
    for name, choice in SWITCHES.items():
        word = word_of_link(name, said[name], ("yes", "no"), "yes" if usual[choice] else "no")
        found[choice] = word == "yes"
    return found


def words_of(given: Mapping[str, Any], first: str) -> dict[str, str | None]:
    """Name in the address -> its word, None for what an address without it gives.

    Args:
        given: choices by name; None for the default.
        first: the family that the page offers first.
    """
    family = given["family"] or first
    usual = _usual(family, bool(given["config"]))
    found: dict[str, str | None] = {"family": None if family == first else family}
    named = {
        **{name: name for name in WORDS[1:]},
        **{name: one[0] for name, one in NUMBERS.items()},
        **SWITCHES,
    }
    for name, choice in named.items():
        value = given[choice]
        same = value is None or value == usual[choice]
        found[name] = None if same else _word(name, value)
    return found


def _word(name: str, value: Any) -> str | None:
    if name in SWITCHES:
        return "yes" if value else "no"
    if name in NUMBERS:
        return f"{value:.10g}" if isinstance(value, int | float) else None
    return str(value) or None
