"""What `open_model` was asked for: the file, the config, and the facts that the user states about the file.

Facts that a file leaves open come from `--output` and `--assume`; the config from the user, from inside the
checkpoint, or from a file beside it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.checkpoints.config_reader import config_budget, read_available, read_config, text_of
from workbench.core import NotAvailable, Skeleton, nearest, reason
from workbench.core.files import files_in
from workbench.decoding.codecs import size_of

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint


ROLES = ("heatmaps", "simcc_x", "simcc_y")
# Data set -> its expert of a ViTPose+ file; see workbench.checkpoints.remap.
EXPERTS = {"coco": 0, "aic": 1, "mpii": 2, "ap10k": 3, "apt36k": 4, "wholebody": 5}


@dataclass(frozen=True)
class StatedFacts:
    """Facts about a file that its user states; None or empty where nothing is stated.

    Attributes:
        outputs: role (``heatmaps``, ``simcc_x``, ``simcc_y``) -> name or number of the file's output.
        input: (height, width) of the network's input, pixels.
        layout: of its heatmaps.
        padding: factor on the box before it is cropped.
        mean: subtracted from pixels in 0..255, in the network's channel order.
        std: divided by afterwards.
        channels: the order in which the network wants red and blue.
        expert: of a ViTPose+ file, the data set's expert.
        heads: of a vision transformer's attention, which weights do not tell.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    input: tuple[int, int] | None = None
    layout: Literal["", "channels-first", "channels-last"] = ""
    padding: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Literal["", "rgb", "bgr"] = ""
    expert: int | None = None
    heads: int | None = None

    def given(self) -> list[str]:
        """Names of the facts that are stated, as the options call them."""
        named = [f.name for f in fields(self) if getattr(self, f.name) not in (None, "", {})]
        return ["output" if name == "outputs" else name for name in named]


def check_one_builder(config: Path | str | None, family: str | None, adapter: Path | str | None) -> None:
    """Refuse an adapter beside a config or a family: the adapter builds the model, so they would be ignored.

    Args:
        config: of the model.
        family: name of a family.
        adapter: the user's own Python file.

    Raises:
        ValueError: there is such a pair.
    """
    if adapter is None:
        return
    others = {"--config": config is not None, "--family": family not in (None, "adapter")}
    if given := [name for name, is_given in others.items() if is_given]:
        raise ValueError(f"--adapter builds the model itself; leave it or {', '.join(given)} out")


def stated_facts(outputs: Sequence[str] = (), assume: Sequence[str] = ()) -> StatedFacts:
    """The facts that `--output` and `--assume` state.

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
            what = "nothing of this name can be stated" if equals else "expected NAME=VALUE"
            raise ValueError(f"--assume {word!r}: {what}; nearest names: {nearest(name, _READ)}")
        try:
            values[name] = _READ[name](text)
        except ValueError as error:
            raise ValueError(f"--assume {name}: {error}") from None
    return StatedFacts(roles, **values)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}, got {text!r}")
        return text

    return read


def _number(text: str, least: float = -1e6) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None
    if not least < value < 1e6:
        raise ValueError(f"expected a number above {least:g}, got {text!r}")
    return value


def _three(text: str, least: float = -1e6) -> tuple[float, ...]:
    try:
        values = tuple(_number(part, least) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{error}; one number for all channels, or three as in 0.5,0.5,0.5") from None
    if len(values) not in (1, 3):
        raise ValueError(f"expected one number for all channels, or three as in 0.5,0.5,0.5, got {text!r}")
    return values * 3 if len(values) == 1 else values


def _expert(text: str) -> int:
    name = text.lower().replace("-", "").replace("_", "")
    if name.isdecimal() and int(name) < 100:
        return int(name)
    if name not in EXPERTS:
        raise ValueError(f"expected {', '.join(EXPERTS)} or a number, got {text!r}")
    return EXPERTS[name]


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 12:
        raise ValueError(f"expected a number of heads, such as 12, got {text!r}")
    return int(text)


_READ: dict[str, Callable[[str], Any]] = {
    "input": size_of,
    "layout": _one_of("channels-first", "channels-last"),
    "padding": lambda text: _number(text, 0.0),
    "mean": _three,
    "std": lambda text: _three(text, 0.0),
    "channels": _one_of("rgb", "bgr"),
    "expert": _expert,
    "heads": _count,
}


# The opening.


# A folder with more Python files is a project, not a run.
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Opening:
    """The arguments of open_model, as a family's `load` gets them.

    Attributes:
        checkpoint: opened, no tensor read yet; None where only an adapter was given.
        config: named by the user.
        adapter: named by the user.
        remap: apply the proposed renaming of tensors.
        device: as torch names it.
        run_config: `config` is the user's own code and may be run.
        stated: facts that the user states about the file.
        resample_pos_embed: a vision transformer's position embedding is resampled where the input has another
            size than the one it was trained with; otherwise such an input is refused.
    """

    checkpoint: Checkpoint | None
    config: Path | None = None
    adapter: Path | None = None
    remap: bool = False
    device: str = "cpu"
    run_config: bool = True
    stated: StatedFacts = field(default_factory=StatedFacts)
    resample_pos_embed: bool = False

    @cached_property
    def beside(self) -> dict[Path, Mapping[str, Any]]:
        """Configs in the checkpoint's folder, read and not run: mmengine's Runner writes its own there.

        Files that are no model config are ignored, and those that would have to be run are named in `unread`.
        """
        return self._neighbours[0]

    @property
    def unread(self) -> str:
        """Why a file beside the checkpoint that assigns a model is not used, in parentheses; "" for none."""
        refused = self._neighbours[1]
        return f" (what lies beside it is only read: {refused[0]})" if refused else ""

    @cached_property
    def _neighbours(self) -> tuple[dict[Path, Mapping[str, Any]], list[str]]:
        """The configs in the checkpoint's folder, and why others of them cannot be read."""
        if self.checkpoint is None:
            return {}, []
        found: dict[Path, Mapping[str, Any]] = {}
        refused: list[str] = []
        folder = self.checkpoint.path.resolve().parent
        budget = config_budget(f"{folder.name}/*.py")  # one for all of them together
        for path in files_in(folder, "*.py")[:_NEIGHBOURS]:
            if path.resolve().parent != folder:
                continue  # a link to a file that is not of this run
            try:
                config = read_config(path, folder, budget)
            except OSError:
                continue
            except ValueError as error:
                if _assigns_model(path):
                    refused.append(str(error))
                continue
            if isinstance(config.get("model"), Mapping):
                found[path] = config
        return found, refused

    @cached_property
    def config_is_top_down(self) -> bool:
        """The user named a config, and it is one of mmpose's top-down estimators.

        False where that cannot be told without running it.
        """
        if self.config is None:
            return False
        with contextlib.suppress(ValueError, OSError):
            model = read_available(self.config).values.get("model")
            kind = model.get("type") if isinstance(model, Mapping) else None
            return isinstance(kind, str) and kind.rpartition(".")[2].lower().startswith("topdown")
        return False

    @property
    def has_config(self) -> bool:
        """There is a config: named by the user, inside the checkpoint or beside it."""
        return bool(self.config or (self.checkpoint and self.checkpoint.config_text) or self.beside)

    def required(self) -> Checkpoint:
        """The checkpoint.

        Raises:
            NotAvailable: none was given.
        """
        if self.checkpoint is None:
            raise NotAvailable("a checkpoint: this family needs a file")
        return self.checkpoint

    def read_config(self) -> Mapping[str, Any]:
        """The config: the user's own is run, one that came with the checkpoint is only read.

        Raises:
            NotAvailable: there is none, or several lie beside the checkpoint.
            ValueError: it cannot be read without running it.
        """
        if self.config is not None and self.run_config:
            from workbench.models.mmpose.config import run_config

            return run_config(self.config)
        if self.config is not None:
            return read_config(self.config)
        checkpoint = self.required()
        if checkpoint.config_text:
            return read_config(checkpoint.config_text)
        if len(self.beside) == 1:
            return next(iter(self.beside.values()))
        names = ", ".join(path.name for path in list(self.beside)[:4])
        raise NotAvailable(
            f"config: {checkpoint.path.name} holds none"
            + (
                f", and several lie beside it ({names})"
                if names
                else ", and none that can be read lies beside it"
            )
            + self.unread
            + "; pass --config"
        )


def _assigns_model(path: Path) -> bool:
    """Whether a Python file assigns a model outside of functions, as configs do and adapters do not."""
    with contextlib.suppress(ValueError, OSError):
        return re.search(r"^model\s*=", text_of(path), re.MULTILINE) is not None
    return False


def skeleton_from_plain(facts: Any, family: str) -> Skeleton:
    """The skeleton that a checkpoint of this workbench carries as plain data.

    Args:
        facts: the fields of a Skeleton.
        family: what to call the checkpoint in messages.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        names = tuple(str(name) for name in facts["keypoints"])
        pairs = tuple((int(a), int(b)) for a, b in facts.get("limbs", ()))
        mirror = tuple(int(k) for k in facts.get("mirror", ()))
        sigmas = tuple(float(s) for s in facts.get("sigmas", ()))
        return Skeleton(str(facts["name"]), names, pairs, mirror, sigmas, str(facts.get("source", "")))
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError(f"{family}: the checkpoint's skeleton cannot be read: {reason(wrong)}") from wrong
