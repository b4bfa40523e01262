"""How much does the output for each keypoint fall when a part of the image is covered?

A window is moved over the network's input; where covering lowers the target, the network needs what is there.
Unlike a gradient this is an intervention: it says what happens, not what would for a very small change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from workbench.core import Run
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.inspectors.attribution import methods
from workbench.inspectors.attribution.maps import SHOWN, MapsReport, map_facts
from workbench.inspectors.attribution.methods import Baseline, baseline
from workbench.inspectors.attribution.targets import OUTPUTS, TARGET, score_of, targets_of


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: all keypoints side by side, or one large.
        target: the output value that is explained.
        window: side of the window, share of the input's shorter side.
        stride: step of the window, share of the window.
        fill: what covered pixels become: zero (the mean colour of the training data, where inputs are
            normalised), the mean colour of this input, or a blurred copy of it.
        positive: draw only where covering lowers the output; otherwise also where it raises the output.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, SHOWN] = ""
    target: Annotated[str, TARGET] = ""
    window: Annotated[float, Range(0.05, 0.6, 0.05)] = 0.2
    stride: Annotated[float, Range(0.25, 1.0, 0.25)] = 0.5
    fill: Baseline = "zero"
    positive: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Occlusion(MapsReport):
    """Fall of the targets under a covering window.

    Attributes:
        window: side in input pixels.
        windows: number of places of the window.
        falls: largest mean fall of each target at one pixel.
    """

    window: int
    windows: int
    falls: np.ndarray

    def summary(self) -> str:
        head = f"A window of {self.window} px covered the input at {self.windows} places ({self.unit})"
        if not self.maps.any():
            return (
                f"{head}: no target changes anywhere, so the output does not depend on the image; "
                "check that the image reaches the network"
            )
        if not self.measured.any():
            return f"{head}: covering only raises the targets; choose another fill"
        return f"{head}: {self.where()}; {self.advice()}"

    def bar_title(self) -> str:
        return "fall"

    def table(self) -> list[dict]:
        return [
            {**row, "largest_fall": float(fall)}
            for row, fall in zip(super().table(), self.falls, strict=True)
        ]


def compute(run: Run, params: Params) -> Occlusion:
    """Cover window after window, and measure all keypoints each time.

    Raises:
        NotAvailable: the outputs have no target.
        ValueError: no such sample, keypoint or target.
    """
    n = INSTANCE.index(run, params.instance)
    targets = targets_of(run, n, params.target)
    score = score_of(run, n, targets)
    pixels = run.batch.pixels[n]
    H, W = pixels.shape[1:]
    side = max(1, round(params.window * min(H, W)))
    step = max(1, round(params.stride * side))
    with methods.asking(run, gradients=False):
        values = score(pixels[None])[0]
        maps = methods.occlusion(score, pixels, (side, side), (step, step), baseline(pixels, params.fill))
    count = len(methods.windows(H, side, step)) * len(methods.windows(W, side, step))
    falls = maps.flatten(1).amax(1).double().cpu().numpy()
    facts = map_facts(run, n, targets, values, maps, params.keypoint)
    return Occlusion(**facts, positive=params.positive, window=side, windows=count, falls=falls)


INSPECTOR = Inspector("Occlusion", Params, compute, needs=Needs(outputs=OUTPUTS), order=20)
