"""Do the tags separate the annotated people, or would some of them be merged?

One column per person, one mark per annotated keypoint at the value of its tag. Marks of one person should
be close together and columns far apart: a detection joins a person when its tag distance to the person's
mean, the shaded band, is below the threshold. Two people whose mean tags differ by less than the threshold
are confused; a keypoint outside of its own band starts another person.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.capabilities import Groups
from workbench.core.finding import Finding, Measurement, ranked
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.decoding.grouping.left_right import nearest_people
from workbench.figures import keypoint_colours, new_figure
from workbench.figures.colours import SIDE_SYMBOLS, rgba, side_of
from workbench.figures.drawing import person_colour
from workbench.inspectors.grouping.replay import AnnotatedPeople as People
from workbench.inspectors.grouping.replay import annotated, grouping_model, means_of, tags_at

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.decoding.grouping import GroupingSettings
    from workbench.models.bottom_up import Maps


MISSED_COLOUR = "#8b929c"


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty. All people in its image are shown.
        threshold: a detection joins a person when the tag distance is below this.
    """

    instance: Annotated[str, INSTANCE] = ""
    threshold: Annotated[float, Range(0, 5, 0.05)] = 1.0


@dataclass(frozen=True, eq=False)
class TagValues(Report):
    """Tags at the annotated keypoints of all people in one image; nan where not labelled.

    Attributes:
        key: of the sample.
        names: of the people.
        values: first value of each tag.
        numbers: values per tag; distances use all of them.
        means: first value of each person's mean tag.
        distances: of each tag from its own person's mean.
        within: root of their mean square, per person.
        between: distances of the people's means; nan on the diagonal.
        threshold: of the parameters.
        strays: tags beyond the threshold from their own person's mean.
        crossed: tags closer to another person's mean than to their own.
        numbers_found: number (from 1) of the found person that matches each annotated one; None where missed;
            () without grouping.
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
        """Colour of annotated person p: that of the matching found person, grey for a missed one."""
        number = self.numbers_found[p] if self.numbers_found else p + 1
        return MISSED_COLOUR if number is None else person_colour(number - 1)

    def confused(self) -> list[tuple[str, str, float]]:
        """Pairs of people whose mean tags differ by less than the threshold, the closest first."""
        a, b = np.nonzero(np.triu(np.nan_to_num(self.between, nan=np.inf) < self.threshold, 1))
        pairs = [(self.names[i], self.names[j], float(self.between[i, j])) for i, j in zip(a, b, strict=True)]
        return sorted(pairs, key=lambda pair: pair[2])

    def summary(self) -> str:
        spread = f"tags of one person deviate by {_rms(self.within):.2f} (RMS) from their mean"
        strays = int(self.strays.sum())
        count = counted(strays, "keypoint")
        lost = f"; {count} beyond the threshold would start another person" if strays else ""
        if len(self.names) == 1:
            return f"Only one person is annotated, so confusion cannot be measured: {spread}{lost}"
        pairs, least = self.confused(), float(np.nanmin(self.between))
        if not pairs:
            return (
                f"Tags separate all {counted(len(self.names), 'person', 'people')} at tag threshold "
                f"{self.threshold:g}: the closest mean tags differ by {least:.2f}, {spread}{lost}"
            )
        first = f"{pairs[0][0]} and {pairs[0][1]}, whose mean tags differ by {pairs[0][2]:.2f}"
        more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        return f"Confused at tag threshold {self.threshold:g}: {first}{more}; {spread}{lost}"

    def to_findings(self) -> tuple[Finding, ...]:
        """Confused people and keypoints that would start another person; () where the tags are correct."""
        found, pairs, strays = [], self.confused(), int(self.strays.sum())
        if pairs:
            least = Measurement("smallest difference of mean tags", pairs[0][2], expected=self.threshold)
            fix = "lower the tag threshold, or train longer with the push term of the tag loss"
            found.append(
                Finding(
                    "tags do not separate people",
                    self.summary(),
                    fix,
                    (least,),
                    refuted_by="other images in which the mean tags differ by more than the threshold",
                )
            )
        if strays:
            number = Measurement("keypoints beyond the tag threshold", float(strays), expected=0.0)
            fix = "raise the tag threshold, or train longer with the pull term of the tag loss"
            cause = "tags of one person differ too much"
            found.append(
                Finding(
                    cause,
                    self.summary(),
                    fix,
                    (number,),
                    severity="warning",
                    refuted_by="other images in which the tags of one person lie within the threshold",
                )
            )
        return tuple(ranked(found))

    def plot(self) -> Figure:
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
            figure.add_scatter(
                x=np.array([p - 0.42, p + 0.42], np.float32), mode="lines", line={"color": ink},
                y=np.full(2, self.means[p], np.float32), name=f"{name}: mean",
                hovertemplate=f"{name}: mean %{{y:.3f}}<extra></extra>", showlegend=False,
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
            figure.add_scatter(
                x=(p + spread).astype(np.float32), y=self.values[p].astype(np.float32), text=text,
                mode="markers", marker=marks, name=name, showlegend=False,
                hovertemplate="%{text}<br>tag %{y:.3f}<extra></extra>",
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
    model = grouping_model(run)
    return tag_values_of(run, n, model.maps(run.outputs, run.batch, n), model.grouping, params.threshold)


def tag_values_of(
    run: Run,
    n: int,
    maps: Maps,
    grouping: GroupingSettings,
    threshold: float,
    found: Float[np.ndarray, "F K 2"] | None = None,
) -> TagValues:
    """The report for given maps.

    Args:
        run: with annotations.
        n: index of the sample.
        maps: of the sample's image.
        grouping: of its settings the tag layout.
        threshold: of tags.
        found: keypoints of the found people, image pixels; annotated people then get the numbers of these.
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
    """Number (from 1) of the found person that matches each annotated one."""
    true = np.where(people.labelled[..., None], people.truth[..., :2], np.nan)
    return tuple(None if own < 0 else int(own) + 1 for own in nearest_people(found, true))


def _names(numbers: tuple[int | None, ...]) -> tuple[str, ...]:
    missed = itertools.count(1)
    return tuple(f"missed {next(missed)}" if n is None else f"person {n}" for n in numbers)


INSPECTOR = Inspector(
    "Tag values", Params, compute, needs=Needs(outputs=("tags",), capability=Groups, truth=True), order=10
)
