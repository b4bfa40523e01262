"""Replay of grouping on stored outputs: parameters, annotated people and their tags, and every step.

What the inspectors of this room share. A replay groups one stored output again with other settings, without
a forward pass, and gives every step in image pixels.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import FLIP_BY_DEFAULT, NotAvailable
from workbench.core.capabilities import GroupingModel, HasTagMaps
from workbench.core.geometry import apply, inverse
from workbench.core.inspector import INSTANCE, Choice, Range, keypoint_choice
from workbench.decoding.grouping import group
from workbench.evaluation import keypoint_ap, truth_of
from workbench.evaluation.predict import Looked, category_of, predictions_of
from workbench.models.bottom_up import People

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.core import Run
    from workbench.data import PoseSet
    from workbench.decoding.grouping import GroupingSettings, JointStep
    from workbench.models.bottom_up import Aggregation, Maps


def grouping_model(run: Run) -> GroupingModel:
    """The model of a run, which groups keypoints by tags.

    Raises:
        NotAvailable: it gives no tags, or does not declare how to group them.
    """
    _ = run.tags  # its error names the outputs that the model gives
    model = run.model
    if not isinstance(model, GroupingModel):
        raise NotAvailable("grouping: this model gives tags but does not declare how to group them")
    return model


def tag_map_count(run: Run) -> int:
    """Number of tag maps for one value of a tag; further maps hold further values (mirrored pass)."""
    model = run.model
    return model.tags if isinstance(model, HasTagMaps) else run.tags.shape[1]


@dataclass(frozen=True, eq=False)
class AnnotatedPeople:
    """The annotated people of one image.

    Attributes:
        names: ``person 1`` ...; the sample's own person comes first.
        truth: (x, y, visibility), image pixels.
    """

    names: tuple[str, ...]
    truth: Float[np.ndarray, "P K 3"]

    @property
    def labelled(self) -> Bool[np.ndarray, "P K"]:
        """Which keypoints are labelled."""
        return self.truth[..., 2] > 0


def annotated(run: Run, n: int) -> AnnotatedPeople:
    """All people annotated in the image of sample n.

    Raises:
        NotAvailable: no person is annotated, or with other keypoints than the model's.
    """
    sample, K = run.samples[n], len(run.model.skeleton)
    truths = [s.truth for s in (sample, *sample.others) if s.truth is not None]
    if sample.truth is None or not truths:
        raise NotAvailable(f"annotated people: no annotation for {sample.key or f'sample {n}'}")
    if any(len(t) != K for t in truths):
        raise NotAvailable(f"annotated people: annotations have other keypoints than the model's {K}")
    names = tuple(f"person {p}" for p in range(1, len(truths) + 1))
    return AnnotatedPeople(names, np.stack([np.asarray(t, float) for t in truths]))


def cells_of(maps: Maps, points: Float[np.ndarray, "*s 2"]) -> Int[np.ndarray, "*s 2"]:
    """(column, row) of the cells of image points; the nearest cells for points outside the map."""
    h, w = maps.heatmaps.shape[-2:]
    # In map coordinates the first cell spans 0 to 1; its centre is .5.
    inside = apply(inverse(maps.to_image), np.nan_to_num(points))
    return np.floor(inside).astype(int).clip(0, (w - 1, h - 1))


def tags_at(
    maps: Maps, people: AnnotatedPeople, layout: tuple[int, ...]
) -> tuple[Float[np.ndarray, "P K L"], Float[np.ndarray, "P K T L"]]:
    """Tags at the annotated keypoints, read in each keypoint's own map, and in every map.

    Args:
        maps: of the image.
        people: annotated in it.
        layout: index of each keypoint's own map.

    Returns:
        Both with nan where a keypoint is not labelled.
    """
    x, y = np.moveaxis(cells_of(maps, people.truth[..., :2]), -1, 0)
    every = np.moveaxis(maps.tags[:, y, x], 0, 2).astype(float)
    every[~people.labelled] = np.nan
    own = np.stack([every[:, k, m] for k, m in enumerate(layout)], 1)
    return own, every


def means_of(own: Float[np.ndarray, "P K L"]) -> Float[np.ndarray, "P L"]:
    """Each person's mean tag; nan for a person without labelled keypoints."""
    known = np.isfinite(own).all(-1, keepdims=True)
    count = known.sum(1)
    total = np.where(known, own, 0).sum(1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


LAST = "all of them"
DECLARED = "as declared"
EVERYBODY = "everybody"
MOST_PEOPLE = 99

Order = Literal["reference", "as numbered", "reversed"]


def layouts_of(run: Run) -> list[str]:
    """The choices of the tag layout: as declared, or one map for all keypoints."""
    count = run.model.tags if isinstance(run.model, HasTagMaps) else 1
    names = run.model.skeleton.keypoints
    if count < 2 or count != len(names):
        return [DECLARED]
    return [DECLARED, *(f"map {m} ({names[m]}) for all" for m in range(count))]


def _people(run: Run) -> list[str]:
    """Everybody, or one person by its number in the figure."""
    del run  # the number of people is known only after grouping
    return [EVERYBODY, *(f"person {n}" for n in range(1, MOST_PEOPLE + 1))]


STEP = keypoint_choice(LAST)
PERSON = Choice(_people)
LAYOUT = Choice(layouts_of)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty. Its whole image is grouped.
        step: show the people after this keypoint has been assigned.
        detection_threshold: heatmap value that a detection must exceed.
        tag_threshold: a detection joins a person when the tag distance is below this.
        nms_kernel: side of the non-maximum suppression window, cells, odd; 1 for no suppression.
        top_k: detections per keypoint, the highest.
        order: joint order: from head over trunk to limbs as in the reference, by number, or by number
            reversed.
        layout: which tag map is read for each keypoint.
        rules: protocol of the other settings: the model's own, or a published one.
        adjust: move detected keypoints a quarter cell towards the higher neighbour, and to the cell's centre.
        refine: fill in missing keypoints of people.
        flip: average with the mirrored pass, where the run has one.
        resolutions: which heatmaps of a network with two resolutions are used.
        inverse_affine: transform people back to the image by the inverse of the input's affine; off, maps are
            stretched over the image, as in simplified scripts.
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
    """Parameters of grouping and of the figure.

    Attributes:
        person: draw everybody, or one person by its number; affects the figure only.
        least_score: people with a lower score are not drawn; affects the figure only.
    """

    person: Annotated[str, PERSON] = EVERYBODY
    least_score: Annotated[float, Range(0, 1, 0.01)] = 0.0


# User interfaces read the explanation of a parameter from the docstring of its class.
_, _, _own = (PictureParams.__doc__ or "").partition("Attributes:\n")
PictureParams.__doc__ = f"{(Params.__doc__ or '').rstrip()}\n{_own}"


def grouping_of(params: Params, run: Run, model: GroupingModel) -> GroupingSettings:
    """The parameters as settings of `workbench.decoding.grouping`.

    Raises:
        ValueError: a value does not fit this run, or the kernel is even.
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


def aggregation_of(params: Params, model: GroupingModel) -> Aggregation:
    """The parameters as settings of the maps that are grouped."""
    return dataclasses.replace(
        model.aggregation,
        flip=params.flip,
        resolutions=params.resolutions,
        inverse_affine=params.inverse_affine,
    )


_SAME = ("detection_threshold", "tag_threshold", "nms_kernel", "top_k", "adjust", "refine")


@dataclass(frozen=True, eq=False)
class Replay:
    """How one image was grouped.

    Attributes:
        key: of the sample.
        names: of the keypoints.
        people: the result, in image pixels.
        maps: that were grouped.
        settings: of the grouping.
        shown: number of steps to show; len(steps) for all.
    """

    key: str
    names: tuple[str, ...]
    people: People
    maps: Maps
    settings: GroupingSettings
    shown: int

    @property
    def steps(self) -> tuple[JointStep, ...]:
        """One per keypoint, in joint order."""
        return self.people.grouping.steps

    def name(self, step: JointStep) -> str:
        """The keypoint of a step."""
        return self.names[step.joint]

    def positions(self, step: JointStep) -> Float[np.ndarray, "M 2"]:
        """Positions of a step's detections, image pixels: the centres of their cells."""
        return apply(self.maps.to_image, step.points.astype(float) + 0.5)

    def partial(self) -> Float[np.ndarray, "P K 2"]:
        """The people's keypoints after the shown steps, image pixels; the final ones after the last step."""
        if self.shown == len(self.steps):
            return self.people.keypoints
        points = np.full(self.people.keypoints.shape, np.nan)
        for step in self.steps[: self.shown]:
            for position, person in zip(self.positions(step), step.people, strict=True):
                # With a limit of people, the result does not contain all people that were started.
                if person is not None and person < len(points):
                    points[person, step.joint] = position
        return points

    def joined(self, step: JointStep) -> Float[np.ndarray, " M"]:
        """Tag distance of each detection to the mean of the person it joined; nan where it joined none."""
        return np.array(
            [
                step.distances[m, person] if outcome == "joined" else np.nan
                for m, (person, outcome) in enumerate(zip(step.people, step.outcomes, strict=True))
            ]
        )

    def rows(self, step: JointStep) -> list[dict[str, Any]]:
        """A step's detections as rows of plain values."""
        found = zip(
            self.positions(step),
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
                "x": float(position[0]),
                "y": float(position[1]),
                "value": float(value),
                "tag": float(tag[0]),
                "outcome": outcome,
                "person": None if person is None else person + 1,
                "distance": None if np.isnan(distance) else float(distance),
            }
            for m, (position, value, tag, person, outcome, distance) in enumerate(found)
        ]


def replayed(run: Run, params: Params) -> Replay:
    """Group the image of one sample with these parameters. No forward pass.

    Raises:
        NotAvailable: the model gives no tags, or not the requested resolution.
        ValueError: a value does not fit this run, or a map holds a number that is not finite.
    """
    from workbench.decoding.grouping import group
    from workbench.models.bottom_up import People

    model = grouping_model(run)
    n = INSTANCE.index(run, params.instance)
    step = STEP.index(run, params.step)
    settings = grouping_of(params, run, model)
    maps = model.maps(run.outputs, run.batch, n, aggregation_of(params, model))
    grouping = group(maps.heatmaps, maps.tags, settings, trace=True, names=model.skeleton.keypoints)
    order = [s.joint for s in grouping.steps]
    return Replay(
        key=INSTANCE.of(run)[n],
        names=model.skeleton.keypoints,
        people=People.of(grouping, maps.to_image),
        maps=maps,
        settings=settings,
        shown=order.index(step - 1) + 1 if step else len(order),
    )


# AP of other grouping settings on images whose outputs are stored. No forward pass.


# More threads do not help: memory bandwidth is the limit.
_THREADS = 4


@dataclass(frozen=True)
class SetFigures:
    """Figures of some grouping settings on some images.

    Attributes:
        figures: COCO's ten, by name; nan where no annotation counts.
        found: number of people found.
        annotated: number of annotated people that count.
        images: number of images.
    """

    figures: dict[str, float]
    found: int
    annotated: int
    images: int


class MapCache:
    """Thread-safe cache of aggregated maps, of limited size.

    Enlarging maps to the input's size takes longer than grouping them, and most settings do not change the
    maps.

    Args:
        room: capacity in bytes; further maps are computed again each time.
    """

    def __init__(self, room: int) -> None:
        self._room, self._taken = room, 0
        self._of: tuple[Any, ...] = ()
        self._maps: dict[int, Maps] = {}
        self._lock = threading.Lock()

    def begin(self, whose: tuple[Any, ...]) -> None:
        """Clear the cache if its maps belong to another model, set or aggregation."""
        with self._lock:
            if whose != self._of:
                self._of, self._taken, self._maps = whose, 0, {}

    def of(self, model: GroupingModel, looked: Looked, aggregation: Aggregation) -> Maps:
        """The maps of one image; cached while there is room."""
        with self._lock:
            whose, found = self._of, self._maps.get(looked.image_id)
        if found is not None:
            return found
        maps = model.maps(looked.outputs, looked.batch, 0, aggregation)
        size = maps.heatmaps.nbytes + maps.tags.nbytes
        with self._lock:
            if whose == self._of and looked.image_id not in self._maps and self._taken + size <= self._room:
                self._maps[looked.image_id] = maps
                self._taken += size
        return maps


@dataclass(frozen=True)
class _ModelOnly:
    """The part of a run that the choices of the parameters need."""

    model: GroupingModel


def evaluate_settings(
    model: GroupingModel,
    stored: Sequence[Looked],
    pose_set: PoseSet,
    params: Params,
    progress: Callable[[int], None] | None = None,
    maps: MapCache | None = None,
    whose: tuple[Any, ...] = (),
) -> SetFigures:
    """Group every stored output with these parameters, and evaluate on those images.

    Args:
        model: of the outputs.
        stored: outputs, from `workbench.evaluation.predict`.
        pose_set: the annotations.
        params: `instance` and `step` are not used.
        progress: called with the number of images done, before each.
        maps: cache that is shared between calls.
        whose: key of the cached maps besides the aggregation: checkpoint and set.

    Raises:
        ValueError: no outputs are stored, or the parameters do not fit.
    """
    if not stored:
        raise ValueError("AP: no outputs are stored; run the model on some images first")
    bare: Any = _ModelOnly(model)
    rules, aggregation = grouping_of(params, bare, model), aggregation_of(params, model)
    maps = maps or MapCache(0)
    maps.begin((*whose, aggregation))

    def found_in(looked: Looked) -> People:
        own = maps.of(model, looked, aggregation)
        return People.of(group(own.heatmaps, own.tags, rules), own.to_image)

    ids, people = [looked.image_id for looked in stored], []
    # torch, numpy and cv2 release the interpreter lock while they compute.
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        waiting = [pool.submit(found_in, looked) for looked in stored]
        for n, one in enumerate(waiting):
            if progress is not None:
                progress(n)
            people.append(one.result())
    finally:
        pool.shutdown(cancel_futures=True)
    truth = truth_of(pose_set).on_images(ids)
    found = predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton))
    figures = keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures
    return SetFigures(figures, len(found), int((~truth.ignored).sum()), len(ids))
