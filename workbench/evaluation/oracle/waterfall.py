"""Waterfall of AP as one part after the other is replaced by ground truth.

The first bar is the model as it is, each further one what a part adds once it is replaced by the truth, those
before it staying replaced. What a part adds depends on what is perfect already, so each is also replaced
alone. The part with the largest bar is where work pays; a bar below zero is no error of arithmetic: two parts
had made up for each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.geometry import apply
from workbench.core.report import Report, plain, signed_text
from workbench.decoding.grouping import Grouping, GroupingSettings, detect
from workbench.decoding.grouping.refinement import adjusted, fill_missing
from workbench.evaluation.oks import paired_oks, term

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core.finding import Finding
    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import Maps


AS_IT_IS = "model as it is"
# Below this, AP of a perfect chain is called perfect: a few people at most share one cell.
PERFECT = 0.9995
# A gain that is printed as 0.000 is none.
LEAST_GAIN = 0.0005


@dataclass(frozen=True)
class Step:
    """One part replaced.

    Attributes:
        name: of the part.
        AP: with it and all parts before it replaced.
        gain: over the step before; nan for the first.
        AP_alone: with this part alone replaced.
        gain_alone: over the model as it is; nan for the first.
        about: what the truth was put in for, one line.
        figures: all ten, with it and all parts before it replaced.
    """

    name: str
    AP: float
    gain: float
    AP_alone: float
    gain_alone: float
    about: str
    figures: dict[str, float]


@dataclass(frozen=True, eq=False)
class Waterfall(Report):
    """AP as parts are replaced by ground truth.

    Attributes:
        title: of the model.
        kind: ``top-down`` or ``bottom-up``.
        steps: the model as it is, then each part.
        missing: parts that could not be replaced, with the reason.
        images: looked at.
        people: annotated in them that count.
        forward_passes: over an image or a crop.
        protocol: the rules, in one line.
        findings: what was measured and is wrong.
        measured: the figures behind them, by name.
    """

    title: str
    kind: str
    steps: tuple[Step, ...]
    missing: dict[str, str]
    images: int
    people: int
    forward_passes: int
    protocol: str
    findings: tuple[Finding, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        first, *parts = self.steps
        if first.AP >= PERFECT:
            return f"{self.title}: AP {first.AP:.3f}; no part loses anything"
        # What only makes up for a part that lost AP in between is no loss of its own: with true heatmaps in
        # their place and tags elsewhere AP falls, and rises again with true tags.
        reached = np.maximum.accumulate([step.AP for step in self.steps])[:-1].tolist()
        gains = [step.AP - before for step, before in zip(parts, reached, strict=True)]
        gain, largest = max(gains), parts[int(np.argmax(gains))]
        ceiling = self.steps[-1].AP
        text = f"{self.title}: AP {first.AP:.3f}; "
        if (flipped := self.measured.get("flip_test", {})).get("found"):
            text += f"the flip test costs AP: without it {flipped['AP_without']:.3f}; of the parts, with it, "
        if rises := gain >= LEAST_GAIN:
            text += f"the largest loss is in {largest.name}: with ground truth in its place AP rises by "
            text += f"{gain:.3f} to {largest.AP:.3f}"
        else:
            text += "ground truth in the place of one part after the other gives no AP back"
        alone = max(parts, key=lambda step: step.gain_alone)
        if alone.gain_alone >= LEAST_GAIN and not (rises and alone.name == largest.name):
            text += f"; replaced alone, {alone.name} gives the largest gain ({signed_text(alone.gain_alone)})"
        if ceiling < PERFECT:
            text += (
                f"; with every part replaced AP is {ceiling:.3f}; the remaining {1 - ceiling:.3f} is "
                "explained by none of them"
            )
        return text

    def plot(self) -> Figure:
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="replaced by the truth, from left to right", y="AP", height=460)
        names = np.array([step.name for step in self.steps], object)
        gains = np.array([step.AP if i == 0 else step.gain for i, step in enumerate(self.steps)], np.float32)
        text = [f"{step.AP:.3f}" if i == 0 else signed_text(step.gain) for i, step in enumerate(self.steps)]
        hover = [f"<b>{step.name}</b><br>{step.about}<br>AP {step.AP:.3f}" for step in self.steps]
        figure.add_waterfall(
            x=names, y=gains, measure=np.array(["absolute"] + ["relative"] * (len(names) - 1), object),
            text=np.array(text, object), textposition="outside", hovertext=np.array(hover, object),
            hovertemplate="%{hovertext}<extra></extra>", name="one after the other",
            totals={"marker": {"color": RUN_COLOURS[0]}},
            increasing={"marker": {"color": RUN_COLOURS[2]}},
            decreasing={"marker": {"color": FINDING_COLOUR}}, cliponaxis=False,
            connector={"line": {"color": QUIET_COLOUR, "width": 1}},
        )  # fmt: skip
        figure.add_scatter(
            x=names[1:], y=np.array([s.AP_alone for s in self.steps[1:]], np.float32), mode="markers",
            marker={"symbol": "diamond", "size": 11, "color": RUN_COLOURS[3]}, name="this part alone",
            hovertemplate="%{x} alone<br>AP %{y:.3f}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(range=[0, 1.08])
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {"part": s.name, "AP": plain(s.AP), "gain": plain(s.gain), "AP_alone": plain(s.AP_alone),
             "gain_alone": plain(s.gain_alone), "replaced_by": s.about}
            for s in self.steps
        ]  # fmt: skip

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"findings": [finding.evidence for finding in self.findings]}

    def text(self) -> str:
        """For people: the sentence and the table."""
        lines = [self.summary(), "", f"{'part':<16}    AP    gain   alone    gain"]
        for i, s in enumerate(self.steps):
            gains = (
                "" if i == 0 else f"  {signed_text(s.gain)}   {s.AP_alone:.3f}  {signed_text(s.gain_alone)}"
            )
            lines.append(f"{s.name:<16} {s.AP:.3f}{gains}   {s.about}")
        lines += [f"measured: {finding.evidence}" for finding in self.findings]
        lines += [f"not replaced: {part}: {why}" for part, why in self.missing.items()]
        return "\n".join([*lines, "", f"protocol: {self.protocol}"])


def stepped(
    parts: Sequence[tuple[str, str]], figures_of: Callable[[frozenset[str]], dict[str, float]]
) -> tuple[Step, ...]:
    """Each part alone, and all of them one after the other.

    Args:
        parts: name and what its truth is, in the order of the way.
        figures_of: COCO's ten figures with a set of parts replaced.
    """
    made: dict[frozenset[str], dict[str, float]] = {}

    def asked(replaced: frozenset[str]) -> dict[str, float]:
        if replaced not in made:
            made[replaced] = figures_of(replaced)
        return made[replaced]

    whole = asked(frozenset())
    nan = float("nan")
    steps = [Step(AS_IT_IS, whole["AP"], nan, whole["AP"], nan, "nothing is replaced", whole)]
    replaced: frozenset[str] = frozenset()
    for name, about in parts:
        replaced |= {name}
        figures, alone = asked(replaced), asked(frozenset({name}))["AP"]
        AP = figures["AP"]
        steps.append(Step(name, AP, AP - steps[-1].AP, alone, alone - whole["AP"], about, figures))
    return tuple(steps)


def subsets(parts: Sequence[str]) -> list[frozenset[str]]:
    """The sets of parts that `stepped` asks for."""
    growing = [frozenset(parts[:n]) for n in range(len(parts) + 1)]
    return list(dict.fromkeys([*growing, *(frozenset({part}) for part in parts)]))


# The annotated people of an image, and what the truth says of detections and of found people.


# A detection may be given to a person where it counts at least this much as the person's keypoint.
LEAST_TERM = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Annotated:
    """The evaluated people of one image.

    Attributes:
        truth: (x, y, visibility), image pixels.
        area: square pixels.
        sigmas: OKS constants.
    """

    truth: Float[np.ndarray, "P K 3"]
    area: Float[np.ndarray, " P"]
    sigmas: Float[np.ndarray, " K"]


def annotated_in(pose_set: PoseSet, image_id: int) -> Annotated:
    """The labelled people of one image.

    Args:
        pose_set: annotations.
        image_id: of the image.

    Raises:
        ValueError: one has no area.
    """
    annotated = [pose_set.instances[i] for i in pose_set.labelled_of_image.get(image_id, ())]
    area = np.array([person.area for person in annotated], float)
    if not np.isfinite(area).all():
        raise ValueError(f"{pose_set.name}: image {image_id} has a person without area; OKS needs it")
    K = len(pose_set.skeleton)
    truth = np.stack([person.truth for person in annotated]) if annotated else np.zeros((0, K, 3))
    return Annotated(truth.astype(float), area, np.array(pose_set.skeleton.sigmas))


def grouped_by_truth(maps: Maps, people: Annotated, settings: GroupingSettings) -> Grouping:
    """Each annotated person with the detection nearest to each of its keypoints, placed by the settings.

    Two people may share a detection: one peak is all that two keypoints in one place leave. A detection that
    is nobody's is dropped. What a person lacks is filled in as the settings say.

    Args:
        maps: of one image.
        people: annotated in it.
        settings: of the grouping.
    """
    K = len(maps.heatmaps)
    P = len(people.truth)
    keypoints, present = np.zeros((P, K, 3), np.float32), np.zeros((P, K), bool)
    for k, found in enumerate(detect(maps.heatmaps, settings)):
        if not len(found):
            continue
        places = apply(maps.to_image, found.points.astype(float) + 0.5)
        squared = ((people.truth[:, None, k, :2] - places[None]) ** 2).sum(-1)
        near = term(squared, people.sigmas[k], people.area[:, None])
        nearest = squared.argmin(1)
        given = (people.truth[:, k, 2] > 0) & (near[np.arange(P), nearest] >= LEAST_TERM)
        keypoints[given, k, :2] = found.points[nearest[given]]
        keypoints[given, k, 2] = found.values[nearest[given]]
        present[:, k] = given
    somebody = present.any(1)
    keypoints, present = keypoints[somebody], present[somebody]
    layout = settings.maps(K, len(maps.tags))
    tags = np.full((len(keypoints), K, maps.tags.shape[-1]), np.nan, np.float32)
    for p, k in np.argwhere(present):
        x, y = keypoints[p, k, :2].astype(int)
        tags[p, k] = maps.tags[layout[k], y, x]
    if settings.adjust and len(keypoints):
        keypoints = adjusted(keypoints, present, maps.heatmaps, settings)
    scores, given = keypoints[..., 2].mean(1), np.zeros_like(present)
    if settings.refine and len(keypoints):
        keypoints, given = fill_missing(
            keypoints, present, ~present, maps.heatmaps, maps.tags, layout, settings
        )
    keypoints[~(present | given), :2] = np.nan
    return Grouping(keypoints, tags, scores, given)


def best_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, " Q"]:
    """For each annotated person the highest OKS with a predicted person; 0 where none was predicted.

    Args:
        keypoints: (x, y) of the predicted people, image pixels.
        people: annotated ones.
    """
    return _every_oks(keypoints, people).max(0, initial=0.0)


def matched_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, " P"]:
    """OKS of each predicted person with its matched annotation; 0 for those without a match.

    Pairs are made from the best downwards and everybody is in one pair at most: a person found twice has its
    OKS once, and the weaker finding is a false positive that no ranking should put before a true one.

    Args:
        keypoints: (x, y) of the predicted people, image pixels.
        people: annotated ones.
    """
    found, count = len(keypoints), len(people.truth)
    scores = np.zeros(found)
    if not found or not count:
        return scores
    oks = _every_oks(keypoints, people)
    for _ in range(min(found, count)):
        one, who = np.unravel_index(oks.argmax(), oks.shape)
        scores[one] = max(oks[one, who], 0.0)
        oks[one], oks[:, who] = -1.0, -1.0
    return scores


def _every_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, "P Q"]:
    found, count = len(keypoints), len(people.truth)
    pairs = np.repeat(keypoints, count, 0), np.tile(people.truth, (found, 1, 1)), np.tile(people.area, found)
    return np.nan_to_num(paired_oks(*pairs, people.sigmas)).reshape(found, count)
