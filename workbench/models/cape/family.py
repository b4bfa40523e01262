"""Family cape: keypoints of any category, found one after the other, from one example of what to find.

The support is what says which keypoints to look for. `supported_by` fixes one for all queries; without one
every sample is its own support, as in single-image training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, Prediction, Sample, Skeleton, geometry
from workbench.models.cape.layers import COORDINATE, TYPES
from workbench.models.cape.model import logged_pck
from workbench.models.cape.network import CapeNetwork, Defects, Size
from workbench.models.naming import taps_of
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from workbench.models.cape.network import Steps


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
                f"cape: {self.skeleton.name} has {len(self.skeleton)} keypoints and an end, this network has "
                f"{self.module.size.steps} steps"
            )
        for sample in self.support:
            _checked_support(sample, self.skeleton)
        if self.taps is None:
            object.__setattr__(self, "taps", taps_of(self.module))

    def supported_by(self, support: Sequence[Sample], skeleton: Skeleton | None = None) -> Cape:
        """The same network, asked for the keypoints of these examples.

        Raises:
            ValueError: no example, another number of keypoints, or none visible.
        """
        if not support:
            raise ValueError("cape: expected at least one support example, got none")
        return dataclasses.replace(self, support=tuple(support), skeleton=skeleton or self.skeleton)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops, true tokens (nan where there is none), and the support.

        Raises:
            ValueError: there is neither a support nor an annotation to stand in for it, or they differ in
                their number of keypoints.
        """
        import torch

        pixels, affines = self._cropped(samples)
        K = len(self.skeleton)
        given = np.full((len(samples), K, 2), np.nan)
        for n, sample in enumerate(samples):
            if sample.truth is not None:
                if len(sample.truth) != K:
                    name = sample.key or f"sample {n}"
                    raise ValueError(f"cape: {name} has {len(sample.truth)} keypoints, the support {K}")
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
        import torch

        pixels, extra = self._placed(batch)
        N, K, _ = extra["given"].shape
        if isinstance(forced, int):
            if not 0 <= forced <= K:
                raise ValueError(f"rollout: expected 0 to {K} forced tokens, got {forced}")
            forced = (torch.arange(K) < forced).expand(N, K)
        told = forced.to(pixels.device)
        steps, read = self.module.rollout(self.module.around(extra, pixels), extra["given"], told)
        return outputs_of(steps, pixels, read)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels; the score is the probability that the token is a coordinate.

        Tokens after an end are read all the same: how many there are is known from the support.
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
        """What this family's own training log says: ``loss_coordinates`` and ``pck``, defects included."""
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
        import torch

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
    """What the decoder said, by name; coordinates without the step of the end."""
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
            f"cape: {name} has no annotation; without a support example nothing says what to look for"
        )
    if len(sample.truth) != len(skeleton):
        raise ValueError(
            f"cape: support {name} has {len(sample.truth)} keypoints, expected the {len(skeleton)} of "
            f"{skeleton.name}; choose a support of the query's category"
        )
    visible = np.asarray(sample.truth, float)[:, 2]
    if not (visible > 0).any():
        raise ValueError(f"cape: support {name} has no visible keypoint, so it says nothing to look for")


def new_cape(
    skeleton: Skeleton, size: Size | None = None, seed: int = 0, defects: Defects | None = None
) -> Cape:
    """A model with first weights."""
    from workbench.models.randomness import private_randomness

    with private_randomness(seed):
        return Cape(CapeNetwork(size or Size(), defects).eval(), skeleton)
