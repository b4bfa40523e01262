"""Does prediction go the way that training went? In the published code it does not: the neck gets no text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmpose.models.pose_estimators import TopdownPoseEstimator

from workbench.models.text_fusion.family import Path, Sentences, in_data_samples

if TYPE_CHECKING:
    from torch import Tensor


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
        self.fuse_in_predict, self.text, self.told = bool(fuse_in_predict), text, False

    def path(self, training: bool) -> Path:
        """The way this network goes in training, or at inference."""
        way = getattr(self.head, "way", None)
        return Path(fuse=training or self.fuse_in_predict, refine=way(training) if way else "")

    def along(self, inputs: Tensor, text: Sentences | None, path: Path) -> tuple[Tensor, Tensor]:
        """SimCC vectors by one way through the network, whatever mode it is in."""
        features = self.extract_feat(inputs, text if path.fuse else None)
        refining = getattr(self.head, "simcc", None)
        return refining(features, path.refine) if refining else self.head(features)

    def extract_feat(self, inputs: Tensor, text: Sentences | Sequence[Any] | None = None) -> Any:
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

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Any]:
        """Losses of the head on fused features."""
        if self.with_neck and getattr(self.neck, "fusion_type", "none") != "none":
            self._check_text(data_samples)
        features = self.extract_feat(inputs, data_samples)
        return dict(self.head.loss(features, data_samples, train_cfg=self.train_cfg))

    def _check_text(self, data_samples: Any) -> None:
        """Say once that training goes without text: the loss would not tell."""
        if not self.told and in_data_samples(data_samples) is None:
            self.told = True
            warnings.warn(
                "text fusion: the data samples carry no text, so the neck is skipped in training; "
                "LoadTextEmbeddings must find its files, and PackPoseInputs name global_text and local_text "
                "among its meta_keys",
                stacklevel=2,
            )

    def predict(self, inputs: Tensor, data_samples: Any) -> Any:
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
