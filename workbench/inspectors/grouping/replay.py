"""Who is annotated in the image of a sample, and which tags did the network give them?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np

from workbench.core import FLIP_BY_DEFAULT, Groups, NotAvailable
from workbench.core.capabilities import HasTagMaps
from workbench.core.geometry import apply, inverse
from workbench.core.inspector import INSTANCE, Choice, Range

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.core import Run
    from workbench.decoding.grouping import GroupingSettings, JointStep
    from workbench.models.bottom_up import Aggregation, BottomUp, Maps, People


def bottom_up(run: Run) -> BottomUp:
    """The run's model, one that finds people by their tags.

    Raises:
        NotAvailable: it is none.
    """
    _ = run.tags  # says what there is instead
    if not isinstance(run.model, Groups):
        raise NotAvailable("grouping: this model gives tags, and does not say how people are made of them")
    return cast("BottomUp", run.model)


@dataclass(frozen=True, eq=False)
class PeopleAnnotated:
    """The annotated people of one image.

    Attributes:
        names: what to call them: ``person 1`` ...; the sample's own comes first.
        truth: (x, y, visibility), image pixels.
    """

    names: tuple[str, ...]
    truth: Float[np.ndarray, "P K 3"]

    @property
    def labelled(self) -> Bool[np.ndarray, "P K"]:
        """Which keypoints are labelled."""
        return self.truth[..., 2] > 0


def annotated(run: Run, n: int) -> PeopleAnnotated:
    """Everybody annotated in the image of sample n.

    Raises:
        NotAvailable: nobody is.
    """
    sample, K = run.samples[n], len(run.model.skeleton)
    truths = [s.truth for s in (sample, *sample.others) if s.truth is not None]
    if sample.truth is None or not truths:
        raise NotAvailable(f"annotated people: no annotation for {sample.key or f'sample {n}'}")
    if any(len(t) != K for t in truths):
        raise NotAvailable(f"annotated people: annotations have other keypoints than the model's {K}")
    names = tuple(f"person {p}" for p in range(1, len(truths) + 1))
    return PeopleAnnotated(names, np.stack([np.asarray(t, float) for t in truths]))


def cells_of(maps: Maps, points: Float[np.ndarray, "*s 2"]) -> Int[np.ndarray, "*s 2"]:
    """(column, row) of the cells in which image points lie, the nearest ones for points outside."""
    h, w = maps.heatmaps.shape[-2:]
    # The first cell spans 0 to 1 there, its centre is .5.
    inside = apply(inverse(maps.to_image), np.nan_to_num(points))
    return np.floor(inside).astype(int).clip(0, (w - 1, h - 1))


def tags_at(
    maps: Maps, people: PeopleAnnotated, layout: tuple[int, ...]
) -> tuple[Float[np.ndarray, "P K L"], Float[np.ndarray, "P K T L"]]:
    """Tags of the annotated keypoints: each in its own map, and each in every map; nan where not labelled."""
    x, y = np.moveaxis(cells_of(maps, people.truth[..., :2]), -1, 0)
    every = np.moveaxis(maps.tags[:, y, x], 0, 2).astype(float)
    every[~people.labelled] = np.nan
    own = np.stack([every[:, k, m] for k, m in enumerate(layout)], 1)
    return own, every


def means_of(own: Float[np.ndarray, "P K L"]) -> Float[np.ndarray, "P L"]:
    """Each person's mean tag; nan for one without any labelled keypoint."""
    known = np.isfinite(own).all(-1, keepdims=True)
    count = known.sum(1)
    total = np.where(known, own, 0).sum(1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


# By which rules is one stored output grouped? The knobs that the replay, the costs and the page share.


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


# One stored output, grouped anew by other rules, every step kept and taken to image pixels.


@dataclass(frozen=True, eq=False)
class Replay:
    """How one image was grouped.

    Attributes:
        key: of the sample.
        names: of the keypoints.
        people: the result, in image pixels.
        maps: that were grouped.
        settings: by which rules.
        shown: steps up to the one asked for; len(steps) for all.
    """

    key: str
    names: tuple[str, ...]
    people: People
    maps: Maps
    settings: GroupingSettings
    shown: int

    @property
    def steps(self) -> tuple[JointStep, ...]:
        """One per keypoint, in the order in which they were dealt out."""
        return self.people.grouping.steps

    def name(self, step: JointStep) -> str:
        """The keypoint of a step."""
        return self.names[step.joint]

    def places(self, step: JointStep) -> Float[np.ndarray, "M 2"]:
        """A step's detections in image pixels: the centres of their cells."""
        return apply(self.maps.to_image, step.points.astype(float) + 0.5)

    def partial(self) -> Float[np.ndarray, "P K 2"]:
        """The people's keypoints after the steps shown, image pixels; the finished ones after the last."""
        if self.shown == len(self.steps):
            return self.people.keypoints
        points = np.full(self.people.keypoints.shape, np.nan)
        for step in self.steps[: self.shown]:
            for place, person in zip(self.places(step), step.people, strict=True):
                # Where people are limited in number, some of those made on the way are not in the result.
                if person is not None and person < len(points):
                    points[person, step.joint] = place
        return points

    def joined(self, step: JointStep) -> Float[np.ndarray, " M"]:
        """Distance of each detection's tag from the mean of the person it joined; nan where none."""
        return np.array(
            [
                step.distances[m, person] if outcome == "joined" else np.nan
                for m, (person, outcome) in enumerate(zip(step.people, step.outcomes, strict=True))
            ]
        )

    def rows(self, step: JointStep) -> list[dict[str, Any]]:
        """A step's detections as plain facts."""
        found = zip(
            self.places(step),
            step.values,
            step.tags,
            step.people,
            step.outcomes,
            self.joined(step),
            strict=True,
        )
        return [
            {
                "keypoint": self.name(step),
                "detection": m + 1,
                "x": float(place[0]),
                "y": float(place[1]),
                "value": float(value),
                "tag": float(tag[0]),
                "outcome": outcome,
                "person": None if person is None else person + 1,
                "distance": None if np.isnan(distance) else float(distance),
            }
            for m, (place, value, tag, person, outcome, distance) in enumerate(found)
        ]


def replayed(run: Run, params: Params) -> Replay:
    """Group the image of one sample by these knobs. No forward pass.

    Raises:
        NotAvailable: the model gives no tags, or a resolution that it has not.
        ValueError: a knob's value does not fit this run, or a map holds a number that is not finite.
    """
    from workbench.decoding.grouping import group
    from workbench.models.bottom_up import People

    model = bottom_up(run)
    n = INSTANCE.index(run, params.instance)
    step = STEP.index(run, params.step)
    settings = grouping_of(params, run, model)
    maps = model.maps(run.outputs, run.batch, n, aggregation_of(params, model))
    grouping = group(maps.heatmaps, maps.tags, settings, trace=True)
    order = [s.joint for s in grouping.steps]
    return Replay(
        key=INSTANCE.of(run)[n],
        names=model.skeleton.keypoints,
        people=People.of(grouping, maps.to_image),
        maps=maps,
        settings=settings,
        shown=order.index(step - 1) + 1 if step else len(order),
    )
