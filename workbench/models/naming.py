"""What are a model's keypoints called where its file does not say? As in a data set, or as the user says."""

from __future__ import annotations

import dataclasses
from typing import Any

from workbench.core import NotAvailable, PoseModel, Skeleton, nearest
from workbench.core.wrapping import Wrapper
from workbench.skeletons import SKELETONS


def numbered(skeleton: Skeleton) -> bool:
    """Whether the keypoints have numbers for names, because no file names them."""
    return all(name == f"keypoint {k}" for k, name in enumerate(skeleton.keypoints))


def skeleton_named(name: str) -> Skeleton:
    """A known skeleton by its name, as --skeleton takes it.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in SKELETONS:
        raise ValueError(f"--skeleton {name}: no such skeleton; nearest: {nearest(name, SKELETONS)}")
    return SKELETONS[name]


def with_skeleton(model: PoseModel, skeleton: Skeleton, because: str) -> PoseModel:
    """The model, its keypoints called by other names; limbs, mirror and sigmas are those of the names.

    Args:
        model: of any family that tells its keypoints by their order alone.
        skeleton: with as many keypoints.
        because: who says so, for the model's note.

    Raises:
        ValueError: another number of keypoints.
        NotAvailable: the model's keypoints are more than an order of channels.
    """
    if len(model.skeleton) != len(skeleton):
        raise ValueError(
            f"skeleton {skeleton.name} has {len(skeleton)} keypoints, the model gives {len(model.skeleton)}"
        )
    fields = {field.name for field in dataclasses.fields(model)} if dataclasses.is_dataclass(model) else set()
    made: Any = model
    note = f"keypoints are called {skeleton.name}, {because}"
    if "skeleton" in fields:
        before = "" if numbered(model.skeleton) else str(made.note) if "note" in fields else ""
        told = {"note": f"{before}; {note}" if before else note} if "note" in fields else {}
        return dataclasses.replace(made, skeleton=skeleton, **told)
    if isinstance(model, Wrapper):
        return dataclasses.replace(made, model=with_skeleton(model.model, skeleton, because))
    if "top_down" in fields:
        return dataclasses.replace(made, top_down=with_skeleton(made.top_down, skeleton, because))
    if "facts" in fields:
        facts = made.facts
        return dataclasses.replace(made, facts=dataclasses.replace(facts, skeleton=skeleton))
    raise NotAvailable(f"--skeleton: {type(model).__name__} names its keypoints itself")


def named_as(model: PoseModel, skeleton: Skeleton, name: str) -> PoseModel:
    """The model under the names of a data set where its own are numbers; otherwise the same.

    Args:
        model: any.
        skeleton: of the data set.
        name: of the data set.
    """
    if not len(skeleton) or len(model.skeleton) != len(skeleton) or not numbered(model.skeleton):
        return model
    return model if numbered(skeleton) else with_skeleton(model, skeleton, f"as in {name}")
