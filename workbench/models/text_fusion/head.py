"""RTMPose's head with a refiner behind it: which vectors leave it, the raw ones or the refined?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmpose.models.heads import RTMCCHead
from mmpose.registry import MODELS
from torch import nn
from torch.nn import functional

from workbench.models.text_fusion.family import Refining

if TYPE_CHECKING:
    from torch import Tensor

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
        """How this head refines: in training, or at inference."""
        if self.refiner is None:
            return ""
        if training:
            return "training" if self.use_refiner_in_training else ""
        # mmpose gives every head the estimator's test_cfg.
        off = getattr(self, "test_cfg", {}).get("refine_mode") == "off"
        return "inference" if self.use_refiner_in_predict and not off else ""

    def simcc(self, features: tuple[Tensor], way: Refining) -> tuple[Tensor, Tensor]:
        """The vectors along x and y, refined as said.

        Args:
            features: of neck or backbone; the last map is used.
            way: "" gives the raw vectors.
        """
        x, y = super().forward(features)
        if way and self.refiner is not None:
            x, y = self.refiner(x, y, way)
        return self.refined_x(x), self.refined_y(y)

    def forward(self, features: tuple[Tensor]) -> tuple[Tensor, Tensor]:
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
