"""How did the detections of one image become people, keypoint by keypoint?

Keypoints are assigned in joint order: each detection joins the person with the closest mean tag, or starts
a new one. People are drawn as they are after the chosen step, in one colour each; crosses are the
detections of that step, larger where the heatmap value is higher. After the last step people are complete:
rings are keypoints without a detection, filled in by refine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector, Needs
from workbench.core.report import PICTURE, Report, counted
from workbench.decoding.grouping.left_right import pairs_of
from workbench.figures import image_figure
from workbench.figures.drawing import draw_person, number_places, person_colour
from workbench.inspectors.grouping.replay import EVERYBODY, PERSON, PictureParams, Replay, replayed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run, Sample

NO_PERSON_COLOUR = "#8b929c"

# Every inspector calls its parameters Params; copied code and notebooks use that name.
Params = PictureParams


@dataclass(frozen=True, eq=False)
class GroupingSteps(Report):
    """The people of one image after some of the steps.

    Attributes:
        key: of the sample.
        order: keypoints in joint order.
        shown: number of steps shown.
        keypoints: (x, y) in image pixels after these steps; nan where a person lacks the keypoint.
        filled: filled in by refine; all false before the last step.
        scores: of the complete people.
        detections: of all steps: position, value, tag, joined person and tag distance.
        annotated: number of annotated people in the image; 0 without annotation.
        note: notes of the grouping.
        drawn: indices of the drawn people.
        pairs: counts of left/right pairs of the complete people.
    """

    key: str
    skeleton: Skeleton
    order: tuple[str, ...]
    shown: int
    keypoints: Float[np.ndarray, "P K 2"]
    filled: Bool[np.ndarray, "P K"]
    scores: Float[np.ndarray, " P"]
    detections: tuple[dict[str, Any], ...]
    annotated: int
    note: str
    drawn: tuple[int, ...]
    pairs: dict[str, Any]
    image: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    @property
    def now(self) -> list[dict[str, Any]]:
        """Detections of the last shown step."""
        return [d for d in self.detections if d["keypoint"] == self.order[self.shown - 1]]

    @property
    def present(self) -> int:
        """Number of people with a keypoint after the shown steps."""
        return int(np.isfinite(self.keypoints).all(-1).any(-1).sum())

    def summary(self) -> str:
        text = f"{self.present} {'person' if self.present == 1 else 'people'} found"
        if self.annotated:
            text += f", {self.annotated} annotated"
        if self.shown < len(self.order):
            last = self.order[self.shown - 1]
            started = sum(d["outcome"] == "new" for d in self.now)
            text = f"After {last}, step {self.shown} of {len(self.order)}: {text}; {_counted(len(self.now))}"
            text += f", {started} of which started a person" if self.now else ""
        elif len(self.scores):
            text += (
                f"; {counted(int(self.filled.sum()), 'keypoint was', 'keypoints were')} filled in by refine"
            )
        if len(self.drawn) < len(self.keypoints):
            text += f"; {len(self.drawn)} of {len(self.keypoints)} are drawn"
        more = [self.note, self.pairs["text"] if self.shown == len(self.order) else ""]
        return ". ".join([text, *(f"{words[0].upper()}{words[1:]}" for words in more if words)])

    def plot(self) -> Figure:
        figure = image_figure(self.image, self.summary())
        joined = {(d["person"], d["keypoint"]): d for d in self.detections if d["person"] is not None}
        drawn = [p for p in self.drawn if np.isfinite(self.keypoints[p]).any()]
        # Numbers of people that are close together must not overlap.
        places = number_places([self.keypoints[p] for p in drawn], self.image.shape[:2])
        for p, place in zip(drawn, places, strict=True):
            notes = tuple(_hover(joined.get((p + 1, k)), bool(self.filled[p, i]))
                          for i, k in enumerate(self.skeleton.keypoints))  # fmt: skip
            traces = draw_person(self.keypoints[p], self.skeleton, p, hollow=self.filled[p], notes=notes,
                                 number_at=place,
                                 name=f"person {p + 1}, score {self.scores[p]:.2f}")  # fmt: skip
            figure.add_traces(traces)
        now = self.now if self.shown < len(self.order) else []
        if now:
            values = np.array([d["value"] for d in now])
            inks = [NO_PERSON_COLOUR if d["person"] is None else person_colour(d["person"] - 1) for d in now]
            marks = {"symbol": "x-thin", "size": (9 + 9 * values.clip(0, 1)).astype(np.float32)}
            figure.add_scatter(
                x=np.array([d["x"] for d in now], np.float32), mode="markers",
                y=np.array([d["y"] for d in now], np.float32), name=f"detections of {now[0]['keypoint']}",
                marker={**marks, "line": {"width": 2.5, "color": inks}},
                text=[f"{_outcome(d)}<br>value {d['value']:.2f}, tag {d['tag']:.2f}" for d in now],
                hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        """Every detection of the shown steps."""
        taken = set(self.order[: self.shown])
        found = [d for d in self.detections if d["keypoint"] in taken]
        # Without detections one empty row keeps the keys.
        return found or [dict.fromkeys(_KEYS)]


_KEYS = ("keypoint", "detection", "x", "y", "value", "tag", "outcome", "person", "distance")


def _counted(detections: int) -> str:
    return f"{detections} detection{'s' * (detections != 1)}"


def _hover(detection: dict[str, Any] | None, filled: bool) -> str:
    if filled:
        return "filled in by refine"
    if detection is None:
        return ""
    return f"value {detection['value']:.2f}, tag {detection['tag']:.2f}, {_outcome(detection)}"


def _outcome(d: dict[str, Any]) -> str:
    if d["outcome"] == "joined":
        return f"joined person {d['person']} at tag distance {d['distance']:.2f}"
    words = {"new": "started", "overwrote": "replaced the keypoint of", "dropped": "was dropped"}
    return words[d["outcome"]] if d["person"] is None else f"{words[d['outcome']]} person {d['person']}"


def compute(run: Run, params: PictureParams) -> GroupingSteps:
    """Group one image with these parameters."""
    PERSON.index(run, params.person)  # raises for an impossible number
    sample = run.samples[INSTANCE.index(run, params.instance)]
    return grouping_steps_of(replayed(run, params), sample, run.model.skeleton, params)


def grouping_steps_of(
    replay: Replay, sample: Sample, skeleton: Skeleton, params: PictureParams
) -> GroupingSteps:
    """The report of a given replay; of the parameters only those of the figure are used."""
    people = replay.people
    finished = replay.shown == len(replay.steps)
    filled = people.grouping.filled
    truths = [np.asarray(s.truth, float) for s in (sample, *sample.others) if s.truth is not None]
    pairs = pairs_of([people.keypoints], [np.stack(truths)] if truths else None, skeleton.mirror)
    return GroupingSteps(
        key=replay.key,
        skeleton=skeleton,
        order=tuple(replay.name(step) for step in replay.steps),
        shown=replay.shown,
        keypoints=replay.partial(),
        filled=filled if finished else np.zeros_like(filled),
        scores=people.score,
        detections=tuple(row for step in replay.steps for row in replay.rows(step)),
        annotated=sum(s.truth is not None for s in (sample, *sample.others)),
        note=people.grouping.note,
        drawn=drawn_people(people.score, params),
        pairs=pairs.facts(),
        image=sample.image,
    )


def drawn_people(scores: Float[np.ndarray, " P"], params: PictureParams) -> tuple[int, ...]:
    """Indices of the people that the parameters select for the figure."""
    chosen = None if params.person in ("", EVERYBODY) else int(params.person.split()[-1]) - 1
    return tuple(
        p for p, score in enumerate(scores) if score >= params.least_score and (chosen is None or p == chosen)
    )


INSPECTOR = Inspector(
    "Grouping steps",
    PictureParams,
    compute,
    needs=Needs(outputs=("tags",), capability=Groups),
    mirrored=True,
    order=40,
)
