"""What the clinic measures beside the inspectors: the effect of the condition, and gradients by part.

The gradient is taken along the training pass: a refiner that training leaves out gets none, whatever
inference does with it. Its norms are those of workbench.inspectors.outputs.gradients, gathered by part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.initialisers import never_updated
from workbench.core import NotAvailable, Sample
from workbench.core.capabilities import HasText
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    NOTHING,
    WAYS,
    AlongTraining,
    OnePass,
    Way,
    conditioning_of,
    flat_outputs,
    median_moved,
    noise,
    one_pass,
    relative_difference,
    without_condition,
)
from workbench.text.vectors import TextVectors

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import PoseModel, Run
    from workbench.core.conditioning import Conditioning

# Below this share of the box (median over samples) a network has learned these images.
ON_LABELS = 0.1
# Samples for a paired comparison, and how many standard errors a certain difference has (t of 95 % for 8).
LEAST_SAMPLES, CERTAIN = 4, 2.4
REMOVED, REPLACED = "taking the {} away", "a random {} in place of yours"


@dataclass(frozen=True, eq=False)
class ConditionEffect(Report):
    """How much the condition changes, along the training pass and along the predict pass.

    Attributes:
        ways: ``training`` and ``predict``.
        features: change of the modulated features when the condition is taken away, share of their length;
            nan where they are not known.
        outputs: the same of the network's outputs.
        moved: median distance of the keypoints found with and without the condition, shares of the box; nan
            where none is found both ways.
        change: what was done: the condition taken away, or a random one where the code cannot run without.
        read: whether a random condition in place of this one changes anything along either pass.
        harmless: whether keypoints of the predict pass lie on their labels, and taking the condition away
            brings them no nearer.
    """

    ways: tuple[str, ...]
    features: Float[np.ndarray, " W"]
    outputs: Float[np.ndarray, " W"]
    moved: Float[np.ndarray, " W"]
    change: str
    read: bool
    harmless: bool = False

    def changes(self, way: Way) -> bool:
        """Whether the condition changes anything along this pass."""
        i = self.ways.index(way)
        return bool(self.features[i] > NOTHING or self.outputs[i] > NOTHING)

    def summary(self) -> str:
        parts = []
        for i, way in enumerate(self.ways):
            features = "" if np.isnan(self.features[i]) else f"features by {_percent(self.features[i])}, "
            keypoints = (
                "and no keypoint is found both ways"
                if np.isnan(self.moved[i])
                else f"keypoints move {100 * self.moved[i]:.2g} % of the box (median)"
            )
            parts.append(
                f"in the {way} pass {self.change} changes {features}outputs by "
                f"{_percent(self.outputs[i])}, {keypoints}"
            )
        return "; ".join(parts if self.read else [*parts, "a random one in its place changes nothing"])

    def plot(self) -> Figure:
        columns = [
            Bars("features change (%)", 100 * self.features, RUN_COLOURS[0]),
            Bars("outputs change (%)", 100 * self.outputs, RUN_COLOURS[1]),
            Bars("keypoints move (% of the box)", 100 * self.moved, RUN_COLOURS[2]),
        ]
        return bars_figure(self.summary(), [f"{way} pass" for way in self.ways], columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(way=self.ways, features=self.features, outputs=self.outputs, moved=self.moved)


def _percent(share: float) -> str:
    """With three digits, and never as a power of ten."""
    return f"{float(f'{100 * share:.3g}'):.10g} %"


def condition_effect(run: Run) -> ConditionEffect:
    """Both passes with the condition and without, or with a random one where the code cannot run without.

    Raises:
        NotAvailable: there is no condition.
    """
    record = conditioning_of(run.model)
    change, taps = REMOVED, (record.after,) if record.after else ()
    random = {way: one_pass(run, way, taps, edit=noise(0)) for way in WAYS}
    try:
        others = {way: without_condition(run, way, taps) for way in WAYS}
    except NotAvailable:
        change, others = REPLACED, random
    found, read, harmless = [], False, False
    for way in WAYS:
        made, without = one_pass(run, way, taps), others[way]
        harmless = way == "predict" and change == REMOVED and _as_near(made.run, without.run)
        found.append((*_differences(made, without, record), median_moved(made.run, without.run)))
        read = read or any(share > NOTHING for share in _differences(made, random[way], record))
    features, outputs, far = zip(*found, strict=True)
    return ConditionEffect(
        WAYS, np.array(features), np.array(outputs), np.array(far), change.format(record.noun), read, harmless
    )


def _as_near(made: Run, without: Run) -> bool:
    """Whether keypoints lie on their labels, and those of the other run do not lie nearer for certain."""
    if any(s.truth is None for s in made.samples) or len(made.samples) < LEAST_SAMPLES:
        return False
    here, there = _off(made), _off(without)
    lost = there - here
    doubt = float(lost.std(ddof=1)) / np.sqrt(len(lost))
    return float(np.median(here)) < ON_LABELS and float(lost.mean()) >= -CERTAIN * doubt


def _off(run: Run) -> Float[np.ndarray, " N"]:
    """Mean distance of each sample's labelled keypoints from their labels, shares of the box, 1 at most."""
    sides = np.array([max(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in run.samples])[:, None]
    labelled = run.truth[..., 2] > 0
    far = np.linalg.norm(run.keypoints - run.truth[..., :2], axis=-1) / sides
    far = np.where(np.isnan(far), 1.0, np.minimum(far, 1.0))
    return (far * labelled).sum(1) / labelled.sum(1).clip(min=1)


@dataclass(frozen=True)
class ExchangedHalves:
    """Keypoints of the predict pass with the two halves of the layer of γ and β exchanged.

    Attributes:
        layer: path of the layer.
        images: how many samples.
        own: median distance from the labels as it is, shares of the box.
        exchanged: the same with the halves exchanged.
        better: exchanged, keypoints lie on their labels, and certainly nearer than as it is.
    """

    layer: str
    images: int
    own: float
    exchanged: float
    better: bool


def exchanged_halves(run: Run) -> ExchangedHalves | None:
    """What exchanging γ and β does to keypoints; None without annotations or a layer of γ and β in predict.

    Args:
        run: of a conditioned model.
    """
    record = conditioning_of(run.model, needed=False)
    if record.unavailable or not record.film or len(run.samples) < LEAST_SAMPLES:
        return None
    if any(s.truth is None for s in run.samples):
        return None
    made = one_pass(run, "predict", (record.film,))
    film = made.parts.get(record.film)
    if film is None or film.ndim < 2 or film.shape[1] % 2:
        return None
    half = film.shape[1] // 2
    other = one_pass(run, "predict", (), {record.film: lambda values: values.roll(half, 1)})
    here, there = _off(made.run), _off(other.run)
    gained = here - there
    certain = float(gained.mean()) > CERTAIN * float(gained.std(ddof=1)) / np.sqrt(len(gained))
    own, exchanged = float(np.median(here)), float(np.median(there))
    # Twice as near: a network that has not learned these images moves by chance.
    return ExchangedHalves(
        run.model.taps[record.film], len(gained), own, exchanged,
        bool(certain and exchanged < ON_LABELS and own > 2 * exchanged),
    )  # fmt: skip


def _differences(a: OnePass, b: OnePass, record: Conditioning) -> tuple[float, float]:
    """Of the modulated features, nan where they are not known, and of the outputs."""
    part, features = record.after or FEATURES, float("nan")
    if part in a.parts and part in b.parts:
        features = relative_difference(a.parts[part], b.parts[part])
    return features, relative_difference(flat_outputs(a.run.outputs), flat_outputs(b.run.outputs))


@dataclass(frozen=True, eq=False)
class GradientGroups(Report):
    """Gradient and weight norms by part, along the training pass.

    Attributes:
        parts: of the network.
        norms: L2 of the gradient; 0 where none arrives.
        weight_norms: L2 of the weights.
        silent: the layers of the condition that no gradient reaches, named by their part.
    """

    parts: tuple[str, ...]
    norms: Float[np.ndarray, " P"]
    weight_norms: Float[np.ndarray, " P"]
    silent: tuple[str, ...] = ()

    def reaches(self, part: str) -> bool:
        """Whether any gradient arrives at a part; True for a part that there is not."""
        return part not in self.parts or bool(self.norms[self.parts.index(part)] > 0)

    def summary(self) -> str:
        silent = [p for p, norm in zip(self.parts, self.norms, strict=True) if norm == 0]
        most = self.parts[int(self.norms.argmax())]
        if silent:
            return f"The gradient of the training loss misses {', '.join(silent)}; most goes to {most}"
        return (
            f"The gradient of the training loss reaches all {counted(len(self.parts), 'part')}; most goes to "
            f"{most}"
        )

    def plot(self) -> Figure:
        inks = [FINDING_COLOUR if norm == 0 else RUN_COLOURS[0] for norm in self.norms]
        columns = [
            Bars("gradient norm", np.where(self.norms > 0, self.norms, np.nan), inks, log=True),
            Bars("no gradient arrives", np.where(self.norms > 0, np.nan, 1.0), inks, span=(0, 1.05)),
            Bars("weight norm", self.weight_norms, QUIET_COLOUR, log=True),
        ]
        figure = bars_figure(self.summary(), self.parts, columns, (3, 1, 3))
        # Yes or no needs no scale.
        return figure.update_layout(xaxis2_showticklabels=False, xaxis2_showgrid=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(part=self.parts, gradient_norm=self.norms, weight_norm=self.weight_norms)


def gradient_groups(run: Run) -> GradientGroups:
    """Loss and gradient of the run's samples along the training pass, by part.

    Args:
        run: of a conditioned model on annotated samples.

    Raises:
        NotAvailable: there are no annotations, or the model declares no condition.
    """
    from workbench.inspectors.outputs import gradients

    record = conditioning_of(run.model, needed=False)
    model = AlongTraining(run.model)
    # A condition that only training needs may be missing; the training pass then says so.
    along_training = dataclasses.replace(run, model=model, batch=model.prepare(run.samples))
    report = gradients.compute(along_training, gradients.Params(depth=8))
    prefixes = record.parts or _parts(run.model, record)
    found: dict[str, tuple[float, float]] = {}
    for module, norm, weight in zip(report.modules, report.norms, report.weight_norms, strict=True):
        part = next(
            (p for p in prefixes if module == p or module.startswith(f"{p}.")), module.partition(".")[0]
        )
        gradient, own = found.get(part, (0.0, 0.0))
        found[part] = (gradient + float(norm) ** 2, own + float(weight) ** 2)
    squared, own = np.array(list(found.values())).T
    reached: dict[str, float] = {}
    for module, norm in zip(report.modules, report.norms, strict=True):
        for part, inside in _layers_of_condition(run.model, record).items():
            if module == part or module.startswith(f"{part}."):
                # A gate of the part's own is no layer of the condition.
                reached[part] = reached.get(part, 0.0) + (0.0 if inside and module == part else float(norm))
    silent = tuple(part for part, norm in reached.items() if norm == 0)
    return GradientGroups(tuple(found), np.sqrt(squared), np.sqrt(own), silent)


def _layers_of_condition(model: PoseModel, record: Conditioning) -> dict[str, bool]:
    """Path of a module that the condition passes -> whether only what is inside it counts."""
    taps = model.taps
    names = dict.fromkeys((taps[tap] for tap in (*record.condition, record.film) if tap), False)
    if not record.film and record.part:
        names[taps[record.part]] = True
    return names


def _parts(model: PoseModel, record: Conditioning) -> tuple[str, ...]:
    """Modules of the declared taps, the longest path first."""
    refiner = () if record.refiner is None else (record.refiner.layers,)
    return tuple(sorted({model.taps[tap] for tap in (*record.taps, *refiner)}, key=len, reverse=True))


def untouched_refiner(model: PoseModel) -> str:
    """How the refiner's weights show that they were never trained; "" where they do not."""
    refiner = conditioning_of(model, needed=False).refiner
    if refiner is None:
        return ""
    return never_updated(model.module.get_submodule(model.taps[refiner.layers]))


def shared_condition(run: Run) -> bool:
    """Whether two images with two conditions get that of the first: their vectors are the same at the tap.

    Args:
        run: of a conditioned model. Its first sample is taken twice, with two conditions; where conditions
            can only be edited at the tap itself, two samples of different categories are taken, in both
            orders: categories whose vectors are equal get one vector whichever comes first.
    """
    record = conditioning_of(run.model, needed=False)
    if record.unavailable or not record.condition:
        return False
    pair, edit = (run.samples[0], run.samples[0]), _different
    if record.edited_at_taps:
        other = next((s for s in run.samples if s.category_id != run.samples[0].category_id), None)
        if other is None:
            return False
        pair, edit = (run.samples[0], other), _unchanged

    def vectors_of(samples: tuple[Sample, ...]) -> Any:
        made = one_pass(
            dataclasses.replace(run, samples=samples), "training", record.condition[:1], edit=edit
        )
        return made.parts.get(record.condition[0])

    try:
        vectors = vectors_of(pair)
        # Sentences of the keypoints [N, K, D] are the same for every image by design.
        if vectors is None or vectors.ndim != 2 or not (vectors[0] == vectors[1]).all():
            return False
        return not record.edited_at_taps or bool((vectors_of(pair[::-1])[0] != vectors[0]).any())
    except (NotAvailable, ValueError):
        return False


def _unchanged(vectors: Any) -> Any:
    return vectors


def _different(vectors: Any) -> Any:
    """The first vector as it is, every other one random."""
    from workbench.models.randomness import normal_like

    edited = normal_like(vectors, 0)
    edited[0] = vectors[0]
    return edited


def text_of(model: PoseModel) -> TextVectors | None:
    """The sentence vectors of a model that reads text; None for another condition."""
    text = model.text if isinstance(model, HasText) else None
    # The text of an adapter may be of any kind; only vectors with names can be looked at.
    return text if isinstance(text, TextVectors) else None


def keypoint_names_text(text: Sequence[str], skeleton: Sequence[str]) -> str:
    """How the keypoints that a text describes differ from the skeleton's; "" where they do not.

    Args:
        text: names of the rows, in their order; none where the text does not name them.
        skeleton: the keypoints, in their order.
    """
    a, b = [_plain_name(name) for name in text], [_plain_name(name) for name in skeleton]
    if not a or a == b or all(name.startswith("keypoint") for name in skeleton):
        return ""
    off = [k for k in range(min(len(a), len(b))) if a[k] != b[k]]
    if sorted(a) == sorted(b):
        k = off[0]
        return (
            f"the text has the skeleton's keypoints in another order: row {k} describes {text[k]}, but "
            f"keypoint {k} is {skeleton[k]}; {len(off)} of {counted(len(a), 'row')} go to the wrong keypoint"
        )
    known = set(b)
    strange = [text[k] for k in range(len(a)) if a[k] not in known]
    if not strange:
        return ""
    return (
        f"{len(strange)} of {counted(len(a), 'row')} of the text describe keypoints that the skeleton does "
        f"not have: {', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''} (the skeleton has "
        f"{', '.join(skeleton[:3])} ...)"
    )


def _plain_name(name: str) -> str:
    # L_Eye, left eye and left_eye are one; the order of the words does not count.
    words = name.lower().replace("_", " ").replace("-", " ").split()
    short = {"l": "left", "r": "right", "f": "front", "b": "back"}
    return " ".join(sorted(short.get(word, word) for word in words))
