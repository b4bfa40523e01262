"""How is a sequence model taught? With the truth, or now and then with its own last answer.

A sequence model is any with the capability RollsOut (see workbench.inspectors.sequence.SequenceModel). In
training its decoder reads the true tokens (teacher forcing); in evaluation it rolls out, as it will be used:
PCK in both modes differ by exactly what exposure to its own answers costs.

Scheduled sampling as its source has it: token by token the network runs on its own, each answer replaced by
the truth with a probability that falls over time; then one pass with gradients over the tokens so read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.core import Answers, Batch, Groups, Outputs, PoseModel
from workbench.core.capabilities import HasObjective, RollsOut, step_counter
from workbench.core.wrapping import Wrapper
from workbench.training.scheduled_sampling import Kind, truth_probability

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.training.plan import Switch

# The source's weights: see objectives.tokens. An end is rare, so it counts more.
COORDINATE_WEIGHT, END_WEIGHT = 5.0, 20.0


@dataclass(frozen=True)
class Teaching:
    """What the decoder reads while it is taught.

    Attributes:
        sampling: how the share of true tokens falls; ``teacher`` reads the truth always.
        steps: after which it has fallen.
        floor: the least share of true tokens.
        shuffled: draw the order of the keypoints anew at every step, in support and query alike: then only
            the support says which keypoint comes next.
        noise: standard deviation of noise on the tokens read, 0..1 of the input; 0 is none.
    """

    sampling: Kind = "teacher"
    steps: int = 1000
    floor: float = 0.0
    shuffled: bool = False
    noise: float = 0.0


@dataclass(eq=False)
class TaughtSequence(Wrapper):
    """A sequence model as the Trainer wants it: taught in training mode, rolled out in evaluation mode.

    Attributes:
        model: with `rollout`, and tokens ``coordinates`` in its outputs.
        teaching: what its decoder reads; may be replaced between runs.
        count: steps taught so far, for a network without a buffer ``taught`` that counts them; such a run
            begins its schedule anew when it is resumed.
    """

    model: Any
    teaching: Teaching = field(default_factory=Teaching)
    count: int = 0
    withheld = (Answers,)  # goes past `forward`

    @property
    def codec(self) -> None:
        """Tokens have none."""
        return None

    @property
    def switches(self) -> tuple[Switch, ...]:
        """Pieces that the overfit bisector can take away."""
        from workbench.training.sequence_faults import SEQUENCE_SWITCHES

        return SEQUENCE_SWITCHES

    def forward(self, batch: Batch) -> Outputs:
        """Taught in training mode, rolled out in evaluation mode."""
        if not self.module.training:
            return self.model.rollout(batch)
        outputs = taught(self.model, batch, self.teaching, self.count)
        self.count += 1
        return outputs

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Loss parts; what is minimised is their sum.

        Raises:
            ValueError: no keypoint is visible.
        """
        return token_losses(outputs, batch)


def trainable(model: PoseModel, steps: int = 1000) -> Any:
    """The model itself, or a sequence or bottom-up model as the Trainer wants it.

    A family may have a view of its own (Family.training_view). Otherwise a sequence model is wrapped so that
    it is trained with its own answers as well, a bottom-up one so that it is trained on whole images.

    Args:
        model: one with the capability RollsOut or Groups and no loss of its own is wrapped.
        steps: of the run.
    """
    from workbench.models.families import training_view

    view = training_view(model, steps)
    if view is not None:
        return view
    if isinstance(model, Groups) and not isinstance(model, HasObjective):
        from workbench.training.people import BY_HEART, TaughtPeople

        return TaughtPeople(model, BY_HEART)
    if not isinstance(model, RollsOut) or isinstance(model, HasObjective):
        return model
    # Sampling counts its steps in a buffer of the network; one without it reads the truth.
    counts = step_counter(model.module) is not None
    return TaughtSequence(model, own_answers(steps) if counts else Teaching())


def taught(model: Any, batch: Batch, teaching: Teaching, count: int = 0) -> Outputs:
    """One training pass; its outputs stand in the keypoints' own order, however they were taught.

    Args:
        model: with `rollout`.
        batch: with the true tokens.
        teaching: what its decoder reads.
        count: steps before this one; read where the network does not count them itself.
    """
    import torch

    given = batch.extra["given"]
    order = torch.randperm(given.shape[1]) if teaching.shuffled else None
    if order is not None:
        batch = _reordered(batch, order)
        given = batch.extra["given"]
    if teaching.noise:
        given = given + teaching.noise * torch.randn_like(given)
    share = 1.0
    if teaching.sampling != "teacher":
        # The count is a buffer of the network, so that a resumed run goes on where it was.
        counter = step_counter(model.module)
        done = count if counter is None else int(counter)
        share = truth_probability(teaching.sampling, done, teaching.steps, teaching.floor)
        if counter is not None:
            counter += 1
    if share < 1:
        told = torch.rand(given.shape[:2]) < share
        with torch.no_grad():
            given = model.rollout(_with(batch, given=given), told).tokens["read"]
    outputs = model.forward(_with(batch, given=given))
    return outputs if order is None else _restored(outputs, order)


def token_losses(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """L1 on coordinates and, where the model says the type of its tokens, cross entropy; all layers.

    Raises:
        ValueError: no keypoint is visible, or the outputs hold no coordinates.
    """
    import torch

    from workbench.training.objectives.tokens import l1_and_cross_entropy

    tokens = outputs.tokens
    if "coordinates" not in tokens:
        raise ValueError(f"token objective: expected tokens 'coordinates', got {', '.join(tokens) or 'none'}")
    last = tokens["coordinates"]
    given = batch.extra["given"].to(last.device)
    known = given.isfinite().all(-1)
    if not known.any():
        raise ValueError("token objective: no visible keypoint among the coordinate tokens")
    if "type_layers" not in tokens:
        return {"coordinates": COORDINATE_WEIGHT * (last - given)[known].abs().mean()}
    wanted_types = torch.zeros(tokens["types"].shape[:2], dtype=torch.long, device=last.device)
    wanted_types[:, -1] = END
    weights = torch.ones(tokens["types"].shape[-1], device=last.device)
    weights[END] = END_WEIGHT
    parts, _ = l1_and_cross_entropy(
        tokens["layers"],
        tokens["type_layers"],
        torch.nn.functional.pad(given.nan_to_num(0), (0, 0, 0, 1)),
        wanted_types,
        torch.nn.functional.pad(known, (0, 1)),
        COORDINATE_WEIGHT,
        weights,
    )
    return parts


# Position of the end among the token types: coordinate, separator, end, class.
END = 2


def _with(batch: Batch, **extra: Tensor) -> Batch:
    return dataclasses.replace(batch, extra={**batch.extra, **extra})


def _reordered(batch: Batch, order: Tensor) -> Batch:
    """Given tokens and support in another order; the axis of the keypoints is known by the name."""
    axes = {"given": (1,), "support": (2,), "support_visible": (2,), "support_graph": (1, 2)}
    extra = dict(batch.extra)
    for name in axes.keys() & extra.keys():
        for axis in axes[name]:
            extra[name] = extra[name].index_select(axis, order.to(extra[name].device))
    return dataclasses.replace(batch, extra=extra)


def _restored(outputs: Outputs, order: Tensor) -> Outputs:
    tokens = dict(outputs.tokens)
    for name, axis in (("coordinates", 1), ("layers", 2), ("types", 1), ("type_layers", 2)):
        if name in tokens:
            back = order.argsort().tolist()
            back += range(len(back), tokens[name].shape[axis])  # the step of the end stays where it is
            tokens[name] = tokens[name].index_select(axis, order.new_tensor(back).to(tokens[name].device))
    return Outputs(tokens={k: v for k, v in tokens.items() if not k.startswith("attention")})


def own_answers(steps: int) -> Teaching:
    """Scheduled sampling over the first two thirds of a run: the rest settles on its own answers."""
    return Teaching("exponential", max(1, 2 * steps // 3))
