"""What does the user say of a file that the file itself leaves open? The words of --output and --assume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from workbench.core import nearest

ROLES = ("heatmaps", "simcc_x", "simcc_y")
# Data set -> its expert of a ViTPose+ file; see workbench.checkpoints.remap.
EXPERTS = {"coco": 0, "aic": 1, "mpii": 2, "ap10k": 3, "apt36k": 4, "wholebody": 5}


@dataclass(frozen=True)
class Said:
    """Facts about a file that its user states; None or empty where nothing is said.

    Attributes:
        outputs: role (``heatmaps``, ``simcc_x``, ``simcc_y``) -> name or number of the file's output.
        input: (height, width) of the network's input, pixels.
        layout: of its heatmaps.
        padding: factor on the box before it is cropped.
        mean: subtracted from pixels in 0..255, in the network's channel order.
        std: divided by afterwards.
        channels: the order in which the network wants red and blue.
        expert: of a ViTPose+ file, the data set's expert.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    input: tuple[int, int] | None = None
    layout: Literal["", "channels-first", "channels-last"] = ""
    padding: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Literal["", "rgb", "bgr"] = ""
    expert: int | None = None

    def given(self) -> list[str]:
        """Names of what is said, as the options call them."""
        named = [f.name for f in fields(self) if getattr(self, f.name) not in (None, "", {})]
        return ["output" if name == "outputs" else name for name in named]


def said(outputs: Sequence[str] = (), assume: Sequence[str] = ()) -> Said:
    """The words of the two options, read.

    Args:
        outputs: each ``ROLE=NAME``, several with commas between: ``simcc_x=out1,simcc_y=out2``.
        assume: each ``NAME=VALUE``: ``padding=1.1``, ``mean=0,0,0``, ``input=192x256`` (width x height).

    Raises:
        ValueError: no such role or name, or a value that it cannot have.
    """
    roles: dict[str, str] = {}
    for word in (part for words in outputs for part in words.split(",")):
        role, equals, name = (text.strip() for text in word.partition("="))
        if not equals or role not in ROLES or not name:
            raise ValueError(f"--output {word!r}: expected ROLE=NAME with a role of {', '.join(ROLES)}")
        roles[role] = name
    if "heatmaps" in roles and len(roles) > 1:
        raise ValueError("--output: heatmaps and simcc exclude each other; name one of the two")
    if len(roles) == 1 and "heatmaps" not in roles:
        raise ValueError("--output: SimCC has two outputs; name both, simcc_x=NAME,simcc_y=NAME")
    values: dict[str, Any] = {}
    for word in assume:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals or name not in _READ:
            known = nearest(name, _READ)
            raise ValueError(f"--assume {word!r}: expected NAME=VALUE; nearest names: {known}")
        try:
            values[name] = _READ[name](text)
        except ValueError as error:
            raise ValueError(f"--assume {name}: {error}") from None
    return Said(roles, **values)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}, got {text!r}")
        return text

    return read


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) < 1 << 16 for side in sides):
        raise ValueError(f"expected WIDTHxHEIGHT in pixels, such as 192x256, got {text!r}")
    return int(sides[1]), int(sides[0])


def _number(text: str, least: float = -1e6) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None
    if not least < value < 1e6:
        raise ValueError(f"expected a number above {least:g}, got {text!r}")
    return value


def _three(text: str, least: float = -1e6) -> tuple[float, ...]:
    values = tuple(_number(part, least) for part in text.split(","))
    if len(values) not in (1, 3):
        raise ValueError(f"expected one number or three, got {text!r}")
    return values * 3 if len(values) == 1 else values


def _expert(text: str) -> int:
    name = text.lower().replace("-", "").replace("_", "")
    if name.isdecimal() and int(name) < 100:
        return int(name)
    if name not in EXPERTS:
        raise ValueError(f"expected {', '.join(EXPERTS)} or a number, got {text!r}")
    return EXPERTS[name]


_READ: dict[str, Callable[[str], Any]] = {
    "input": _size,
    "layout": _one_of("channels-first", "channels-last"),
    "padding": lambda text: _number(text, 0.0),
    "mean": _three,
    "std": lambda text: _three(text, 0.0),
    "channels": _one_of("rgb", "bgr"),
    "expert": _expert,
}
