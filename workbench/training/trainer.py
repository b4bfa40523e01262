"""The loop itself, one step at a time: the same bare steps, whoever watches.

Everything random in step n comes from (seed, n) alone, so a run that resumes from a snapshot repeats the
steps it lost bit for bit on a CPU, without keeping the state of any generator.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench import geometry
from workbench.hooks import recording
from workbench.records import Batch, Codec, DecodeOptions, Outputs, PoseModel, Prediction, Sample
from workbench.training import measures
from workbench.training.groups import parameter_groups
from workbench.training.objectives import Objective, Target, objective_for, target_of
from workbench.training.schedules import factor
from workbench.training.settings import Settings
from workbench.training.setup import checked, devices, half_type, in_full, new_average, new_optimizer

Augment = Callable[[Sequence[Sample], np.random.Generator], Sequence[Sample]]
"""From samples to changed samples (image, box and truth together), random by the generator alone."""


class Diverged(ArithmeticError):  # noqa: N818 - reads as a claim about the run
    """The loss is no longer a number. The weights are those before the step; nothing finished is lost."""


class Trainer:
    """One model, some samples, and the optimizer between them.

    Attributes:
        step_number: steps done.
        seen: outputs and predictions of the last measurement in evaluation mode, for whoever draws them;
            None before the first.
    """

    def __init__(
        self,
        model: PoseModel,
        samples: Sequence[Sample],
        settings: Settings,
        *,
        augment: Augment | None = None,
        codec: Codec | None = None,
        pck_threshold: float = 0.05,
        device: str = "cpu",
    ) -> None:
        """Prepare the samples once and build the optimizer.

        Args:
            model: its module is trained in place.
            samples: with truth; all of them form every batch.
            settings: how to train.
            augment: changes the samples before every step.
            codec: writes the target; the model's own by default.
            pck_threshold: fraction of the longer side of the box.
            device: where the network is trained.

        Raises:
            ValueError: no sample, no visible keypoint, another number of keypoints, or no codec.
        """
        import torch

        checked(model, samples)
        given = codec or model.codec
        own = getattr(model, "objective", None)
        if given is None and own is None:
            raise ValueError("training: this model declares no codec, so no target can be made for it")
        self.model, self.samples, self.settings = model, tuple(samples), settings
        self.codec, self.augment, self.device = given, augment, device
        self.pck_threshold = pck_threshold
        # A model with a loss of its own (a sequence model) reads its target off the batch.
        self._own_objective: Any = own
        self.objective: Objective | None = (
            objective_for(given, settings.objective) if given and not own else None
        )
        self.step_number = 0
        self._outputs: Outputs | None = None
        self.seen: tuple[Outputs, tuple[Prediction, ...]] | None = None
        self._factor = 1.0
        model.module.to(device)
        self.groups = parameter_groups(model.module, settings)
        self.optimizer = new_optimizer(self.groups, settings)
        self.average = new_average(model.module, settings)
        self.scaler = torch.amp.GradScaler(
            device, enabled=settings.amp and half_type(device) is torch.float16
        )
        self._batch, self._target = self._prepared(self.samples)
        self._fixed = self._batch, self._target
        if settings.compile:
            model.module.compile()

    def step(self, measure: bool = False) -> dict[str, Any]:
        """Do one step.

        Args:
            measure: also when this is no step that the settings measure; the weights stay the same.

        Returns:
            ``step`` (from 1), ``loss``, ``loss/PART``, ``lr/GROUP``, ``gradient/GROUP``, ``seconds``; on a
            measuring step also ``pck_train`` (this step's own outputs), ``pck`` (evaluation mode),
            ``update/GROUP`` and ``dead``.

        Raises:
            Diverged: the loss is not finite; no weight was touched.
        """
        import torch

        began = time.perf_counter()
        number = self.step_number + 1
        measuring = measure or number % self.settings.measure_every == 0 or number in (1, self.settings.steps)
        if self.augment:
            generator = np.random.default_rng((self.settings.seed, number))
            self._batch, self._target = self._prepared(self.augment(self.samples, generator))
        module = self.model.module
        module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self._factor * factor(self.settings, self.step_number)
        taps = measures.rectifiers(module) if measuring else {}
        # A forward pass in training mode moves the running statistics, a diverging one ruins them.
        statistics = [b.clone() for b in module.buffers()]
        with (
            torch.random.fork_rng(devices=devices(self.device)),
            torch.autocast(self.device.partition(":")[0], half_type(self.device), enabled=self.settings.amp),
            recording(module, taps, taps) as activations,
        ):
            torch.manual_seed(self.settings.seed * 1_000_003 + number)
            outputs = self.model.forward(self._batch)
        parts = self._losses(in_full(outputs))
        loss = torch.stack(list(parts.values())).sum()
        if not math.isfinite(value := loss.item()):
            for buffer, kept in zip(module.buffers(), statistics, strict=True):
                buffer.copy_(kept)
            raise Diverged(
                f"the loss is {value} at step {number}: the learning rate ({self.lr():.2g}) is too high, or "
                "the input or the weights are not finite; the weights of the step before are kept"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        gradients = measures.norms(self.groups, gradients=True)
        if self.settings.clip:
            parameters = [p for g in self.groups for p in g["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        before = measures.copy_of(self.groups) if measuring else {}
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(module)
        self.step_number = number
        self._outputs = outputs
        row: dict[str, Any] = {"step": number, "loss": value}
        row |= {f"loss/{name}": part.item() for name, part in parts.items()}
        row |= {f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        row |= {f"gradient/{name}": norm.item() for name, norm in gradients.items()}
        if measuring:
            row |= {
                f"update/{name}": ratio for name, ratio in measures.update_ratio(before, self.groups).items()
            }
            row |= {
                "dead": measures.dead_share(activations),
                "pck_train": self.pck_train(),
                "pck": self.pck(),
            }
        return {**row, "seconds": time.perf_counter() - began}

    @property
    def batch(self) -> Batch:
        """The unchanged samples as the network is given them in evaluation mode."""
        return self._fixed[0]

    def _losses(self, outputs: Outputs) -> dict[str, Any]:
        if self.objective is None or self._target is None:
            return dict(self._own_objective(outputs, self._batch))
        return dict(self.objective(outputs, self._target))

    @property
    def last(self) -> Outputs | None:
        """The outputs of the last training step, detached; None before the first."""
        return None if self._outputs is None else self._outputs.detach()

    def lr(self) -> float:
        """The learning rate of the next step, before group factors."""
        return self.settings.learning_rate * self._factor * factor(self.settings, self.step_number)

    def set_learning_rate(self, rate: float) -> None:
        """Change the peak learning rate from the next step on; groups keep their ratios.

        Raises:
            ValueError: not a positive finite number.
        """
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"learning rate: expected a positive number, got {rate}")
        self._factor = rate / self.settings.learning_rate

    def evaluated(self) -> Outputs:
        """Outputs in evaluation mode, of the averaged weights where there are some."""
        import torch

        batch, _ = self._fixed
        module = self.model.module
        kept = {k: v.clone() for k, v in module.state_dict().items()} if self.average else None
        if self.average:
            module.load_state_dict(self.average.module.state_dict())
        module.eval()
        try:
            with torch.no_grad():
                outputs = self.model.forward(batch).detach()
        finally:
            if kept is not None:
                module.load_state_dict(kept)
            module.train()
        return outputs

    def pck(self) -> float:
        """PCK in evaluation mode, as the model will be used; nan when its outputs are not finite."""
        outputs = self.evaluated()
        if not _finite(outputs):
            return float("nan")
        self.seen = outputs, tuple(self.model.decode(outputs, self._fixed[0], DecodeOptions()))
        return self._pck(self.seen[1])

    def pck_train(self) -> float:
        """PCK of the last step's own outputs, in training mode; nan before the first step."""
        last = self.last
        if last is None or not _finite(last):
            return float("nan")
        # an augmented batch has its own truth, in the pixels of its own images
        return self._pck(self.model.decode(last, self._batch, DecodeOptions()), self._batch.samples)

    def _pck(self, predictions: Sequence, samples: Sequence[Sample] = ()) -> float:
        return measures.pck(predictions, samples or self.samples, self.pck_threshold)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain values."""
        return {
            "step": self.step_number,
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "factor": self._factor,
            "settings": self.settings.to_json(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it belongs to another model or other settings.
        """
        try:
            self.model.module.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as other:
            raise ValueError(f"this snapshot belongs to another model or other settings: {other}") from other
        if bool(self.average) != (state["average"] is not None):
            raise ValueError("this snapshot was written with another setting of ema")
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step_number, self._factor = int(state["step"]), float(state["factor"])

    def _prepared(self, samples: Sequence[Sample]) -> tuple[Batch, Target | None]:
        batch = self.model.prepare(samples)
        batch = dataclasses.replace(batch, pixels=batch.pixels.to(self.device), samples=tuple(samples))
        if self.objective is None or self.codec is None:
            return batch, None
        truth = [np.asarray(sample.truth, float) for sample in samples]
        maps = [geometry.inverse(affine) for affine in batch.to_image]
        points = np.stack([geometry.apply(m, t[:, :2]) for m, t in zip(maps, truth, strict=True)])
        return batch, target_of(self.codec, points, np.stack([t[:, 2] for t in truth]), self.device)


def _finite(outputs: Outputs) -> bool:
    """Whether keypoints can be read off; an exploding step is told by its loss, not by its decoder."""
    tensors = (outputs.heatmaps, *(outputs.simcc or ()), *outputs.tokens.values())
    return all(bool(t.isfinite().all()) for t in tensors if t is not None)
