"""Training of sequence models: teacher forcing, scheduled sampling, and losses on coordinate tokens.

A sequence model has the capability RollsOut. In training its decoder reads the ground-truth tokens (teacher
forcing); in evaluation it is free-running, as in use. The difference between the PCK of both modes is the
cost of reading its own predictions.

Scheduled sampling: token by token the network runs on its own, each prediction replaced by the ground truth
with a probability that falls over time; then one pass with gradients over the tokens read in this way.

Sources: Bengio et al., Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks, NIPS 2015,
section 2.4; losses as in Raster2Seq (poly2seq): L1 on coordinate tokens weighted 5, cross entropy weighted 1,
all decoder layers.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workbench.core import Answers, Batch, Groups, Outputs, PoseModel
from workbench.core.capabilities import HasObjective, Reinitialises, RollsOut, step_counter
from workbench.core.wrapping import Wrapper
from workbench.training.people import BY_HEART, TaughtPeople

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


# The source's weights. The end token is rare, so it has a higher one.
COORDINATE_WEIGHT, END_WEIGHT = 5.0, 20.0

# Index of the end among the token types: coordinate, separator, end, class.
END = 2

Kind = Literal["teacher", "linear", "sigmoid", "exponential"]


def truth_probability(kind: Kind, step: int, steps: int, floor: float = 0.0) -> float:
    """Probability that a token fed back is the ground truth.

    Args:
        kind: shape of the decay; ``teacher`` is always 1.
        step: 0 to `steps`.
        steps: length of the decay.
        floor: lower limit of the probability.

    Raises:
        ValueError: unknown kind, or steps not positive.
    """
    if steps < 1:
        raise ValueError(f"scheduled sampling: expected at least one step, got {steps}")
    t = min(max(step / steps, 0.0), 1.0)
    curves = {
        "teacher": 1.0,
        "linear": 1 - t,
        # From .98 to .02, the paper's k/(k + exp(i/k)) stretched over the run.
        "sigmoid": 1 / (1 + math.exp(8 * (t - 0.5))),
        # e^-4 = .02 at the end.
        "exponential": math.exp(-4 * t),
    }
    if kind not in curves:
        raise ValueError(f"scheduled sampling: expected one of {', '.join(curves)}, got {kind!r}")
    return max(floor, curves[kind])


@dataclass(frozen=True)
class Teaching:
    """What the decoder reads during training.

    Attributes:
        sampling: how the share of ground-truth tokens falls; ``teacher`` always reads the ground truth.
        steps: length of the decay.
        floor: lower limit of the share of ground-truth tokens.
        shuffled: draw the order of the keypoints at every step, in support and query alike: then only the
            support says which keypoint comes next.
        noise: standard deviation of noise on the tokens read, 0..1 of the input; 0 is none.
    """

    sampling: Kind = "teacher"
    steps: int = 1000
    floor: float = 0.0
    shuffled: bool = False
    noise: float = 0.0


def scheduled_sampling(steps: int) -> Teaching:
    """Scheduled sampling over the first two thirds of a run; the rest converges on its own predictions."""
    return Teaching("exponential", max(1, 2 * steps // 3))


@dataclass(eq=False)
class TaughtSequence(Wrapper):
    """View of a sequence model for training: teaching in training mode, free-running in evaluation mode.

    Attributes:
        model: with RollsOut, and tokens ``coordinates`` in its outputs.
        teaching: what its decoder reads; may be replaced between runs.
        count: steps taught so far, for a network without a buffer ``taught`` that counts them; such a run
            restarts its schedule when it is resumed.
    """

    model: Any
    teaching: Teaching = field(default_factory=Teaching)
    count: int = 0
    withheld = (Answers,)  # would bypass `forward`

    @property
    def codec(self) -> None:
        """None: tokens have no codec."""
        return None

    def forward(self, batch: Batch) -> Outputs:
        """One training pass in training mode, free-running in evaluation mode."""
        if not self.module.training:
            return self.model.rollout(batch)
        outputs = taught(self.model, batch, self.teaching, self.count)
        self.count += 1
        return outputs

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss, scalars; their sum is minimised.

        Raises:
            ValueError: no keypoint is visible.
        """
        return token_losses(outputs, batch)


def trainable(model: PoseModel, steps: int = 1000) -> Any:
    """View of a model for training; the model itself where it needs none.

    A family may define a view of its own (Family.training_view). Otherwise a sequence model is trained on its
    own predictions as well, a bottom-up model on whole images.

    Args:
        model: any PoseModel; one with RollsOut or Groups and no loss of its own is wrapped.
        steps: of the training.
    """
    from workbench.models.families import training_view

    view = training_view(model, steps)
    if view is not None:
        return view
    if isinstance(model, HasObjective):
        return model
    if isinstance(model, Groups):
        return TaughtPeople(model, BY_HEART)
    if not isinstance(model, RollsOut):
        return model
    # Scheduled sampling counts its steps in a buffer of the network; without one the truth is read.
    counts = step_counter(model.module) is not None
    return TaughtSequence(model, scheduled_sampling(steps) if counts else Teaching())


def untrained_copy(model: Reinitialises, seed: int = 0) -> TaughtSequence:
    """A network of the same size and with the same defects, with initial weights, for teacher forcing.

    Args:
        model: unchanged.
        seed: of the initial weights.
    """
    return TaughtSequence(model.untrained(seed), Teaching())


def taught(model: Any, batch: Batch, teaching: Teaching, count: int = 0) -> Outputs:
    """One training pass; its outputs are in the keypoints' own order, also where it was shuffled.

    Args:
        model: with RollsOut.
        batch: with the ground-truth tokens in ``extra["given"]``.
        teaching: what the decoder reads.
        count: steps before this one; used where the network does not count them itself.
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
        # The count is a buffer of the network, so that a resumed run continues its schedule.
        counter = step_counter(model.module)
        done = count if counter is None else int(counter)
        share = truth_probability(teaching.sampling, done, teaching.steps, teaching.floor)
        if counter is not None:
            counter += 1
    if share < 1:
        true = torch.rand(given.shape[:2]) < share
        with torch.no_grad():
            given = model.rollout(_with(batch, given=given), true).tokens["read"]
    outputs = model.forward(_with(batch, given=given))
    return outputs if order is None else _restored(outputs, order)


def l1_and_cross_entropy(
    coordinates: Float[Tensor, "D N L 2"],
    types: Float[Tensor, "D N L Y"],
    wanted: Float[Tensor, "N L 2"],
    wanted_types: Int[Tensor, "N L"],
    counted: Bool[Tensor, "N L"],
    coordinate_weight: float = 5.0,
    type_weights: Float[Tensor, " Y"] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Loss parts summed over the D decoder layers, and the raw L1 of the last layer.

    Args:
        coordinates: predicted (x, y) in 0..1 of the input, after each decoder layer.
        types: logits of the token types, after each layer.
        wanted: ground-truth coordinates.
        wanted_types: ground-truth type of every token, -1 for padding.
        counted: coordinate tokens whose keypoint is visible.
        coordinate_weight: 5 in the source; its logged loss is scaled by it.
        type_weights: weight per type in the cross entropy.

    Returns:
        ``coordinates`` and ``types`` (scalars, their sum is minimised), and the unscaled mean absolute error
        per coordinate of the last layer, 0..1 of the input: the only one comparable with a PCK threshold.

    Raises:
        ValueError: no keypoint is visible.
    """
    from torch.nn import functional

    if not counted.any():
        raise ValueError("token objective: no visible keypoint among the coordinate tokens")
    error = (coordinates - wanted[None]).abs()[:, counted]
    flat = types.flatten(1, 2)
    kinds = sum(
        functional.cross_entropy(layer, wanted_types.flatten(), type_weights, ignore_index=-1)
        for layer in flat
    )
    parts = {"coordinates": coordinate_weight * error.mean((1, 2)).sum(), "types": kinds}
    return parts, error[-1].mean().detach()  # type: ignore[return-value]


def token_losses(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """L1 on coordinates and, where the model outputs token types, cross entropy: scalars, all layers.

    Args:
        outputs: with tokens ``coordinates``, and ``layers``, ``types``, ``type_layers`` where there are
        types.
        batch: with the ground-truth tokens in ``extra["given"]``; nan where not visible.

    Raises:
        ValueError: no keypoint is visible, or the outputs hold no coordinates.
    """
    import torch

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


def _with(batch: Batch, **extra: Tensor) -> Batch:
    return dataclasses.replace(batch, extra={**batch.extra, **extra})


def _reordered(batch: Batch, order: Tensor) -> Batch:
    """Ground-truth tokens and support in another order; the name defines the axis of the keypoints."""
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
            back += range(len(back), tokens[name].shape[axis])  # the end token stays where it is
            tokens[name] = tokens[name].index_select(axis, order.new_tensor(back).to(tokens[name].device))
    return Outputs(tokens={k: v for k, v in tokens.items() if not k.startswith("attention")})
