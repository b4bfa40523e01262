"""Do the tags tell the annotated people apart, or would some of them be confused?

One column per person, one mark per annotated keypoint, at the value that its tag map has there. Marks of one
person should lie close together and columns far apart: a detection joins a person when its tag is nearer than
the threshold to the person's mean, which is the shaded band. Two people whose means lie within one threshold
are confused; a mark outside of its own band makes a person of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.capabilities import Groups
from workbench.core.inspector import INSTANCE, Inspector, Range
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.decoding.grouping.left_right import nearest_people
from workbench.figures import keypoint_colours, new_figure
from workbench.figures.colours import SIDE_SYMBOLS, rgba, side_of
from workbench.figures.drawing import person_colour
from workbench.inspectors.grouping.replay import PeopleAnnotated as People
from workbench.inspectors.grouping.replay import annotated, bottom_up, means_of, tags_at

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.decoding.grouping import GroupingSettings
    from workbench.models.bottom_up import Maps


MISSED_COLOUR = "#8b929c"


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        instance: which sample of the run; the first when empty. Everybody in its image is looked at.
        threshold: a detection joins a person when their tags are nearer than this.
    """

    instance: Annotated[str, INSTANCE] = ""
    threshold: Annotated[float, Range(0, 5, 0.05)] = 1.0


@dataclass(frozen=True, eq=False)
class TagValues(Report):
    """Tags at the annotated keypoints of everybody in one image; nan where nothing is labelled.

    Attributes:
        key: of the sample.
        names: of the people.
        values: the tag's first number.
        numbers: that a tag has; distances are over all of them.
        means: of each person, the first number.
        distances: of each tag from its own person's mean.
        within: root of their mean square, per person.
        between: distances of the people's means; nan on the diagonal.
        threshold: as asked for.
        strays: tags further than the threshold from their own person's mean.
        crossed: tags nearer to another person's mean than to their own.
        numbers_found: of each, the number of the found person that it is, from 1; None where it was missed;
            () where nobody was looked for.
    """

    key: str
    skeleton: Skeleton
    names: tuple[str, ...]
    values: Float[np.ndarray, "P K"]
    numbers: int
    means: Float[np.ndarray, " P"]
    distances: Float[np.ndarray, "P K"]
    within: Float[np.ndarray, " P"]
    between: Float[np.ndarray, "P P"]
    threshold: float
    strays: Bool[np.ndarray, "P K"]
    crossed: Bool[np.ndarray, "P K"]
    numbers_found: tuple[int | None, ...] = ()

    def colour(self, p: int) -> str:
        """Of annotated person p: that of the found one that it is, grey for one that was missed."""
        number = self.numbers_found[p] if self.numbers_found else p + 1
        return MISSED_COLOUR if number is None else person_colour(number - 1)

    def confused(self) -> list[tuple[str, str, float]]:
        """Pairs of people whose means are nearer than the threshold, the nearest first."""
        a, b = np.nonzero(np.triu(np.nan_to_num(self.between, nan=np.inf) < self.threshold, 1))
        pairs = [(self.names[i], self.names[j], float(self.between[i, j])) for i, j in zip(a, b, strict=True)]
        return sorted(pairs, key=lambda pair: pair[2])

    def summary(self) -> str:
        inside = f"tags of one person lie {_rms(self.within):.2f} from their mean"
        strays = int(self.strays.sum())
        kept = "1 keypoint" if strays == 1 else f"{strays} keypoints"
        lost = f"; {kept} would not join their own person" if strays else ""
        if len(self.names) == 1:
            return f"One person is annotated: {inside}{lost}, and nobody is there to be confused with"
        pairs, least = self.confused(), float(np.nanmin(self.between))
        if not pairs:
            return (
                f"All {len(self.names)} people are told apart at tag threshold {self.threshold:g}: the "
                f"nearest means differ by {least:.2f}, {inside}{lost}"
            )
        first = f"{pairs[0][0]} and {pairs[0][1]}, whose mean tags differ by {pairs[0][2]:.2f}"
        more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        return f"At tag threshold {self.threshold:g} confused: {first}{more}; {inside}{lost}"

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        first = "" if self.numbers == 1 else f", first of {self.numbers} numbers"
        figure = new_figure(self.summary(), x="annotated person", y=f"tag{first}", height=460)
        K = len(self.skeleton)
        spread = (np.arange(K) / max(K - 1, 1) - 0.5) * 0.7
        for p, name in enumerate(self.names):
            if not np.isfinite(self.means[p]):
                continue
            ink, low, high = self.colour(p), self.means[p] - self.threshold, self.means[p] + self.threshold
            figure.add_shape(type="rect", x0=p - 0.42, x1=p + 0.42, y0=low, y1=high, layer="below",
                             line={"width": 0}, fillcolor=rgba(ink, 0.16))  # fmt: skip
            figure.add_trace(
                go.Scatter(x=np.array([p - 0.42, p + 0.42], np.float32), mode="lines", line={"color": ink},
                           y=np.full(2, self.means[p], np.float32), name=f"{name}: mean",
                           hovertemplate=f"{name}: mean %{{y:.3f}}<extra></extra>", showlegend=False)
            )  # fmt: skip
            text = [
                f"<b>{k}</b><br>{self.distances[p, i]:.3f} from the mean of {name}"
                for i, k in enumerate(self.skeleton.keypoints)
            ]
            marks = {
                "color": list(keypoint_colours(self.skeleton)),
                "symbol": [SIDE_SYMBOLS[side_of(k)] for k in self.skeleton.keypoints],
                "size": 8,
                "line": {"width": 1, "color": "rgba(20,22,28,.6)"},
            }
            figure.add_trace(
                go.Scatter(x=(p + spread).astype(np.float32), y=self.values[p].astype(np.float32), text=text,
                           mode="markers", marker=marks, name=name, showlegend=False,
                           hovertemplate="%{text}<br>tag %{y:.3f}<extra></extra>")
            )  # fmt: skip
        figure.update_xaxes(tickvals=list(range(len(self.names))), ticktext=list(self.names), showgrid=False,
                            range=[-0.6, len(self.names) - 0.4])  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        person, joint = np.nonzero(np.isfinite(self.values))
        return rows(
            person=[self.names[p] for p in person],
            keypoint=[self.skeleton.keypoints[k] for k in joint],
            tag=self.values[person, joint],
            from_own_mean=self.distances[person, joint],
            joins_own=~self.strays[person, joint],
            nearer_to_another=self.crossed[person, joint],
        )


def _rms(values: Float[np.ndarray, "*s"]) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


def compute(run: Run, params: Params) -> TagValues:
    """Read the tags at every annotated keypoint of the image."""
    n = INSTANCE.index(run, params.instance)
    model = bottom_up(run)
    return told(run, n, model.maps(run.outputs, run.batch, n), model.grouping, params.threshold)


def told(
    run: Run,
    n: int,
    maps: Maps,
    grouping: GroupingSettings,
    threshold: float,
    found: Float[np.ndarray, "F K 2"] | None = None,
) -> TagValues:
    """The report on maps that are there already.

    Args:
        run: whose annotations count.
        n: which of its samples.
        maps: of that sample's image.
        grouping: its tag layout says which map is read for each keypoint.
        threshold: of tags.
        found: keypoints of the found people, image pixels: annotated ones then have their numbers.
    """
    skeleton = run.model.skeleton
    people = annotated(run, n)
    own, _ = tags_at(maps, people, grouping.maps(len(skeleton), len(maps.tags)))
    means = means_of(own)
    # From every tag to every person's mean.
    to_all = np.linalg.norm(own[:, :, None] - means[None, None], axis=-1)
    index = np.arange(len(people.names))
    distances = to_all[index, :, index]
    between = np.linalg.norm(means[:, None] - means[None], axis=-1)
    between[index, index] = np.nan
    elsewhere = to_all.copy()
    elsewhere[index, :, index] = np.inf
    with np.errstate(invalid="ignore"):
        crossed = np.nan_to_num(elsewhere, nan=np.inf).min(-1) < distances
        strays = distances >= threshold
    known = np.isfinite(distances)
    numbers = () if found is None else _numbers(found, people)
    square = np.where(known, distances, 0) ** 2
    within = np.sqrt(square.sum(1) / np.maximum(known.sum(1), 1))
    return TagValues(
        key=INSTANCE.of(run)[n],
        skeleton=skeleton,
        names=people.names if found is None else _names(numbers),
        numbers_found=numbers,
        values=own[..., 0],
        numbers=own.shape[-1],
        means=means[:, 0],
        distances=distances,
        within=within,
        between=between,
        threshold=threshold,
        strays=strays,
        crossed=crossed,
    )


def _numbers(found: Float[np.ndarray, "F K 2"], people: People) -> tuple[int | None, ...]:
    """The number of the found person that each annotated one is, from 1."""
    true = np.where(people.labelled[..., None], people.truth[..., :2], np.nan)
    return tuple(None if own < 0 else int(own) + 1 for own in nearest_people(found, true))


def _names(numbers: tuple[int | None, ...]) -> tuple[str, ...]:
    missed = itertools.count(1)
    return tuple(f"missed {next(missed)}" if n is None else f"person {n}" for n in numbers)


INSPECTOR = Inspector(
    "Tag values",
    "Do the tags tell the annotated people apart, or would some of them be confused?",
    Params,
    compute,
    needs=Needs(outputs=("tags",), capability=Groups, truth=True),
    order=10,
)
