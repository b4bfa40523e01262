"""Which network is asked, and which way does a pass go through it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Conditioned, NotAvailable
from workbench.core.run import run as forward

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.core import PoseModel, Run
    from workbench.models.text_fusion import Path, TextFusion

# What fills one screen row of a sentence; longer lists of names are cut.
NAMED = 3


def conditioned(model: PoseModel) -> TextFusion:
    """The model, known to read text.

    Raises:
        NotAvailable: it does not.
    """
    from workbench.models.text_fusion import TextFusion

    if isinstance(model, TextFusion):
        return model
    if isinstance(model, Conditioned):
        raise NotAvailable(
            "conditioning: this question looks into the workbench's own text fusion modules; of code of your "
            "own (custom_imports, --adapter) clinic, paths, film and ablate conditioning run both passes and "
            "compare them"
        )
    raise NotAvailable(
        "conditioning: this model gives its features no text and has no refiner "
        f"(a {type(model.module).__name__} that declares neither); expected the workbench's text fusion "
        "modules, a --config with code of your own (custom_imports), or an --adapter whose model has the "
        "capability Conditioned (see README)"
    )


def reads_text(model: PoseModel) -> None:
    """Raise if nothing declares that a model's features are given text.

    Raises:
        NotAvailable: neither the workbench's modules nor the capability Conditioned.
    """
    if not isinstance(model, Conditioned):
        conditioned(model)


def fused(model: TextFusion) -> Path:
    """The way through the neck, and nothing behind the head.

    Raises:
        NotAvailable: the network has no neck that reads text, or there is no text to give it.
    """
    from workbench.models.text_fusion import Path

    neck: Any = getattr(model.module, "neck", None)
    if neck is None or getattr(neck, "fusion_type", "none") == "none":
        raise NotAvailable("conditioning: this model gives its neck nothing to fuse (fusion_type none)")
    if model.text is None:
        raise NotAvailable(f"conditioning: this model gives its neck no text: {model.no_text}")
    return Path(fuse=True)


def passed(
    run: Run,
    way: Path,
    record: Sequence[str] = (),
    replace: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> Run:
    """The samples of a run once more, another way through the network.

    Args:
        run: whose model and samples.
        way: through the network.
        record: taps whose outputs to keep.
        replace: interventions.
    """
    model = conditioned(run.model).through(way)
    return forward(model, run.samples, record, replace, title=run.title)


def neck_of(model: TextFusion) -> Any:
    """The neck, whose options are attributes."""
    return model.module.neck


def refiner_of(model: TextFusion) -> Any | None:
    """The refiner; None where the head has none."""
    return getattr(getattr(model.module, "head", None), "refiner", None)


def one_per_path(taps: Mapping[str, str]) -> dict[str, str]:
    """Tap -> module path with one name for each module, the public one where there is one."""
    first: dict[str, str] = {}
    for name, path in taps.items():
        first.setdefault(path, name)
    return {name: path for path, name in first.items()}


def apart(a: Float[np.ndarray, "*s"], b: Float[np.ndarray, "*s"]) -> float:
    """Length of a difference, as a share of the length of `a`; nan for other shapes."""
    if a.shape != b.shape:
        return float("nan")
    length = float(np.linalg.norm(np.asarray(a, float)))
    difference = float(np.linalg.norm(np.asarray(a, float) - np.asarray(b, float)))
    return difference / length if length > 0 else (0.0 if difference == 0 else float("inf"))


def cells(maps: Float[np.ndarray, "N C h w"]) -> Float[np.ndarray, "M C"]:
    """Every cell of every map as a row, each image's mean taken off.

    A shift that differs between images (β of each one's own text) is then no direction of its own: beside
    a strong one all others would seem to be lost.
    """
    maps = maps.astype(float)
    centred = maps - maps.mean((2, 3), keepdims=True)
    return np.moveaxis(centred, 1, -1).reshape(-1, maps.shape[1])


def moved(a: Run, b: Run) -> Float[np.ndarray, "N K"]:
    """How far each keypoint lies from where the other run has it, shares of the longer side of its box."""
    sides = np.array([max(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in a.samples])
    return np.linalg.norm(a.keypoints - b.keypoints, axis=-1) / sides[:, None]
