"""Which locations of a layer increase the output for each keypoint?

Grad-CAM: the channels of a layer are weighted by how much they raise the target, and added up. With the mean
of the gradient over all places, as published, the map shows wherever such features occur, also where this
answer does not read them; with the gradient of each place (HiResCAM) it shows what was read. The map is as
coarse as the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from workbench.core import NotAvailable, Run
from workbench.core.inspector import INSTANCE, Inspector, Needs
from workbench.inspectors.attribution.maps import SHOWN, MapsReport, map_facts
from workbench.inspectors.attribution.methods import LAYER, asking, chosen_layer, grad_cam
from workbench.inspectors.attribution.targets import TARGET, score_of, targets_of

NEEDS = Needs(outputs=("heatmaps", "simcc"))


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: all keypoints side by side, or one large.
        target: the output value that is explained.
        layer: layer whose output is weighted; automatic takes the last one at the network's coarsest
            resolution.
        weights: weight of a channel: the mean of its gradient over all locations (Grad-CAM), or its gradient
            at each location (HiResCAM); automatic: the mean for heatmaps, each location for SimCC.
        positive: draw evidence for the keypoint alone, as published; otherwise evidence against it as well.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, SHOWN] = ""
    target: Annotated[str, TARGET] = ""
    layer: Annotated[str, LAYER] = ""
    weights: Literal["automatic", "mean over places", "place by place"] = "automatic"
    positive: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class GradCam(MapsReport):
    """Grad-CAM of one layer.

    Attributes:
        layer: name of the tap.
        size: (channels, height, width) of its output.
        weights: mean over places, or place by place.
    """

    layer: str
    size: tuple[int, ...]
    weights: str

    def summary(self) -> str:
        name = "Grad-CAM" if self.weights == "mean over places" else "Grad-CAM, place by place,"
        head = f"{name} of {self.layer} ({self.size[1]}x{self.size[2]} cells) for the {self.unit}"
        if not self.measured.any():
            return f"{head}: no evidence for any keypoint passes this layer; choose an earlier one"
        return f"{head}: {self.where()}; {self.advice()}"

    def advice(self) -> str:
        if self.weights == "place by place":
            return super().advice()
        return (
            "it shows wherever features that raise the answer occur, so choose the weights place by place "
            "to see what this answer reads"
        )


def compute(run: Run, params: Params) -> GradCam:
    """Grad-CAM of all keypoints with one forward pass.

    Raises:
        NotAvailable: the layer gives no map, or no gradient arrives.
        ValueError: no such sample, keypoint, target or layer.
    """
    if sentence := NEEDS.unmet_in(run):
        raise NotAvailable(sentence)
    n = INSTANCE.index(run, params.instance)
    targets = targets_of(run, n, params.target)
    score = score_of(run, n, targets)
    with asking(run, gradients=False):
        values = score(run.batch.pixels[n : n + 1])[0]
    tap, size = chosen_layer(run, n, score, params.layer)
    # A SimCC head has weights of its own for every place: their mean says nothing of any of them.
    weights = "place by place" if run.outputs.simcc is not None else "mean over places"
    weights = weights if params.weights == "automatic" else params.weights
    pixels, path = run.batch.pixels[n].detach(), run.model.taps[tap]
    maps = grad_cam(score, pixels, run.model.module, path, params.positive, weights == "place by place")
    return GradCam(
        **map_facts(run, n, targets, values, maps, params.keypoint),
        positive=params.positive,
        layer=tap,
        size=size,
        weights=weights,
    )


INSPECTOR = Inspector("Grad-CAM", Params, compute, needs=NEEDS, order=10)
