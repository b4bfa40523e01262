"""Outputs that are the same whatever the image: nothing can be read off them, and no place be blamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import NotAvailable, Outputs
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.evidence import Change

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.diagnosis.case import Case

# Spread over images, relative to all of it, below which outputs are constant; and images that say so.
CONSTANT, LEAST_IMAGES = 0.02, 5


class Collapsed(Cause):
    """All keypoints of a sample at one place, or none at all."""

    name, group, level, needs = "outputs are constant", "output", "forward", ("model", "data")
    refuted_by = "another image on which the outputs differ"
    symptom_of = ("layers with all weights zero", "weights only partly loaded", "layers that never learned")

    def test(self, case: Case) -> Answer:
        varies, images = variation(case)
        if varies < CONSTANT and images >= LEAST_IMAGES:
            return self.found(
                f"outputs hardly depend on the image: they vary by {varies:.1%} of their spread over "
                f"{images} images",
                fix="check that the input reaches the network and that its weights are those of the file",
            )
        return RuledOut(f"outputs vary by {varies:.0%} of their spread over {images} images")


def variation(case: Case, changes: Sequence[Change] = ()) -> tuple[float, int]:
    """How much outputs differ from image to image, a share of their spread; and over how many images.

    Args:
        case: of a model.
        changes: with which the network runs.

    Raises:
        NotAvailable: there is no model, or it gives neither heatmaps nor SimCC vectors.
    """

    def measured() -> tuple[float, int]:
        parts = case.of_model().forwards(changes)
        flat = np.concatenate([_maps(one.outputs) for one in parts])
        flat = flat.reshape(len(flat), flat.shape[1], -1)
        return float(flat.std(0).mean() / max(float(flat.std()), 1e-12)), len(flat)

    return measured() if changes else case.once("variation of outputs", measured)


def check_varying(case: Case, changes: Sequence[Change] = ()) -> None:
    """Raise NotAvailable where outputs are constant: another reading gives something by chance alone."""
    try:
        varies, images = variation(case, changes)
    except NotAvailable:
        return
    if varies < CONSTANT and images >= LEAST_IMAGES:
        raise NotAvailable("outputs hardly depend on the image, so nothing can be read off them")


def _maps(outputs: Outputs) -> Float[np.ndarray, "N K ..."]:
    if outputs.heatmaps is None and outputs.simcc is None:
        raise NotAvailable("this model gives neither heatmaps nor SimCC vectors")
    tensor = outputs.heatmaps if outputs.heatmaps is not None else cast(Any, outputs.simcc)[0]
    return tensor.float().numpy()


CAUSES: Sequence[Cause] = (Collapsed(),)
