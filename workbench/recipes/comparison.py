"""The recipe that a config is meant to follow, and the differences from it, as findings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from workbench.core.finding import Finding, Severity
from workbench.recipes.recipe import Field, Recipe, fields, recipe, recipe_names
from workbench.recipes.values import Decisions, leaves

# Two floats of a config that differ by less are the same number, written differently.
_RELATIVE = 1e-6


@dataclass(frozen=True)
class AuditFinding(Finding):
    """A finding about a config.

    Attributes:
        key: where it stands in the config.
        found: the config's value; None where it has none.
        expected: the value that it should have.
        why: why it matters, one sentence.
        source: of the expected value, and of the reason.
        field: name of the field in `fields`; "" for a rule that is about no single field.
    """

    key: str = ""
    found: Any = None
    expected: Any = None
    why: str = ""
    source: str = ""
    field: str = ""


def finding(
    severity: Severity,
    key: str,
    found: Any,
    expected: Any,
    *,
    cause: str,
    why: str,
    source: str,
    fix: str,
    evidence: str = "",
    assumption: str = "",
    field: str = "",
) -> AuditFinding:
    """An AuditFinding; its evidence is made of the two values where none is given."""
    evidence = evidence or f"{key} is {shown(found)}, expected {shown(expected)}"
    return AuditFinding(
        cause, evidence, fix, assumption=assumption, severity=severity, confidence="measured",
        key=key, found=found, expected=expected, why=why, source=source, field=field,
    )  # fmt: skip


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if value is None or value == "none":
        return "not set"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(shown(v) for v in value[:12])}{', ...' if len(value) > 12 else ''})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={shown(item)}" for key, item in list(value.items())[:12])
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def equal(name: str, a: Any, b: Any) -> bool:
    """Whether two values of a field are the same decision.

    Args:
        name: of the field.
        a: one value.
        b: the other.

    Example:
        >>> equal("codec.input_size", (192, 256), [192.0, 256]), equal("optimizer.type", "adam", "Adam")
        (True, True)
    """
    if fields()[name].compare == "file":
        return file_name(a) == file_name(b)
    return _equal(a, b)


def _equal(a: Any, b: Any) -> bool:
    numbers = [isinstance(v, (int, float)) for v in (a, b)]
    if all(numbers):
        try:
            return a == b or math.isclose(a, b, rel_tol=_RELATIVE)
        except OverflowError:  # a whole number for which a float has no room
            return False
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (list, tuple)) != isinstance(b, (list, tuple)):
        # sigma=2 and sigma=(2, 2) are the same; so are one kernel size and a list of equal ones.
        many, one = (a, b) if isinstance(a, (list, tuple)) else (b, a)
        return bool(many) and all(_equal(item, one) for item in many) and not isinstance(one, str)
    if isinstance(a, str) and isinstance(b, str):
        return a.lower() == b.lower()
    return a == b


def file_name(value: Any) -> str:
    """The last part of a path or URL; of a pretrained checkpoint without its date and hash."""
    name = PurePosixPath(str(value)).name if value not in (None, "none", "") else ""
    return re.sub(r"([-_][0-9a-f]{8})?([-_]20\d{6})?(?=\.pth)", "", name)


def is_turned(found: Any, expected: Any) -> bool:
    """Whether a size has the other order of width and height than the expected one, at any scale."""
    if not all(
        isinstance(v, (list, tuple)) and len(v) == 2 and all(isinstance(n, (int, float)) and n > 0 for n in v)
        for v in (found, expected)
    ):
        return False
    (w, h), (W, H) = found, expected
    return W != H and math.isclose(w * W, h * H, rel_tol=1e-3)


def differences(decisions: Decisions, recipe: Recipe) -> Iterator[AuditFinding]:
    """Where a config decides otherwise than the recipe, in the order of `fields`."""
    arch_differs = False
    skipped, other = ignored(decisions, recipe), other_data(decisions, recipe)
    for name, field in fields().items():
        expected = recipe.get(name)
        if field.severity == "fact" or name not in decisions.values or name in skipped:
            continue
        found = decisions.values[name]
        if expected is None:
            continue
        if equal(name, found.value, expected):
            continue
        if name in ("backbone.embed_dim", "backbone.layers", "backbone.heads") and arch_differs:
            continue
        arch_differs |= name == "backbone.arch"
        if isinstance(found.value, bool) and not found.value and name.startswith("augment."):
            one = _left_out(name, field, decisions, recipe, expected)
        else:
            one = _difference(field, decisions, recipe, expected)
        if (
            other
            and (name.split(".")[0] in _BY_DATA or name == "backbone.pretrained")
            and one.severity != "remark"
        ):
            # Chosen for the recipe's data: on other data a difference is worth a look, not wrong.
            one = replace(one, severity="remark", assumption="the recipe's choice suits these data as well")
        yield one


# Parts of a config that are chosen for a data set.
_BY_DATA = ("schedule", "scaling", "train", "augment", "stage2", "metric", "optimizer", "ema")


def compared(decisions: Decisions, recipe: Recipe) -> list[Field]:
    """The fields that both decide."""
    skipped = ignored(decisions, recipe)
    return [
        field
        for name, field in fields().items()
        if field.severity != "fact"
        and name in decisions.values
        and recipe.get(name) is not None
        and name not in skipped
    ]


def decided(decisions: Decisions) -> list[Field]:
    """The fields that a config decides and that an audit looks at."""
    return [
        field for name, field in fields().items() if field.severity != "fact" and name in decisions.values
    ]


def other_data(decisions: Decisions, recipe: Recipe) -> bool:
    """Whether the config is for another data set than the recipe's."""
    for name in ("train.annotations", "val.annotations", "train.dataset"):
        mine, theirs = decisions.get(name), recipe.get(name)
        # CombinedDataset joins sets, and does not say which.
        if None not in (mine, theirs) and "CombinedDataset" not in (mine, theirs):
            return not equal(name, mine, theirs)
    return False


def ignored(decisions: Decisions, recipe: Recipe) -> set[str]:
    """Fields in which a config for another data set, or with decisions of its own, may differ."""
    found: set[str] = set()
    if other_data(decisions, recipe):
        found |= {"head.out_channels", "train.annotations", "val.annotations", "val.boxes"}
    if str(decisions.get("backbone.arch")) == str(recipe.get("backbone.arch")):
        found |= {"backbone.embed_dim", "backbone.layers", "backbone.heads"}
    if decisions.dialect != "mmengine" and decisions.get("head.type") != recipe.get("head.type"):
        found |= {"head.final_kernel"}
    # Settings of an optimizer, a schedule or a loss of another kind cannot be compared one by one.
    for kind, parts in (
        ("schedule.decay", ("schedule.milestones", "schedule.gamma", "schedule.eta_min")),
        ("loss.type", ("loss.beta", "loss.label_softmax", "loss.target_weight")),
        ("ema.type", ("ema.momentum",)),
    ):
        both = kind in decisions.values and recipe.get(kind) is not None
        if both and not equal(kind, decisions.get(kind), recipe.get(kind)):
            found |= set(parts)
    return found


def _left_out(name: str, field: Field, decisions: Decisions, recipe: Recipe, expected: Any) -> AuditFinding:
    step = name.split(".")[1]
    return finding(
        field.severity,  # type: ignore[arg-type]
        decisions.key(name), None, expected,
        cause=f"{step} left out",
        evidence=f"the training pipeline has no {step}, that of {recipe.name} has",
        why=field.why, source=recipe.source_of(name), fix=f"add {step} to the training pipeline", field=name,
    )  # fmt: skip


def _difference(field: Field, decisions: Decisions, recipe: Recipe, expected: Any) -> AuditFinding:
    name = field.name
    found = decisions.values[name]
    severity, why, cause = field.severity, field.why, f"{name} differs from the recipe"
    if field.compare == "size" and is_turned(found.value, expected):
        severity, cause = "error", "width and height exchanged"
        order = "(height, width)" if name == "backbone.img_size" else "(width, height)"
        why = f"The order is {order}: exchanged, it squeezes an upright person into a landscape crop. {why}"
    absent = "" if found.written else " (not written: the framework's own value)"
    source = recipe.source_of(name)
    if field.source and not field.source.startswith("the recipe"):
        source = f"{source}; {field.source}"
    fix = f"remove {found.key}" if expected == "none" else f"set {found.key} to {shown(expected)}"
    base = recipe.get("scaling.base_batch")
    if name == "optimizer.lr" and base:
        fix += f" with {shown(base)} samples in all, or in proportion to fewer"
    return finding(
        severity,  # type: ignore[arg-type]
        found.key, found.value, expected,
        cause=cause,
        evidence=f"{found.key} is {shown(found.value)}{absent}, {recipe.name} has {shown(expected)}",
        why=why,
        source=source,
        fix=fix,
        field=name,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Subject:
    """What the rules look at.

    Attributes:
        decisions: of the config.
        recipe: that it is compared with; None without one.
        devices: number of devices that train together.
        tensors: names of the tensors of a checkpoint of this config; () where none is known.
    """

    decisions: Decisions
    recipe: Recipe | None
    devices: int
    tensors: tuple[str, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The config's content."""
        return self.decisions.config


Rule = Callable[[Subject], Iterator[AuditFinding]]


def numbers(value: Any, count: int = 2) -> list[float] | None:
    """The value as so many positive numbers; None where it is something else."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        return None
    fits = all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in value)
    return [float(v) for v in value] if fits else None


def weights(findings: Sequence[Finding]) -> float:
    """Sum of the weights of findings: an error counts 5, a warning 2, a remark 0.5."""
    return sum(WEIGHTS[one.severity] for one in findings)


WEIGHTS = {"error": 5.0, "warning": 2.0, "remark": 0.5}
"""What a finding, or a field that was checked, counts in the score."""


# What tells which network is trained on what; the rest is how.
_IDENTITY: Mapping[str, float] = {
    "backbone.type": 3, "backbone.arch": 4, "backbone.embed_dim": 2, "backbone.layers": 2,
    "backbone.widths": 4, "backbone.widen": 3, "backbone.pretrained": 2, "head.type": 2,
    "head.deconv_channels": 3, "head.conv_channels": 2, "codec.type": 2, "codec.input_size": 2,
    "codec.heatmap_size": 1, "codec.sigma": 1, "model.type": 2, "train.annotations": 2, "val.annotations": 1,
    "optimizer.layer_decay": 0.5, "optimizer.lr": 0.5, "schedule.epochs": 0.5, "train.batch_size": 0.5,
    "bottomup.input_size": 3, "bottomup.output_sizes": 2, "optimizer.weight_decay": 0.5,
}  # fmt: skip
# Points that must agree before a recipe is called the nearest.
_ENOUGH = 3.0
# A config that parts from a recipe in one of these is of another network, not wrong.
_NETWORK = (
    "model.type", "backbone.type", "backbone.arch", "backbone.embed_dim", "backbone.layers",
    "backbone.widths", "backbone.widen", "backbone.deepen", "head.type", "codec.type", "codec.input_size",
    "bottomup.input_size", "head.deconv_channels",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The recipe that a config is compared with, and why.

    Attributes:
        name: of the recipe; "" where none is near enough.
        why: what both have in common, who named it, or why none is near.
    """

    name: str
    why: str


# Keys under which configs of a layout of their own name a network, alone or as the dict around name or type.
_NAMES_NETWORK = frozenset(
    ("model", "backbone", "network", "net", "arch", "architecture", "model_name", "model_type", "variant")
)
_SIZE_WORDS = {"small": "s", "base": "b", "large": "l", "huge": "h"}


def _named_network(decisions: Decisions) -> tuple[str, tuple[str, ...]]:
    """The name of a published network in a config of a layout of its own, and the recipes of that network.

    Hubs, papers and file names spell one name in many ways: ViTPose-Base, vitpose_b, vitpose-base-simple.
    """
    if decisions.dialect != "plain":
        return "", ()
    for path, value in leaves(decisions.config):
        words = path.lower().split(".")
        about = words[-1] if words[-1] in _NAMES_NETWORK else words[-2] if len(words) > 1 else ""
        own = words[-1] in _NAMES_NETWORK or words[-1] in ("name", "type")
        if not isinstance(value, str) or len(value) > 200 or not own or about not in _NAMES_NETWORK:
            continue
        # ViTPose+ is trained otherwise than ViTPose, and no recipe is of it.
        text = re.sub(r"[^a-z0-9.]+", "-", value.lower().replace("+", "-plus-"))
        text = re.sub(r"(vitpose|sapiens|rtmpose|hrnet)(?=[a-z0-9])", r"\1-", text)
        text = "-".join(_SIZE_WORDS.get(word, word) for word in text.split("-"))
        named = {name: network for name in recipe_names() if _is_in(network := _network_of(name), text)}
        if named:
            longest = max(map(len, named.values()))
            return value, tuple(name for name, network in named.items() if len(network) == longest)
    return "", ()


def _network_of(name: str) -> str:
    """The network in a recipe's name: without its data, and of a bottom-up one without its input size."""
    return re.sub(r"(-\d+)?-(coco|ap10k)$", "", name)


def _is_in(network: str, text: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(network)}(?![a-z0-9])", text) is not None


def nearest_recipe(decisions: Decisions) -> Choice:
    """The recipe whose network and data the config has, and what they have in common.

    A network that is published under the name that the config gives it is looked for among its recipes.

    Returns:
        a choice without a name where too little agrees, or the network is another.
    """
    best: tuple[float, str, list[str]] = (-math.inf, "", [])
    network, named = _named_network(decisions)
    for name in named or recipe_names():
        reference, points, alike = recipe(name), 0.0, []
        for field, weight in _IDENTITY.items():
            theirs = reference.get(field)
            if field not in decisions.values or theirs is None or theirs == "none":
                continue
            mine = decisions.get(field)
            if _same_identity(field, mine, theirs):
                points += weight
                said = file_name(mine) if field == "backbone.pretrained" else mine
                alike.append(f"{field} {shown(said)}")
            else:
                points -= weight / 4
        if points > best[0]:
            best = (points, name, alike)
    if best[0] < _ENOUGH and not named:
        return Choice("", "no recipe has enough in common with it")
    if other := _other_network(decisions, recipe(best[1]), named=bool(named)):
        why = f"the nearest, {best[1]}, is of another network or size ({other}); --against compares"
        return Choice("", why)
    if named:
        return Choice(best[1], f"the config names its network, {shown(network)}")
    return Choice(best[1], f"nearest of {len(recipe_names())} recipes by {', '.join(best[2][:6])}")


def _other_network(decisions: Decisions, reference: Recipe, named: bool = False) -> str:
    """What says that a config is of another network than a recipe; "" where nothing does.

    Args:
        decisions: of the config.
        reference: the recipe.
        named: the config names the recipe's network.
    """
    for field in ("backbone.pretrained", "head.conv_channels"):
        mine, theirs = decisions.get(field), reference.get(field)
        given = mine not in (None, "none") and theirs not in (None, "none")
        # Few published networks share these: who starts from Sapiens' own weights wants its network.
        own = field == "head.conv_channels" or "_epoch" in str(mine)
        if given and own and _same_identity(field, mine, theirs):
            return ""
    both = [f for f in _NETWORK if f in decisions.values and reference.get(f) is not None]
    if not named and not any(f.startswith(("backbone", "bottomup", "head.deconv")) for f in both):
        return "nothing in the config names its backbone"
    for field in both:
        if not _same_identity(field, decisions.get(field), reference.get(field)):
            return f"{field} is {shown(decisions.get(field))}, there {shown(reference.get(field))}"
    return ""


def _same_identity(field: str, mine: Any, theirs: Any) -> bool:
    if field == "backbone.pretrained":
        # sapiens_1b_epoch_1600_clean.pth and sapiens_1b_epoch_173_clean.pth are of one model.
        names = [file_name(value).partition("_epoch")[0] for value in (mine, theirs)]
        return bool(names[0]) and names[0] == names[1]
    turned = field.endswith("_size") and is_turned(mine, theirs) and sorted(mine) == sorted(theirs)
    return turned or equal(field, mine, theirs)
