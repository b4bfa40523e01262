"""What is wrong that no further training is needed to see, and which switch ends it?

Looked at after every attempt, a learned one too: a model that knows one image by heart can be of no use (its
answers do not depend on the support, its errors grow, it was shown other pixels than the truth says), and its
own log can be wrong whatever it learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core import DecodeOptions, PoseModel, Sample
from workbench.training.augmentation_check import apart_text
from workbench.training.checks import reach_text
from workbench.training.measures import evaluated
from workbench.training.model_state import ModelState as Kept
from workbench.training.plan import Plan
from workbench.training.sequence_checks import complaints, error_gain, growth_text, is_unread, own_log
from workbench.training.switches import SWITCHES, Switch, switches_of

UNREAD = "the support is without effect: with its points elsewhere every answer stays where it is"


@dataclass(frozen=True)
class Evidence:
    """One thing that is wrong, or worth a remark.

    Attributes:
        text: what was seen, in words.
        culprit: the switch that ends it; "" none is known.
        why: what such a switch does.
        mended: what is so without it.
        decides: where the attempt failed this is why, and no switch of the bisection undoes it: one that
            lets it learn all the same only hides the cause.
        remark: not wrong in itself; worth a look where the attempt failed.
    """

    text: str
    culprit: str = ""
    why: str = ""
    mended: str = ""
    decides: bool = False
    remark: bool = False


def seen_wrong(
    model: PoseModel, samples: Sequence[Sample], plan: Plan, rows: Sequence[dict[str, Any]]
) -> list[str]:
    """What is wrong, in words.

    Args:
        model: as the attempt left it.
        samples: of the attempt.
        plan: of the attempt.
        rows: of the attempt.
    """
    batch = model.prepare(samples)
    told = [one.text for one in _beforehand(model, batch, plan)]
    told += [UNREAD] if is_unread(model, batch) else []
    told += [complaint.text() for complaint in complaints(rows)]
    grows = growth_text(error_gain(model, batch))
    return [*told, grows] if grows else told


def evidence(
    first: Kept, samples: Sequence[Sample], plan: Plan, rows: Sequence[dict[str, Any]]
) -> tuple[Evidence, ...]:
    """What is wrong, each with the switch that ends it; nothing is trained.

    Args:
        first: the model as it stood before the attempt; it stands as the attempt left it.
        samples: of the attempt.
        plan: of the attempt.
        rows: of the attempt.
    """
    model = first.model
    batch = model.prepare(samples)
    found = list(_beforehand(model, batch, plan))
    trained = Kept(model)
    try:
        if is_unread(model, batch):
            # With the attempt's weights: first weights answer with the anchors alone, whatever is read.
            ends = (s for s in _each_off(trained, plan) if not is_unread(model, batch))
            found.append(_named(UNREAD, ends, "the answers follow the support"))
        for complaint in complaints(rows):
            # With first weights, which err enough for a wrong log to show.
            ends = (
                s for s in _each_off(first, plan, of_log=True) if not _still(model, batch, complaint.column)
            )
            found.append(_named(complaint.text(), ends, "it says what was measured"))
        return tuple(found)
    finally:
        trained.put_back()


def _beforehand(model: PoseModel, batch: Any, plan: Plan) -> Iterator[Evidence]:
    """What is wrong before anything is learned."""
    if text := reach_text(model, batch):
        yield Evidence(text)
    changes = {"augmentation": plan.augment, "flip": plan.flip}
    for switch in SWITCHES:
        if text := apart_text(changes.get(switch.name), batch.samples, model.skeleton.mirror):
            yield Evidence(text, switch.name, switch.why, "the network is shown what the truth says")


def _each_off(kept: Kept, plan: Plan, *, of_log: bool = False) -> Iterator[Switch]:
    """Every switch in turn, the model as it was kept but for what the switch took away."""
    for switch in switches_of(kept.model, plan, of_log=of_log):
        kept.put_back()
        switch.off(plan, kept.model)
        yield switch


def _still(model: PoseModel, batch: Any, column: str) -> bool:
    outputs = evaluated(model, batch)
    predictions = model.decode(outputs, batch, DecodeOptions())
    row = {"step": 0, **own_log(model, outputs, predictions, batch)}
    return any(complaint.column == column for complaint in complaints([row]))


def _named(text: str, ends: Iterator[Switch], mended: str) -> Evidence:
    switch = next(ends, None)
    return Evidence(text) if switch is None else Evidence(text, switch.name, switch.why, mended)
