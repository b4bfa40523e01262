"""Statistics of batch normalisation against what the network produces: either they or weights are wrong.

With the statistics of the batch in place of the stored ones, every layer sees what it saw in training. Where
a stored mean and variance then differ from the measured ones, either they or the weights before them are
wrong: weights leave traces in the layers behind them, statistics leave none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from workbench.core import Answers, Batch, NotAvailable, Outputs, PoseModel
from workbench.core.hooks import reading_inputs
from workbench.core.run import evaluating
from workbench.core.statistics import finite_median
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.exchanged_tensors import WithTensors
from workbench.diagnosis.people_evidence import PeopleEvidence
from workbench.diagnosis.weight_causes import parts_of

if TYPE_CHECKING:
    from torch import Tensor, nn

# A share of layers from which something is said about all of them.
MANY = 0.5
# A part does not fit where its layers are off by so many standard deviations in the median, and by so many
# times as much as the layers before it. Healthy networks have .02 to .11 on their own images; where the
# weights still move fast, single layers have .3.
OFF, OFF_BESIDE = 0.1, 2.0
# So far off, and so many times as much, it is said although nothing gives accuracy back.
FAR_OFF, FAR_OFF_BESIDE = 0.35, 4.0
# So far off in the median of all layers, they are of other weights: healthy HigherHRNets, and those whose
# colours are wrong, have .03 to .04, noise in all weights .09, statistics of an earlier epoch .25 to .86.
OFF_ALL = 0.2
# The same numbers in another order: what is left of the difference once both are sorted.
SORTED = 0.25
# One factor for all channels: logarithms of the deviations differ by so little, and are so large.
UNIFORM, SCALED = 0.12, 0.35
# Weights before a part were disturbed where the layers right behind it, so many, are off by so many times as
# much as those before it (and by half of OFF): wrong statistics leave those behind as they were.
NEXT, BEHIND = 4, 1.6
LEAST_CHANNELS = 4

Kind = Literal["statistics", "order", "scaled", "weights"]


@dataclass(frozen=True, eq=False)
class LayerFit:
    """Stored statistics of one layer beside those of its input when every layer uses the batch's.

    Attributes:
        name: of the layer in the network.
        mean: of each channel, measured.
        variance: likewise.
        off: root of the squares of two means over channels: how far the mean is off, in deviations, and the
            logarithm of the ratio of measured and stored deviation.
        ratio: mean logarithm of the ratio of deviations.
        spread: deviation of that logarithm between channels.
        left: what is left of the difference once means and variances are sorted, a share.
        is_new: whether the stored ones are those of a new layer, 0 and 1.
    """

    name: str
    mean: Tensor
    variance: Tensor
    off: float
    ratio: float
    spread: float
    left: float
    is_new: bool


@dataclass(frozen=True, eq=False)
class Misfit:
    """A part whose stored statistics do not fit.

    Attributes:
        part: beginning of its layers' names.
        layers: in the order in which they run.
        off: median over them.
        before: median over the layers before them, or over all others where there are too few.
        kind: what it looks like.
    """

    part: str
    layers: tuple[LayerFit, ...]
    off: float
    before: float
    kind: Kind

    @property
    def is_far(self) -> bool:
        """Whether it is said although nothing gives accuracy back."""
        return self.off >= max(FAR_OFF, FAR_OFF_BESIDE * self.before)

    @property
    def factor(self) -> float:
        """What its weights were multiplied by, where it is scaled."""
        return float(np.exp(np.median([one.ratio for one in self.layers])))

    def tensors(self) -> dict[str, Tensor]:
        """Measured statistics under the names of the stored ones."""
        return measured_statistics(self.layers)

    def text(self) -> str:
        """What was seen, one clause."""
        return (
            f"stored statistics of {len(self.layers)} normalisation layers of {self.part} are off by "
            f"{self.off:.2f} deviations from those of these images (median; the layers before by "
            f"{self.before:.2f})"
        )


def measured_statistics(layers: Iterable[LayerFit]) -> dict[str, Tensor]:
    """Measured statistics under the names of the stored ones."""
    return {
        f"{one.name}.{name}": tensor
        for one in layers
        for name, tensor in (("running_mean", one.mean), ("running_var", one.variance))
    }


def norms_of(module: nn.Module) -> list[Any]:
    """Layers of batch normalisation with running statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def by_batch(layers: Sequence[Any]) -> Iterator[None]:
    """Layers use the statistics of the batch while the block runs; the stored ones stay as they are."""
    before = [(m, m.training, m.momentum, m.num_batches_tracked.clone()) for m in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 0.0
    try:
        yield
    finally:
        for layer, training, momentum, tracked in before:
            layer.training, layer.momentum = training, momentum
            layer.num_batches_tracked.copy_(tracked)


@dataclass(frozen=True, eq=False)
class ByBatch(Wrapper):
    """A model whose batch normalisation uses the statistics of the batch; the stored ones stay as they are.

    Attributes:
        model: the inner model.
    """

    model: PoseModel
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """The inner model's outputs."""
        if len(batch) < 2:
            return self.model.forward(batch)
        with by_batch(norms_of(self.model.module)):
            return self.model.forward(batch)


def layer_fits(case: Case) -> list[LayerFit]:
    """Every layer of batch normalisation that ran, in the order in which they run.

    Raises:
        NotAvailable: there is no model with such layers, or no data.
    """
    return case.once("fits of statistics", lambda: fits_of(case.tried_on().model, _batches(case)))


def _batches(case: Case) -> Iterator[Batch]:
    evidence = case.tried_on()
    if isinstance(evidence, PeopleEvidence):
        for image_id in evidence.image_ids:
            case.step()
            whole = evidence.pose_set.sample(evidence.pose_set.labelled_of_image[image_id][0])
            yield evidence.model.prepare([whole])  # type: ignore[union-attr] - of people it has one
    else:
        for one in case.of_model().forwards(rows=case.of_model().half):
            case.step()
            yield one.batch


def fits_of(model: PoseModel | None, batches: Iterable[Batch]) -> list[LayerFit]:
    """The fit of every layer of batch normalisation of a model to some batches.

    Args:
        model: as `layer_fits`, as are the errors.
        batches: prepared by it.
    """
    import torch

    names = (
        {}
        if model is None
        else {m: n for n, m in model.module.named_modules() if m in set(norms_of(model.module))}
    )
    if model is None or not names:
        raise NotAvailable("the network has no batch normalisation")
    seen: dict[Any, list[tuple[Tensor, Tensor]]] = {}

    def read(layer: Any, given: Tensor) -> None:
        values = given.detach().double().transpose(0, 1).flatten(1)
        seen.setdefault(layer, []).append((values.mean(1), values.var(1, unbiased=False)))

    for batch in batches:
        with torch.no_grad(), reading_inputs(names, read), evaluating(model.module), by_batch(list(names)):
            model.forward(batch)
    return [_fit(names[layer], layer, *zip(*found, strict=True)) for layer, found in seen.items()]


def _fit(name: str, layer: Any, means: Sequence[Tensor], variances: Sequence[Tensor]) -> LayerFit:
    import torch

    each = torch.stack(list(means))
    mean = each.mean(0)
    variance = (torch.stack(list(variances)) + each**2).mean(0) - mean**2
    stored, spread = layer.running_mean.double().cpu(), layer.running_var.double().cpu()
    least = float(layer.eps)
    away = (mean - stored).abs() / (variance + spread + least).sqrt()
    own, kept = ((one + least).log() / 2 for one in (variance, spread))
    ratio = own - kept
    parts = [(a.sort().values - b.sort().values).abs().mean() / (a - b).abs().mean().clamp(min=1e-9)
             for a, b in ((mean, stored), (own, kept))]  # fmt: skip
    return LayerFit(
        name,
        mean.float(),
        variance.float(),
        float(torch.hypot(away.mean(), ratio.abs().mean())),
        float(ratio.mean()),
        float(ratio.std(correction=0)),
        float(max(parts)),
        not bool(stored.any()) and bool((spread == 1).all()),
    )


def misfits(case: Case) -> list[Misfit]:
    """Parts whose statistics do not fit; of weights the first one, which spoils what comes behind it."""

    def found() -> list[Misfit]:
        fits = [one for one in layer_fits(case) if len(one.mean) >= LEAST_CHANNELS]
        return misfits_of(fits)

    return case.once("misfits", found)


def misfits_of(fits: Sequence[LayerFit]) -> list[Misfit]:
    """As `misfits`.

    Args:
        fits: in the order in which the layers run.
    """
    parts = parts_of([one.name for one in fits], [len(one.mean) for one in fits])
    places = {part: [i for i, name in enumerate(parts) if name == part] for part in dict.fromkeys(parts)}
    found: list[Misfit] = []
    wrong: set[int] = set()
    for part, own in places.items():
        right = [i for i in range(len(fits)) if i not in own and i not in wrong]
        before = [fits[i].off for i in right if i < own[0]]
        enough = before if len(before) >= NEXT else [fits[i].off for i in right] or [0.0]
        layers = tuple(fits[i] for i in own)
        off, usual = float(np.median([one.off for one in layers])), float(np.median(enough))
        if off < max(OFF, OFF_BESIDE * usual) or (len(own) == 1 and off < FAR_OFF):
            continue
        wrong.update(own)
        behind = [fits[i].off for i in range(len(fits)) if i > own[-1]][:NEXT]
        spoilt = float(np.median(behind)) >= max(BEHIND * usual, OFF / 2) if behind else None
        kind = _kind(layers, spoilt)
        found.append(Misfit(part, layers, off, usual, kind))
        if kind == "weights":
            break
    return found


def _kind(layers: Sequence[LayerFit], spoilt: bool | None) -> Kind:
    """What a misfit looks like; `spoilt` says whether layers behind are off too, None where none are."""

    def median(values: Iterable[float]) -> float:
        return float(np.median(list(values)))

    if all(one.is_new for one in layers):
        return "statistics"
    if median(one.left for one in layers) <= SORTED:
        return "order"
    if spoilt:
        return "weights"
    if median(one.spread for one in layers) <= UNIFORM and median(abs(one.ratio) for one in layers) >= SCALED:
        return "scaled"
    return "statistics" if spoilt is False else "weights"


def median_off(fits: Sequence[LayerFit]) -> float:
    """How far the stored statistics are off, the median of the layers; nan without any."""
    return finite_median(np.array([one.off for one in fits]))


class NormStatistics(Undone):
    """Running statistics of batch normalisation that were never updated, or belong to other data."""

    name, group, needs = "batch-norm statistics do not fit", "file", ("model", "data")
    refuted_by = "no gain when the statistics are estimated anew on training images"
    symptom_of = ("layers with all weights zero", "layers that never learned")
    of_people = True

    def changes(self, case: Case) -> Iterable[Change]:
        model = case.tried_on().model
        if model is None or not norms_of(model.module):
            raise NotAvailable("the network has no batch normalisation")
        fix = (
            "estimate the running statistics anew: a few hundred training batches in training mode "
            "without an optimizer, then save"
        )
        people, fits = isinstance(case.tried_on(), PeopleEvidence), layer_fits(case)
        every = measured_statistics(fits) if people else {}
        fresh, layers = fresh_statistics(case)
        # Of people wrong colours are undone elsewhere, and new statistics would make up for them.
        if not people or fresh >= MANY * layers or median_off(fits) >= OFF_ALL:
            yield self.change(
                "the statistics of these images in place of the stored ones",
                "weights",
                lambda model: WithTensors(model, every) if people else ByBatch(model),
                fix=fix,
                least=0.04,
                last_resort=True,
            )
        wrong = [one for one in misfits(case) if one.kind in ("statistics", "order")]
        # In the first part a wrong input looks the same.
        if any(one.layers[0] is fits[0] for one in misfits(case)):
            return
        if wrong and sum(len(one.layers) for one in wrong) < MANY * len(fits):
            tensors = {n: t for one in wrong for n, t in one.tensors().items()}
            yield self.change(
                f"the statistics of these images in {', '.join(one.part for one in wrong)}",
                "weights",
                lambda model: WithTensors(model, tensors),
                fix=fix,
                shown=all(one.kind == "order" for one in wrong),
                facts={"misfits": wrong},
            )

    def seen(self, case: Case, change: Change) -> str:
        if wrong := change.facts.get("misfits"):
            text = "; ".join(one.text() for one in wrong)
            if all(one.kind == "order" for one in wrong):
                text += "; the stored numbers are the measured ones in another order of the channels"
            return text
        fresh, layers = fresh_statistics(case)
        if fresh:
            return f"{fresh} of {layers} normalisation layers still hold mean 0 and variance 1, as they start"
        off = median_off(layer_fits(case))
        return (
            f"the {layers} normalisation layers hold statistics that other inputs, or other weights, had"
            + (f": {off:.2f} deviations off (median)" if np.isfinite(off) else "")
        )

    def test(self, case: Case) -> Answer:
        fresh, layers = fresh_statistics(case)
        try:
            answer = super().test(case)
        except NotAvailable:
            if not layers or fresh < MANY * layers:
                raise
            answer = RuledOut("")
        if isinstance(answer, NotTestable) and layers and not case.changes_of(self):
            answer = RuledOut(f"the statistics of {layers} normalisation layers are those of these images")
        if isinstance(answer, RuledOut) and layers and fresh >= MANY * layers:
            return self.found(
                f"{fresh} of {layers} normalisation layers still hold mean 0 and variance 1, as they start",
                fix="train with these layers in training mode, or estimate the statistics on training images",
            )
        return answer


def fresh_statistics(case: Case) -> tuple[int, int]:
    """Normalisation layers whose statistics are those of a new layer, and how many there are.

    Read from the file, which may hold more than the model takes; of the user's own code from its network.
    """
    if case.given.checkpoint is None:
        pairs = [(norm.running_mean, norm.running_var) for norm in norms_of(case.model().module)]
    else:
        checkpoint = case.checkpoint()
        means = [name for name in checkpoint.tensors if name.endswith("running_mean")]
        both = [(name, name.removesuffix("mean") + "var") for name in means]
        pairs = [(checkpoint.read(a), checkpoint.read(b)) for a, b in both if b in checkpoint.tensors]
    fresh = sum(bool((mean == 0).all()) and bool((var == 1).all()) for mean, var in pairs)
    return fresh, len(pairs)


CAUSES: tuple[NormStatistics, ...] = (NormStatistics(),)
