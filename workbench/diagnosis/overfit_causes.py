"""Causes in the training, by overfitting one image: what stands in the way is taken away piece by piece.

The network starts from initial weights and is trained as the config, or the training script, says; its own
checkpoint is not changed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import PoseModel
from workbench.core.errors import available
from workbench.core.finding import Finding
from workbench.diagnosis.case import BudgetSpent, Case, check_keypoints
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.fixes import config_diff
from workbench.diagnosis.lab_causes import learned_samples
from workbench.diagnosis.report import joined
from workbench.diagnosis.training_code import EVALUATING, SMALL_CLIP, UNCLEARED, Script, scripts

if TYPE_CHECKING:
    from torch import nn

    from workbench.training.overfit import OverfitReport, OverfitSetup

# Names of the bisector's switches as causes.
CAUSE_OF = {
    "learning rate": "learning rate too high or too low",
    "clip": SMALL_CLIP,
    "uncleared gradients": UNCLEARED,
    "batch norm in evaluation mode": EVALUATING,
    "parameter groups": "parts of the network get a learning rate near 0",
    "schedule": "warm-up or schedule keeps the learning rate too small",
    "ema": "averaged weights lag behind the trained ones",
    "dropout": "dropout too strong",
    "normalisation": "batch normalisation differs between training and use",
    "codec": "targets are encoded in another way than outputs are decoded",
    "weight decay": "weight decay too strong",
    "augmentation": "augmentation changes image and keypoints differently",
    "flip": "flip changes image and keypoints differently",
    # Of sequence models, as the rollout lab names what it measures.
    "support": "support not read",
    "support mask": "support not read",
    "teacher forcing": "exposure bias",
    "pck coordinates": "coordinates disagree",
    "loss scale": "loss in the log is scaled",
}


class Overfit(Cause):
    """What stands in the way of learning one image, each piece of the training taken away in turn."""

    name, group, level, needs = "one image cannot be learned", "training", "train", ("model", "data")
    refuted_by = "another seed with which the image is learned as the training is"

    def test(self, case: Case) -> Answer:
        from workbench.training.overfit import OverfitRun
        from workbench.training.switches import STEP_LIMIT

        setup = _setup(case)
        case.step()
        stopped, why = _stopper(case)
        run = OverfitRun(setup)
        report = run.run(stopped=stopped)
        # An attempt that ended early says nothing; one whose cause was not found yet does.
        if why and (run.session.status().state == "stopped" or not isinstance(why[0], BudgetSpent)):
            raise why[0]
        found = [one for one in report.to_findings() if one.severity != "remark"]
        if report.culprit == STEP_LIMIT:
            # The steps are those of this attempt, and no fault of the training.
            longer = report.trials[-1].verdict.came
            return RuledOut(f"{longer}: the network learns one image as it is trained")
        if len(found) > 1 and found[0].cause == report.verdict.outcome:
            # What was seen explains the failure, which is no cause by itself.
            came = report.verdict.came
            found = [dataclasses.replace(one, evidence=f"{one.evidence}; {came}") for one in found[1:]]
        if not found:
            return RuledOut(f"{report.verdict.came}: the network learns one image as it is trained")
        ended = " (the budget ended the search)" if why else ""
        named = [self._finding(case, one, report, setup) for one in found]
        each = (
            joined([o for o in named if o.cause == cause]) for cause in dict.fromkeys(o.cause for o in named)
        )
        trained = "trained on one image from initial weights"
        return [dataclasses.replace(o, evidence=f"{trained}: {o.evidence}{ended}") for o in each]

    def _finding(self, case: Case, one: Finding, report: OverfitReport, setup: OverfitSetup) -> Finding:
        cause = CAUSE_OF.get(one.cause, one.cause)
        rates = setup.plan.settings
        evidence, fix, refuted_by = one.evidence, one.fix, one.refuted_by or self.refuted_by
        if report.culprit == one.cause and one.effect is not None:
            without = next(t.verdict.came for t in report.trials if t.without == one.cause)
            evidence += f"; without {one.cause} {without}"
        # The name of a switch says what it is about, and not what is wrong with it.
        evidence, fix = (
            text.replace(f"without {one.cause} ", f"without '{cause}' ") for text in (evidence, fix)
        )
        refuted_by = refuted_by.replace(f"a run with {one.cause} ", f"a run with '{cause}' ")
        edits = {
            "learning rate": {"optim_wrapper.optimizer.lr": _other_rate(rates.learning_rate)},
            "clip": {"optim_wrapper.clip_grad.max_norm": 1.0},
        }.get(one.cause, {})
        return dataclasses.replace(
            one,
            cause=cause,
            evidence=evidence,
            fix=fix,
            refuted_by=refuted_by,
            diff=config_diff(case, edits) if edits else "",
        )


def _other_rate(rate: float) -> float:
    """The rate that the bisector tried."""
    from workbench.training.switches import USUAL_RATE

    return rate / 10 if USUAL_RATE / 10 <= rate <= USUAL_RATE * 10 else USUAL_RATE


def _stopper(case: Case) -> tuple[Callable[[], bool], list[BaseException]]:
    """Whether to stop, asked between steps; and what stopped it."""
    why: list[BaseException] = []

    def stopped() -> bool:
        try:
            case.step()
        except Exception as reason:  # noqa: BLE001 - kept, and raised again where it belongs
            why.append(reason)
        return bool(why)

    return stopped, why


def _setup(case: Case) -> OverfitSetup:
    """The attempt: network with initial weights, one image, and the training that was given."""
    from workbench.training.overfit import overfit_setup
    from workbench.training.settings import default_settings

    model, title = _initial(case)
    pose_set = case.pose_set()
    check_keypoints(len(model.skeleton), pose_set, "the network")
    learned = learned_samples(case) or pose_set.labelled
    samples = [pose_set.sample(i) for i in learned[:1]]
    defaults = default_settings(model)
    requested: dict[str, Any] = {"steps": case.options.steps}
    script = next(iter(_scripts(case)), None)
    if script is not None:
        requested |= {"learning_rate": script.rate, "clip": script.clip or None}
        requested |= {"optimizer": script.optimizer or None}
    setup = overfit_setup(
        model, samples, requested, defaults=defaults, title=title, config=_training_config(case),
        device=case.options.device,
        keep_gradients=script is not None and script.has(UNCLEARED),
        measure_every=max(1, (case.options.steps or defaults.steps) // 4),
    )  # fmt: skip
    evaluating = script is not None and script.has(EVALUATING)
    return dataclasses.replace(setup, plan=dataclasses.replace(setup.plan, norm_eval=evaluating))


def _scripts(case: Case) -> tuple[Script, ...]:
    return available(lambda: scripts(case), ())


def _training_config(case: Case) -> Mapping[str, Any] | None:
    """The config, where it says how to train."""
    config = available(case.config, {})
    return config if isinstance(config.get("optim_wrapper"), Mapping) else None


def _initial(case: Case) -> tuple[PoseModel, str]:
    """The network with initial weights, and its title.

    Of an adapter or a config it is built anew; of a checkpoint alone a copy is made whose layers are reset.
    """
    from workbench.models.fresh import new_model
    from workbench.models.mmpose.model import from_config
    from workbench.models.randomness import private_randomness

    options = case.options
    if options.adapter is not None and case.given.checkpoint is None:
        return new_model(adapter=options.adapter, device=options.device)
    loaded = case.loaded()
    config = available(case.config, {})
    if options.adapter is None and isinstance(config.get("model"), Mapping) and not case.config_failure():
        with private_randomness(0):
            return from_config(config, options.device), f"{loaded.title} from initial weights"
    model = copy.deepcopy(case.model())
    with private_randomness(0):
        reset_layers(model.module)
    case.notes.append(
        "no config says how the network starts: layers of torch were reset to torch's initial weights for "
        "the overfit attempt, and parameters of the network's own kept their trained values"
    )
    return model, f"{loaded.title} from initial weights"


def reset_layers(module: nn.Module) -> None:
    """Give every layer of torch's that has weights new initial ones.

    Args:
        module: changed in place.
    """
    from torch import nn

    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm,
             nn.Embedding, nn.Bilinear, nn.RNNBase, nn.PReLU)  # fmt: skip
    for part in module.modules():
        if isinstance(part, kinds):
            part.reset_parameters()


CAUSES: Sequence[Cause] = (Overfit(),)
