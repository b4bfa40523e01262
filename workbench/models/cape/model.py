"""A CAPE network as a model of the workbench, from a checkpoint and back to a file.

The support says which keypoints to look for. `supported_by` fixes one for all queries; without one every
sample is its own support, as in single-image training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, Prediction, Sample, Skeleton, geometry
from workbench.core.pck import box_lengths, distances, pck_by_image
from workbench.core.report import counted
from workbench.models.cape.layers import COORDINATE, TYPES
from workbench.models.cape.network import CapeNetwork, Defects, Size
from workbench.models.naming import taps_of
from workbench.models.opening import Opening, skeleton_from_plain
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from workbench.checkpoints.loading import LoadReport
    from workbench.models.cape.network import Steps


# MP-100's convention (Pose-for-Everything, PoseAnything): strictly closer than .2 of the box's longer side.
THRESHOLD = 0.2


def logged_pck(
    points: Sequence[Float[np.ndarray, "K 2"]],
    batch: Batch,
    input_size: tuple[int, int],
    in_input_pixels: bool = False,
) -> float:
    """Mean over images of the share of keypoints, visible in query and support, that are right.

    Args:
        points: (x, y) in image pixels.
        batch: with truth.
        input_size: (height, width) of the network's input, pixels.
        in_input_pixels: the defect: distances in input pixels, the box in image pixels.
    """
    truth = np.stack([np.asarray(sample.truth, float) for sample in batch.samples])
    found = np.stack([np.asarray(p, float) for p in points])
    # As in MP-100: what the support does not show was not asked for.
    truth[~batch.extra["support_visible"].any(1).cpu().numpy(), 2] = 0
    if in_input_pixels:
        for n, affine in enumerate(batch.to_image):
            back = geometry.inverse(affine)
            found[n], truth[n, :, :2] = geometry.apply(back, found[n]), geometry.apply(back, truth[n, :, :2])
    lengths = box_lengths([sample.box for sample in batch.samples])
    return float(np.mean(pck_by_image(distances(found, truth, lengths), THRESHOLD)))


# The model.


@dataclass(frozen=True, eq=False)
class Cape:
    """A category-agnostic sequence model; see workbench.inspectors.sequence.SequenceModel.

    Attributes:
        module: the network.
        skeleton: of the category in question.
        support: examples with truth, shared by all queries; empty makes every sample its own support.
        taps: public name -> module path.
        token_types: what the columns of `types` stand for.
        padding: factor on the box before it is cropped.
    """

    module: CapeNetwork
    skeleton: Skeleton
    support: tuple[Sample, ...] = ()
    taps: Mapping[str, str] = None  # type: ignore[assignment] - filled in below
    padding: float = 1.25
    note: str = ""
    codec: None = None
    token_types: tuple[str, ...] = TYPES

    def __post_init__(self) -> None:
        if len(self.skeleton) + 1 > self.module.size.steps:
            raise ValueError(
                f"cape: {self.skeleton.name} has {counted(len(self.skeleton), 'keypoint')} and an end, this "
                f"network has {counted(self.module.size.steps, 'step')}"
            )
        for sample in self.support:
            _checked_support(sample, self.skeleton)
        if self.taps is None:
            object.__setattr__(self, "taps", taps_of(self.module))

    def supported_by(self, support: Sequence[Sample], skeleton: Skeleton | None = None) -> Cape:
        """The same network, asked for the keypoints of these examples.

        Args:
            support: samples with truth.
            skeleton: of their category; the model's own by default.

        Raises:
            ValueError: no example, another number of keypoints, or none visible.
        """
        if not support:
            raise ValueError("cape: expected at least one support example, got none")
        return dataclasses.replace(self, support=tuple(support), skeleton=skeleton or self.skeleton)

    def untrained(self, seed: int = 0) -> Cape:
        """The same network with first weights, its size and its defects included."""
        fresh = new_cape(self.skeleton, self.module.size, seed, self.module.defects)
        fresh.module.to(next(self.module.parameters()).device)
        return fresh

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops, true tokens (nan where there is none), and the support.

        Raises:
            ValueError: there is neither a support nor an annotation to stand in for it, or they differ in
                their number of keypoints.
        """
        pixels, affines = self._cropped(samples)
        K = len(self.skeleton)
        given = np.full((len(samples), K, 2), np.nan)
        for n, sample in enumerate(samples):
            if sample.truth is not None:
                if len(sample.truth) != K:
                    name = sample.key or f"sample {n}"
                    raise ValueError(
                        f"cape: {name} has {counted(len(sample.truth), 'keypoint')}, the support {K}"
                    )
                given[n] = self._tokens(sample, affines[n])
        if self.support:
            crops, maps = self._cropped(self.support)
            of = np.stack([self._tokens(s, m) for s, m in zip(self.support, maps, strict=True)])
            points = np.broadcast_to(of, (len(samples), *of.shape)).copy()
            shown = crops.expand(len(samples), *crops.shape)
        else:
            for sample in samples:
                _checked_support(sample, self.skeleton)
            points, shown = given[:, None], pixels[:, None]
        graph = np.eye(K, dtype=np.float32)
        for a, b in self.skeleton.limbs:
            graph[a, b] = graph[b, a] = 1
        extra = {
            "given": torch.tensor(given, dtype=torch.float32),
            "support": torch.tensor(points, dtype=torch.float32),
            "support_visible": torch.tensor(np.isfinite(points).all(-1)),
            "support_graph": torch.tensor(graph).expand(len(samples), -1, -1),
        }
        if self.module.size.support_image:
            extra["support_pixels"] = shown
        return Batch(pixels, affines, tuple(samples), extra)

    def forward(self, batch: Batch) -> Outputs:
        """Teacher-forced: step t reads the tokens before t of ``batch.extra["given"]``."""
        pixels, extra = self._placed(batch)
        return outputs_of(self.module(self.module.around(extra, pixels), extra["given"]), pixels)

    def rollout(self, batch: Batch, forced: int | Bool[Tensor, "N K"] = 0) -> Outputs:
        """Free-running but for the forced tokens, which are read from ``batch.extra["given"]``.

        Args:
            batch: from `prepare`.
            forced: how many of the first tokens are given, or which.

        Raises:
            ValueError: `forced` is negative or more than there are keypoints.
        """
        pixels, extra = self._placed(batch)
        N, K, _ = extra["given"].shape
        if isinstance(forced, int):
            if not 0 <= forced <= K:
                raise ValueError(f"rollout: expected 0 to {K} forced tokens, got {forced}")
            forced = (torch.arange(K) < forced).expand(N, K)
        is_given = forced.to(pixels.device)
        steps, read = self.module.rollout(self.module.around(extra, pixels), extra["given"], is_given)
        return outputs_of(steps, pixels, read)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels; the score is the probability that the token is a coordinate.

        Tokens after an end are read all the same: how many there are is known from the support.

        Args:
            outputs: of `forward` or `rollout`.
            batch: that was passed.
            options: not read; this family has one decoder.
        """
        H, W = self.module.size.input_size
        points = outputs.tokens["coordinates"].detach().double().cpu().numpy() * (W - 1, H - 1)
        chances = outputs.tokens["types"].detach().softmax(-1)[..., COORDINATE].cpu().numpy()
        K = points.shape[1]
        return tuple(
            Prediction(geometry.apply(a, p), s[:K], sample.box)
            for a, p, s, sample in zip(batch.to_image, points, chances, batch.samples, strict=True)
        )

    def logged(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """What this family's own training log says: ``loss_coordinates`` and ``pck``, defects included.

        Args:
            outputs: of `forward` or `rollout`.
            batch: that was passed, with truth.
        """
        defects = self.module.defects
        given = batch.extra["given"].to(outputs.tokens["coordinates"].device)
        raw = (outputs.tokens["coordinates"] - given).abs().nanmean().item()
        points = [p.keypoints for p in self.decode(outputs, batch, DecodeOptions())]
        scale = LOGGED_SCALE if defects.logged_loss_scaled else 1.0
        return {
            "loss_coordinates": raw * scale,
            "pck": logged_pck(points, batch, self.module.size.input_size, defects.pck_in_input_pixels),
        }

    def _cropped(self, samples: Sequence[Sample]) -> tuple[Tensor, np.ndarray]:
        H, W = size = self.module.size.input_size
        pixels, affines = np.empty((len(samples), H, W, 3), np.float32), np.empty((len(samples), 2, 3))
        for n, sample in enumerate(samples):
            box = geometry.checked_box(sample.box, f"box of {sample.key or f'sample {n}'}")
            region = geometry.crop_region(box, size, self.padding)
            # Outermost pixel centres span the crop, so that 0 and 1 are places in the image.
            pixels[n] = geometry.crop(sample.image, *region, size, udp=True)
            affines[n] = geometry.input_to_image(*region, size, udp=True)
        scaled = (pixels - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
        return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous(), affines

    def _tokens(self, sample: Sample, affine: np.ndarray) -> np.ndarray:
        H, W = self.module.size.input_size
        truth = np.asarray(sample.truth, float)
        points = geometry.apply(geometry.inverse(affine), truth[:, :2]) / (W - 1, H - 1)
        # Truth outside the crop cannot be said with a token of 0..1.
        inside = np.all((points >= 0) & (points <= 1), axis=1)
        return np.where((inside & (truth[:, 2] > 0)).reshape(-1, 1), points, np.nan)

    def _placed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(self.module.parameters()).device
        return batch.pixels.to(device), {name: value.to(device) for name, value in batch.extra.items()}


# Weight of the coordinate loss in the source, which its log does not take out again.
LOGGED_SCALE = 5.0


def outputs_of(steps: Steps, pixels: Tensor, read: Tensor | None = None) -> Outputs:
    """What the decoder said, by name; coordinates without the step of the end.

    Args:
        steps: of the decoder, the step of the end included.
        pixels: of the batch, [N, 3, H, W]; the attention maps are an eighth of their size.
        read: tokens that a rollout read, [N, K, 2]; None in a teacher-forced pass.
    """
    h, w = pixels.shape[-2] // 8, pixels.shape[-1] // 8
    tokens = {
        "coordinates": steps.layers[-1][:, :-1],
        "layers": steps.layers,
        "types": steps.types[-1],
        "type_layers": steps.types,
        "attention_image": steps.over_image.unflatten(-1, (h, w)),
        "attention_support": steps.over_support,
    }
    return Outputs(tokens=tokens if read is None else {**tokens, "read": read})


def _checked_support(sample: Sample, skeleton: Skeleton) -> None:
    name = sample.key or "the support"
    if sample.truth is None:
        raise ValueError(
            f"cape: {name} has no annotation; without a support example nothing says what to look for "
            "(predict and evaluate take one: --support IMAGE/ANNOTATION --data JSON)"
        )
    if len(sample.truth) != len(skeleton):
        raise ValueError(
            f"cape: support {name} has {counted(len(sample.truth), 'keypoint')}, expected the "
            f"{len(skeleton)} of {skeleton.name}; choose a support of the query's category"
        )
    visible = np.asarray(sample.truth, float)[:, 2]
    if not (visible > 0).any():
        raise ValueError(f"cape: support {name} has no visible keypoint, so it says nothing to look for")


def new_cape(
    skeleton: Skeleton, size: Size | None = None, seed: int = 0, defects: Defects | None = None
) -> Cape:
    """A model with first weights.

    Args:
        skeleton: of the category.
        size: of the network; the default size by default.
        seed: of the first weights.
        defects: that are switched on; none by default.
    """
    from workbench.models.randomness import private_randomness

    with private_randomness(seed):
        return Cape(CapeNetwork(size or Size(), defects).eval(), skeleton)


# Files.


def load(opening: Opening) -> tuple[Cape, LoadReport]:
    """The model a checkpoint holds.

    Raises:
        NotAvailable: it does not say how large the network is.
        ValueError: what it says cannot be.
    """
    from workbench.checkpoints.loading import load_state

    checkpoint = opening.required()
    recorded = checkpoint.meta.get("cape")
    if not isinstance(recorded, dict) or not {"size", "skeleton"} <= set(recorded):
        raise NotAvailable(
            f"{checkpoint.path.name}: a CAPE checkpoint of another project; its weights fit its own code, "
            "so pass --adapter with a Python file that builds it"
        )
    network = CapeNetwork(Size.of(recorded["size"]), _defects(recorded.get("defects", ())))
    model = Cape(network.eval(), skeleton_from_plain(recorded["skeleton"], "cape"))
    report = load_state(model.module, checkpoint, remap=opening.remap)
    model.module.to(opening.device)
    return model, report


def write(model: Cape, path: Path, epoch: int, **facts: Any) -> None:
    """The weights and all that is needed to open them, in mmengine's layout: meta and state_dict.

    The defects of the code that trained it are stored as well: without them the weights mean something else.

    Args:
        model: to be written.
        path: of the new file.
        epoch: number of finished epochs.
        facts: further entries of ``meta``.
    """
    skeleton = dataclasses.asdict(model.skeleton)
    size = dataclasses.asdict(model.module.size)
    recorded = {"size": size, "skeleton": skeleton, "defects": list(model.module.defects.names())}
    meta = {"epoch": epoch, "cape": recorded}
    torch.save({"meta": {**meta, **facts}, "state_dict": model.module.state_dict()}, path)


def _defects(names: Any) -> Defects:
    known = [f.name for f in dataclasses.fields(Defects)]
    if not isinstance(names, (list, tuple)) or (odd := [name for name in names if name not in known]):
        found = repr(odd[0]) if isinstance(names, (list, tuple)) else type(names).__name__
        raise ValueError(f"cape: expected defects among {', '.join(known)}; the checkpoint has {found}")
    return Defects(**dict.fromkeys(names, True))
