"""Which places of a layer raise the answer for each keypoint?

Grad-CAM: the channels of a layer are weighted by how much they raise the target, averaged over places, and
added up. The map is as coarse as the layer. A keypoint whose evidence lies elsewhere is inferred from other
parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from workbench.core import NotAvailable, Run
from workbench.core.inspector import INSTANCE, Inspector
from workbench.core.needs import Needs
from workbench.inspectors.attribution.layers import LAYER, chosen_layer
from workbench.inspectors.attribution.maps import SHOWN, MapsReport, map_facts
from workbench.inspectors.attribution.methods import asking, grad_cam
from workbench.inspectors.attribution.targets import TARGET, score_of, targets_of

NEEDS = Needs(outputs=("heatmaps", "simcc"))


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: all keypoints side by side, or one large.
        target: the number of the output that is explained.
        layer: whose output is weighted; automatic takes the last one at the network's coarsest resolution.
        positive: draw evidence for the keypoint alone, as published; otherwise evidence against it as well.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, SHOWN] = ""
    target: Annotated[str, TARGET] = ""
    layer: Annotated[str, LAYER] = ""
    positive: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class GradCam(MapsReport):
    """Grad-CAM of one layer.

    Attributes:
        layer: name of the tap.
        size: (channels, height, width) of its output.
    """

    layer: str
    size: tuple[int, ...]

    def summary(self) -> str:
        head = f"Grad-CAM of {self.layer} ({self.size[1]}x{self.size[2]} places) for the {self.unit}"
        if not self.measured.any():
            return f"{head}: no evidence for any keypoint passes this layer; choose an earlier one"
        return f"{head}: {self.where()}; {self.advice()}"

    def bar_title(self) -> str:
        return "evidence"


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
    pixels, path = run.batch.pixels[n].detach(), run.model.taps[tap]
    maps = grad_cam(score, pixels, run.model.module, path, params.positive)
    return GradCam(
        **map_facts(run, n, targets, values, maps, params.keypoint),
        positive=params.positive,
        layer=tap,
        size=size,
    )


INSPECTOR = Inspector(
    "Grad-CAM",
    "Which places of a layer raise the answer for each keypoint?",
    Params,
    compute,
    needs=NEEDS,
    order=10,
)
