"""The estimator of this family with its refiner and head, and the transform that loads its text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from workbench.core.report import counted
from workbench.models.mmpose_compat import install

# Before transformers meets a broken torchvision, and mmpose an xtcocotools of another numpy.
install()

from mmcv.transforms import BaseTransform  # noqa: E402
from mmengine.model import BaseModule  # noqa: E402
from mmpose.models.heads import RTMCCHead  # noqa: E402
from mmpose.models.pose_estimators import TopdownPoseEstimator  # noqa: E402
from mmpose.registry import MODELS  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from workbench.checkpoints.numpy_files import load_npy  # noqa: E402
from workbench.models.text_fusion.family import Path, Refining, Sentences, in_data_samples  # noqa: E402
from workbench.models.text_fusion.neck import checked  # noqa: E402

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


Mask = Literal["uncertain", "all", "none"]
Softmax = Literal["all", "uncertain", "none"]


NOISE_SEED = 0


def drawn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal noise of a tensor's shape; of a generator on the CPU, alike for all devices.

    Args:
        like: gives shape, type and device.
        generator: None: the process-wide one.
    """
    if generator is None:
        return torch.randn_like(like)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


class SimCCDiffusionRefiner(BaseModule):
    """Adds a learned difference to the SimCC vectors of uncertain keypoints, step by step.

    The defaults are those of the published code, whose weights get no training signal by default.

    Args:
        coord_dim: bins of one axis.
        hidden_dim: width of the network.
        num_keypoints: accepted for configs; the network sees one keypoint at a time.
        num_steps: how often the difference is added.
        confidence_threshold: a keypoint is uncertain when a peak of its raw vectors lies below.
        dropout: within the network, in training.
        mask: which keypoints are refined at inference; in training all are.
        softmax: which vectors become probabilities after every step at inference. In the published code
            ``all``: one uncertain keypoint in the batch is enough to bring every score of the batch to about
            1 / bins.
        noise: standard deviation of what is added before the first step; it falls linearly.
        init_cfg: as mmengine has it.
    """

    def __init__(
        self,
        coord_dim: int = 512,
        hidden_dim: int = 256,
        num_keypoints: int = 26,
        num_steps: int = 3,
        confidence_threshold: float = 0.7,
        dropout: float = 0.1,
        mask: Mask = "uncertain",
        softmax: Softmax = "all",
        noise: float = 0.05,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        checked(mask, Mask, "mask")
        checked(softmax, Softmax, "softmax")
        if num_steps < 1:
            raise ValueError(
                f"num_steps: expected at least 1, got {num_steps}; leave the refiner out instead"
            )
        self.coord_dim, self.num_keypoints, self.num_steps = coord_dim, num_keypoints, num_steps
        self.confidence_threshold, self.mask, self.softmax = confidence_threshold, mask, softmax
        self.noise = noise

        def layer(width: int) -> list[nn.Module]:
            return [nn.Linear(width, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU(), nn.Dropout(dropout)]

        self.encoder = nn.Sequential(*layer(2 * coord_dim + 1))
        self.middle_blocks = nn.ModuleList(nn.Sequential(*layer(hidden_dim)) for _ in range(2))
        self.decoder = nn.Sequential(*layer(hidden_dim), nn.Linear(hidden_dim, 2 * coord_dim))
        # No forward pass goes through it, here as in the published code; the files hold its weights.
        self.time_mlp = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.SiLU())

    def uncertain(self, x: Float[Tensor, "N K bins"], y: Float[Tensor, "N K bins"]) -> Bool[Tensor, "N K"]:
        """Keypoints with a peak below the threshold in either vector.

        Args:
            x: scores of the bins along x.
            y: scores of the bins along y.
        """
        return torch.minimum(x.amax(-1), y.amax(-1)) < self.confidence_threshold

    def forward(
        self, x: Float[Tensor, "N K bins"], y: Float[Tensor, "N K bins"], way: Refining = "inference"
    ) -> tuple[Float[Tensor, "N K bins"], Float[Tensor, "N K bins"]]:
        """Refined vectors; the same ones if no keypoint is refined.

        Raises:
            ValueError: vectors of another number of bins.
        """
        if x.shape[-1] != self.coord_dim or y.shape[-1] != self.coord_dim:
            raise ValueError(
                f"refiner: built for {counted(self.coord_dim, 'bin')}, the head gives {x.shape[-1]} and "
                f"{y.shape[-1]}"
            )
        training = way == "training"
        chosen = self._chosen(x, y, training)
        if not bool(chosen.any()):
            return x, y
        share = chosen.unsqueeze(-1).to(x.dtype)
        normalised = torch.ones_like(chosen) if self.softmax == "all" else chosen
        # In training the step's own randomness; at inference the same noise in every pass.
        generator = None if self.training else torch.Generator().manual_seed(NOISE_SEED)
        for step in range(self.num_steps, 0, -1):
            time = step / self.num_steps
            noisy = torch.cat([v + drawn(v, generator) * (self.noise * time) * share for v in (x, y)], -1)
            hidden = self.encoder(torch.cat([noisy, torch.full_like(x[..., :1], time)], -1))
            for block in self.middle_blocks:
                hidden = block(hidden) + hidden
            by_x, by_y = (self.decoder(hidden) * share / self.num_steps).chunk(2, -1)
            x, y = x + by_x, y + by_y
            if not training and self.softmax != "none":
                x, y = (torch.where(normalised[..., None], v.softmax(-1), v) for v in (x, y))
        return x, y

    def _chosen(self, x: Tensor, y: Tensor, training: bool) -> Bool[Tensor, "N K"]:
        uncertain = self.uncertain(x, y)
        if training or self.mask == "all":
            return torch.ones_like(uncertain)
        return torch.zeros_like(uncertain) if self.mask == "none" else uncertain


# The head.

# Weight of the consistency loss and its floor, as published.
CONSISTENCY, FLOOR = 0.1, 1e-6
# Steps by test_cfg's `refine_mode`; without one the refiner's own number counts.
STEPS = {"fast": 3, "precise": 5}


class RTMCCHeadWithRefinement(RTMCCHead):
    """RTMCCHead whose vectors may pass a refiner.

    Args:
        refiner: config of a SimCCDiffusionRefiner; None leaves a plain RTMCCHead.
        use_refiner_in_training: the loss sees refined vectors, which is what trains the refiner.
        use_refiner_in_predict: predictions are read off refined vectors.
        kwargs: of RTMCCHead.
    """

    def __init__(
        self,
        *args: Any,
        refiner: Mapping[str, Any] | None = None,
        use_refiner_in_training: bool = False,
        use_refiner_in_predict: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.refiner = MODELS.build(dict(refiner)) if refiner else None
        self.use_refiner_in_training = use_refiner_in_training
        self.use_refiner_in_predict = use_refiner_in_predict
        # Places to record and replace: the vectors that leave, one axis each.
        self.refined_x, self.refined_y = nn.Identity(), nn.Identity()

    def way(self, training: bool) -> Refining:
        """How this head refines, in training or at inference."""
        if self.refiner is None:
            return ""
        if training:
            return "training" if self.use_refiner_in_training else ""
        # mmpose gives every head the estimator's test_cfg.
        off = getattr(self, "test_cfg", {}).get("refine_mode") == "off"
        return "inference" if self.use_refiner_in_predict and not off else ""

    def simcc(
        self, features: tuple[Float[Tensor, "N C h w"]], way: Refining
    ) -> tuple[Float[Tensor, "N K bins"], Float[Tensor, "N K bins"]]:
        """The vectors along x and y, refined as `way` asks.

        Args:
            features: of neck or backbone; the last map is used.
            way: "" gives the raw vectors.
        """
        x, y = super().forward(features)
        if way and self.refiner is not None:
            x, y = self.refiner(x, y, way)
        return self.refined_x(x), self.refined_y(y)

    def forward(
        self, features: tuple[Float[Tensor, "N C h w"]]
    ) -> tuple[Float[Tensor, "N K bins"], Float[Tensor, "N K bins"]]:
        """As mmpose calls it: refined as the module's mode asks."""
        return self.simcc(features, self.way(self.training))

    def predict(self, features: Any, batch_data_samples: Any, test_cfg: Any = None) -> Any:
        """mmpose's, with as many steps as `refine_mode` says."""
        steps = STEPS.get((test_cfg or {}).get("refine_mode", ""))
        if self.refiner is None or steps is None:
            return super().predict(features, batch_data_samples, test_cfg or {})
        before, self.refiner.num_steps = self.refiner.num_steps, steps
        try:
            return super().predict(features, batch_data_samples, test_cfg)
        finally:
            self.refiner.num_steps = before

    def loss(self, features: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Any]:
        """mmpose's; with ``train_cfg.use_refine_loss`` also the published pull of the refiner to identity."""
        losses = super().loss(features, batch_data_samples, train_cfg or {})
        if self.refiner is not None and (train_cfg or {}).get("use_refine_loss"):
            raw = [v.detach() for v in super().forward(features)]
            refined = self.refiner(*raw, "training")
            apart = sum(functional.mse_loss(r, v, reduction="sum") for r, v in zip(refined, raw, strict=True))
            losses["loss_refine"] = CONSISTENCY * apart / (raw[0].shape[0] * raw[0].shape[1] + FLOOR)
        return losses


# The estimator. In the published code prediction takes another path than training: its neck gets no text.


class TopdownPoseEstimatorWithNeck(TopdownPoseEstimator):
    """mmpose's top-down estimator with a neck that reads text.

    Args:
        fuse_in_predict: the text reaches the neck in `predict` too. None, where a config does not say it, is
            taken for False, as published; training then
            teaches the head features that inference never shows it.
        text: the sentence vectors that the workbench gives this network: a built-in name, ``name/subject``
            for one subject's sentence with every image, or an .npz beside the checkpoint; see
            workbench.text. Under mmengine's Runner the text comes with the data samples instead.
        kwargs: of TopdownPoseEstimator.
    """

    def __init__(
        self, *args: Any, fuse_in_predict: bool | None = None, text: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.way_assumed = fuse_in_predict is None
        self.fuse_in_predict, self.text, self.warned = bool(fuse_in_predict), text, False

    def path(self, training: bool) -> Path:
        """The path of this network in training, or at inference."""
        way = getattr(self.head, "way", None)
        return Path(fuse=training or self.fuse_in_predict, refine=way(training) if way else "")

    def along(
        self, inputs: Float[Tensor, "N 3 H W"], text: Sentences | None, path: Path
    ) -> tuple[Float[Tensor, "N K bins"], Float[Tensor, "N K bins"]]:
        """SimCC vectors along one path through the network, whatever mode it is in.

        Args:
            inputs: normalised crops.
            text: sentence vectors; None where the path fuses none.
            path: through the network.
        """
        features = self.extract_feat(inputs, text if path.fuse else None)
        refining = getattr(self.head, "simcc", None)
        return refining(features, path.refine) if refining else self.head(features)

    def extract_feat(
        self, inputs: Float[Tensor, "N 3 H W"], text: Sentences | Sequence[Any] | None = None
    ) -> Any:
        """Features of backbone and neck.

        Args:
            inputs: normalised crops.
            text: vectors, or mmpose's data samples that carry them; None skips the fusion.
        """
        features = self.backbone(inputs)
        if not self.with_neck:
            return features
        return self.neck(
            features, text if isinstance(text, Sentences) or text is None else in_data_samples(text)
        )

    def loss(self, inputs: Float[Tensor, "N 3 H W"], data_samples: Any) -> dict[str, Any]:
        """Losses of the head on fused features."""
        if self.with_neck and getattr(self.neck, "fusion_type", "none") != "none":
            self._check_text(data_samples)
        features = self.extract_feat(inputs, data_samples)
        return dict(self.head.loss(features, data_samples, train_cfg=self.train_cfg))

    def _check_text(self, data_samples: Any) -> None:
        """Warn once that training runs without text: the loss would not show it."""
        if not self.warned and in_data_samples(data_samples) is None:
            self.warned = True
            warnings.warn(
                "text fusion: the data samples carry no text, so the neck is skipped in training; "
                "LoadTextEmbeddings must find its files, and PackPoseInputs name global_text and local_text "
                "among its meta_keys",
                stacklevel=2,
            )

    def predict(self, inputs: Float[Tensor, "N 3 H W"], data_samples: Any) -> Any:
        """Keypoints; the neck sees the text only where `fuse_in_predict` says so."""
        text = data_samples if self.fuse_in_predict else None
        features = self.extract_feat(inputs, text)
        if self.test_cfg.get("flip_test", False):
            features = [features, self.extract_feat(inputs.flip(-1), text)]
        found = self.head.predict(features, data_samples, test_cfg=self.test_cfg)
        instances, fields = found if isinstance(found, tuple) else (found, None)
        return self.add_pred_to_datasample(instances, fields, data_samples)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.head(self.extract_feat(inputs, data_samples))


# The transform of a training pipeline.


class LoadTextEmbeddings(BaseTransform):
    """Adds `global_text` and `local_text`; PackPoseInputs must name both among its meta_keys.

    Args:
        global_path: .npy with the subject's vector [D], or one per category [S, D], row category_id - 1.
        local_path: .npy with the keypoints' vectors [K, D].
        text: instead of both, an .npz that `workbench text --out` wrote: each image gets the sentence of its
            category.
        required: False goes on without text where a file is absent, as the published code does by default.
    """

    def __init__(
        self,
        global_path: str = "embeddings/horse_global.npy",
        local_path: str = "embeddings/horse_local.npy",
        required: bool = False,
        text: str = "",
    ) -> None:
        self.rows: dict[int, int] = {}
        if text:
            self._read(FilePath(text))
            return
        files = FilePath(global_path), FilePath(local_path)
        absent = [str(file) for file in files if not file.is_file()]
        if absent and required:
            raise FileNotFoundError(f"text vectors: no file {absent[0]}; make it with `workbench text`")
        self.subject, self.keypoints = (None, None) if absent else tuple(load_npy(file) for file in files)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A new dictionary with the text, or the same without any."""
        if self.subject is None or self.keypoints is None:
            return results
        row = self.subject
        if row.ndim > 1:
            row = row[self._row(_category(results), len(row))]
        return {**results, "global_text": row.copy(), "local_text": self.keypoints.copy()}

    def _read(self, file: FilePath) -> None:
        from workbench.text.vectors import read_text

        found = read_text(file)
        one = len(found.subjects) == 1
        self.subject = found.subject_vectors[0] if one else found.subject_vectors
        self.keypoints = found.keypoint_vectors
        self.rows = {category: s for s, category in enumerate(found.categories)}

    def _row(self, category: int, count: int) -> int:
        row = self.rows.get(category, -1) if self.rows else category - 1
        if not 0 <= row < count:
            known = ", ".join(map(str, self.rows)) if self.rows else f"1 to {count}"
            raise ValueError(f"text: no sentence for category {category}; there are {known}")
        return row


def _category(results: dict[str, Any]) -> int:
    return int(np.asarray(results["category_id"]).reshape(-1)[0])
