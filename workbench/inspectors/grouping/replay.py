"""One stored output, grouped anew by other rules, every step kept and taken to image pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.geometry import apply
from workbench.core.report import INSTANCE
from workbench.inspectors.grouping.replay import STEP, Params, aggregation_of, bottom_up, grouping_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import Run
    from workbench.decoding.grouping import GroupingSettings, JointStep
    from workbench.models.bottom_up import Maps, People


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
