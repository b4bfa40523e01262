"""By which rules is one stored output grouped? The knobs that the replay, the costs and the page share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from workbench.core import FLIP_BY_DEFAULT
from workbench.core.capabilities import HasTagMaps
from workbench.core.report import INSTANCE, Choice, Range

if TYPE_CHECKING:
    from workbench.core import Run
    from workbench.decoding.grouping import GroupingSettings
    from workbench.models.bottom_up import Aggregation, BottomUp

LAST = "all of them"
DECLARED = "as declared"
EVERYBODY = "everybody"
MOST_PEOPLE = 99

Order = Literal["reference", "as numbered", "reversed"]


def _steps(run: Run) -> list[str]:
    return [LAST, *run.model.skeleton.keypoints]


def layouts_of(run: Run) -> list[str]:
    """What the tag layout can be: as declared, or any one map for all keypoints."""
    count = run.model.tags if isinstance(run.model, HasTagMaps) else 1
    names = run.model.skeleton.keypoints
    if count < 2 or count != len(names):
        return [DECLARED]
    return [DECLARED, *(f"map {m} ({names[m]}) for all" for m in range(count))]


def _people(run: Run) -> list[str]:
    """Everybody, or one by the number that it has in the picture."""
    del run  # how many are found is known once they are
    return [EVERYBODY, *(f"person {n}" for n in range(1, MOST_PEOPLE + 1))]


STEP = Choice(_steps)
PERSON = Choice(_people)
LAYOUT = Choice(layouts_of)


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        instance: which sample of the run; the first when empty. Its whole image is grouped.
        step: the keypoint after which to stop dealing out detections.
        detection_threshold: what a heatmap must exceed for a detection.
        tag_threshold: a detection joins a person when their tags are nearer than this.
        nms_kernel: side of the square in which a detection is the highest cell, odd; 1 for no suppression.
        top_k: detections kept per keypoint, the highest.
        order: in which keypoints are dealt out: from head over trunk to limbs as the reference has it, or by
            their numbers, or those backwards.
        layout: which tag map is read for each keypoint.
        rules: of whose protocol the rest is: the model's own, or a published one.
        adjust: move detected keypoints a quarter cell towards the higher neighbour, and to the cell's centre.
        refine: give people the keypoints that they lack.
        flip: the mirrored pass counts, where the run has one.
        resolutions: which heatmaps of a network with two resolutions count.
        inverse_affine: take people back to the image by the inverse of the input's affine; off, maps are
            stretched over the image, as simplified scripts do.
    """

    instance: Annotated[str, INSTANCE] = ""
    step: Annotated[str, STEP] = LAST
    detection_threshold: Annotated[float, Range(0, 1, 0.01)] = 0.1
    tag_threshold: Annotated[float, Range(0, 5, 0.05)] = 1.0
    nms_kernel: Annotated[int, Range(1, 31, 2)] = 5
    top_k: Annotated[int, Range(1, 50, 1)] = 30
    order: Order = "reference"
    layout: Annotated[str, LAYOUT] = DECLARED
    rules: Literal["own", "higherhrnet", "mmpose"] = "own"
    adjust: bool = True
    refine: bool = True
    flip: bool = FLIP_BY_DEFAULT
    resolutions: Literal["both", "fine", "coarse"] = "both"
    inverse_affine: bool = True


@dataclass(frozen=True)
class PictureParams(Params):
    """The same, and who is drawn.

    Attributes:
        person: who is drawn: everybody, or one by its number; nothing else depends on it.
        least_score: people of a lower score are not drawn; nothing else depends on it.
    """

    person: Annotated[str, PERSON] = EVERYBODY
    least_score: Annotated[float, Range(0, 1, 0.01)] = 0.0


# The notes on a knob are read from the docstring of its class.
_, _, _own = (PictureParams.__doc__ or "").partition("Attributes:\n")
PictureParams.__doc__ = f"{(Params.__doc__ or '').rstrip()}\n{_own}"


def grouping_of(params: Params, run: Run, model: BottomUp) -> GroupingSettings:
    """The knobs as settings of `workbench.decoding.grouping`.

    Raises:
        ValueError: a knob's value does not fit this run, or the kernel is even.
    """
    from workbench.decoding.grouping import RULES

    K = len(model.skeleton)
    layout = LAYOUT.index(run, params.layout)
    orders = {"reference": (), "as numbered": tuple(range(K)), "reversed": tuple(reversed(range(K)))}
    base = model.grouping if params.rules == "own" else RULES[params.rules]
    return dataclasses.replace(
        base,
        tag_layout=(layout - 1,) * K if layout else model.grouping.tag_layout,
        joint_order=base.joint_order if params.order == "reference" else orders[params.order],
        **{name: getattr(params, name) for name in _SAME},
    )


def aggregation_of(params: Params, model: BottomUp) -> Aggregation:
    """The knobs as settings of the maps that are grouped."""
    return dataclasses.replace(
        model.aggregation,
        flip=params.flip,
        resolutions=params.resolutions,
        inverse_affine=params.inverse_affine,
    )


_SAME = ("detection_threshold", "tag_threshold", "nms_kernel", "top_k", "adjust", "refine")
