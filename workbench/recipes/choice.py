"""Which reference recipe a config is meant to follow: the nearest by network and data, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.recipes.comparison import equal, file_name, is_turned, shown
from workbench.recipes.recipe import Recipe, recipe, recipe_names
from workbench.recipes.values import Decisions

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


def nearest_recipe(decisions: Decisions) -> Choice:
    """The recipe whose network and data the config has, and what they have in common.

    Args:
        decisions: of the config.

    Returns:
        a choice without a name where too little agrees, or the network is another.
    """
    best: tuple[float, str, list[str]] = (0.0, "", [])
    for name in recipe_names():
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
    if best[0] < _ENOUGH:
        return Choice("", "no recipe has enough in common with it")
    if other := _other_network(decisions, recipe(best[1])):
        why = f"the nearest, {best[1]}, is of another network or size ({other}); --against compares"
        return Choice("", why)
    return Choice(best[1], f"nearest of {len(recipe_names())} recipes by {', '.join(best[2][:6])}")


def _other_network(decisions: Decisions, reference: Recipe) -> str:
    """What says that a config is of another network than a recipe; "" where nothing does."""
    for field in ("backbone.pretrained", "head.conv_channels"):
        mine, theirs = decisions.get(field), reference.get(field)
        given = mine not in (None, "none") and theirs not in (None, "none")
        # Few published networks share these: who starts from Sapiens' own weights wants its network.
        own = field == "head.conv_channels" or "_epoch" in str(mine)
        if given and own and _same_identity(field, mine, theirs):
            return ""
    both = [f for f in _NETWORK if f in decisions.values and reference.get(f) is not None]
    if not any(field.startswith(("backbone", "bottomup", "head.deconv")) for field in both):
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
