"""How did the detections of one image become people, keypoint after keypoint?

Detections of one keypoint after the other are dealt out: each joins the person with the nearest mean tag, or
makes a new one. People are drawn as they are after the step asked for, in one colour each; crosses are that
step's detections, larger where the heatmap is higher. After the last step people are finished: rings are
keypoints that nobody detected, filled in by refine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector
from workbench.core.needs import Needs
from workbench.core.report import PICTURE, Report
from workbench.decoding.grouping.left_right import pairs_of
from workbench.figures import image_figure
from workbench.figures.drawing import draw_person, number_places, person_colour
from workbench.inspectors.grouping.replay import EVERYBODY, PERSON, PictureParams, Replay, replayed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.core import Run, Sample

NOBODY = "#8b929c"

# Under the name that every inspector has it, in copied code and notebooks.
Params = PictureParams


@dataclass(frozen=True, eq=False)
class GroupingSteps(Report):
    """The people of one image after some of the steps.

    Attributes:
        key: of the sample.
        order: keypoints as they were dealt out.
        shown: steps taken.
        keypoints: (x, y) in image pixels after them; nan where a person has none.
        filled: given by refine; all false before the last step.
        scores: of the finished people.
        detections: of all steps: where, value, tag, whom it joined and at what distance.
        annotated: people annotated in the image; 0 when it has no annotation.
        note: what grouping says of its result.
        drawn: numbers from 0 of the people that are drawn.
        pairs: left/right pairs of the finished people, counted; those on one place are named when many.
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
        """Detections of the last step taken."""
        return [d for d in self.detections if d["keypoint"] == self.order[self.shown - 1]]

    @property
    def present(self) -> int:
        """People that have a keypoint after the steps taken."""
        return int(np.isfinite(self.keypoints).all(-1).any(-1).sum())

    def summary(self) -> str:
        text = f"{self.present} {'person' if self.present == 1 else 'people'} found"
        if self.annotated:
            text += f", {self.annotated} annotated"
        if self.shown < len(self.order):
            last = self.order[self.shown - 1]
            began = sum(d["outcome"] == "new" for d in self.now)
            text = f"After {last}, step {self.shown} of {len(self.order)}: {text}; {_counted(len(self.now))}"
            text += f", {began} of which began a person" if self.now else ""
        elif len(self.scores):
            text += f"; {int(self.filled.sum())} keypoints were filled in by refine"
        if len(self.drawn) < len(self.keypoints):
            text += f"; {len(self.drawn)} of {len(self.keypoints)} are drawn"
        more = [self.note, self.pairs["text"] if self.shown == len(self.order) else ""]
        return ". ".join([text, *(f"{words[0].upper()}{words[1:]}" for words in more if words)])

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = image_figure(self.image, self.summary())
        joined = {(d["person"], d["keypoint"]): d for d in self.detections if d["person"] is not None}
        drawn = [p for p in self.drawn if np.isfinite(self.keypoints[p]).any()]
        # Numbers of people who stand together must not lie on each other.
        places = number_places([self.keypoints[p] for p in drawn], self.image.shape[:2])
        for p, place in zip(drawn, places, strict=True):
            notes = tuple(_told(joined.get((p + 1, k)), bool(self.filled[p, i]))
                          for i, k in enumerate(self.skeleton.keypoints))  # fmt: skip
            traces = draw_person(self.keypoints[p], self.skeleton, p, hollow=self.filled[p], notes=notes,
                                 number_at=place,
                                 name=f"person {p + 1}, score {self.scores[p]:.2f}")  # fmt: skip
            figure.add_traces(traces)
        now = self.now if self.shown < len(self.order) else []
        if now:
            values = np.array([d["value"] for d in now])
            inks = [NOBODY if d["person"] is None else person_colour(d["person"] - 1) for d in now]
            marks = {"symbol": "x-thin", "size": (9 + 9 * values.clip(0, 1)).astype(np.float32)}
            figure.add_trace(
                go.Scatter(
                    x=np.array([d["x"] for d in now], np.float32), mode="markers",
                    y=np.array([d["y"] for d in now], np.float32), name=f"detections of {now[0]['keypoint']}",
                    marker={**marks, "line": {"width": 2.5, "color": inks}},
                    text=[f"{_outcome(d)}<br>value {d['value']:.2f}, tag {d['tag']:.2f}" for d in now],
                    hovertemplate="%{text}<extra></extra>",
                )
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        """Every detection of the steps taken."""
        taken = set(self.order[: self.shown])
        found = [d for d in self.detections if d["keypoint"] in taken]
        # Without any detection the keys still say what is meant.
        return found or [dict.fromkeys(_KEYS)]


_KEYS = ("keypoint", "detection", "x", "y", "value", "tag", "outcome", "person", "distance")


def _counted(detections: int) -> str:
    return f"{detections} detection{'s' * (detections != 1)} there"


def _told(detection: dict[str, Any] | None, filled: bool) -> str:
    if filled:
        return "filled in by refine"
    if detection is None:
        return ""
    return f"value {detection['value']:.2f}, tag {detection['tag']:.2f}, {_outcome(detection)}"


def _outcome(d: dict[str, Any]) -> str:
    if d["outcome"] == "joined":
        return f"joined person {d['person']}, {d['distance']:.2f} away"
    words = {"new": "began", "overwrote": "was written over", "dropped": "was dropped"}
    return words[d["outcome"]] if d["person"] is None else f"{words[d['outcome']]} person {d['person']}"


def compute(run: Run, params: PictureParams) -> GroupingSteps:
    """Group one image by the knobs."""
    PERSON.index(run, params.person)  # a number that nobody can have says so
    sample = run.samples[INSTANCE.index(run, params.instance)]
    return told(replayed(run, params), sample, run.model.skeleton, params)


def told(replay: Replay, sample: Sample, skeleton: Skeleton, params: PictureParams) -> GroupingSteps:
    """The report of a replay that is there already; of the knobs only who is drawn matters."""
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
    """Numbers, from 0, of the people that the knobs leave in the picture."""
    asked = None if params.person in ("", EVERYBODY) else int(params.person.split()[-1]) - 1
    return tuple(
        p for p, score in enumerate(scores) if score >= params.least_score and (asked is None or p == asked)
    )


INSPECTOR = Inspector(
    "Grouping steps",
    "How did the detections of one image become people, keypoint after keypoint?",
    PictureParams,
    compute,
    needs=Needs(outputs=("tags",), capability=Groups),
    mirrored=True,
    order=40,
)
