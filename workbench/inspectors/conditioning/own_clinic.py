"""What is wrong with the text in code of the user's own? Only what its two passes show when they are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import HasText
from workbench.inspectors.conditioning import film as film_
from workbench.inspectors.conditioning.evidence import keypoint_names_text, text_effect
from workbench.inspectors.conditioning.findings import MISNAMED, ONE_VECTOR, PARTED, SKIPPED, UNREAD, Finding
from workbench.inspectors.conditioning.passes import FEATURES, OUTPUTS, compared
from workbench.inspectors.conditioning.paths import BOTH, TRAINING
from workbench.text.vectors import similarity

if TYPE_CHECKING:
    from workbench.core import Run
    from workbench.inspectors.conditioning.evidence import TextEffect
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.text.vectors import Similarity

Answer = TypeVar("Answer")

NOT_DECLARED = "what your own code does there is not measured: no capability declares {}"


def measured(run: Run) -> dict[str, Any]:
    """Fields of a Clinic but for its data set: findings, evidence, and what could not be asked.

    Raises:
        NotAvailable: there is no text to take away, or a pass cannot be run.
    """
    model: Any = run.model
    # Asked first: without text there is nothing to say about it.
    model.with_text(run.batch, lambda text: text)
    missing = {
        "scores": NOT_DECLARED.format("a refiner behind the head"),
        "gradients": NOT_DECLARED.format("the parts of the loss; see `workbench look gradients`"),
    }

    def ask(question: str, function: Callable[[], Answer]) -> Answer | None:
        try:
            return function()
        except NotAvailable as why:
            missing[question] = str(why)
            return None

    paths = compared(run)
    effect = ask("text effect", lambda: text_effect(run))
    film = ask("film", lambda: film_.compute(run, film_.Params()))
    # An adapter's text may be of any kind; only vectors with names can be looked at.
    text = run.model.text if isinstance(run.model, HasText) else None
    if "neck" not in model.text_taps:
        missing["neck"] = "nothing declares which part gives the features the text: text_taps['neck']"
    return {
        "findings": _findings(run, paths, effect, film),
        "paths": paths,
        "film": film,
        "effect": effect,
        "text": None if text is None else ask("text", lambda: _similarity(text)),
        "scores": None,
        "gradients": None,
        "missing": missing,
        "scope": "the text in your training and predict passes",
    }


def _similarity(text: Any) -> Similarity:
    return similarity(text)


def _findings(run: Run, paths: Paths, effect: TextEffect | None, film: Film | None) -> list[Finding]:
    model: Any = run.model
    tap = model.text_taps.get("neck", "")
    skipped = _skipped(paths, effect, tap)
    found = [skipped or _parted(paths), _unread(effect), _one_vector(film)]
    text = run.model.text if isinstance(run.model, HasText) else None
    if text is not None and (told := keypoint_names_text(text.keypoints, model.skeleton.keypoints)):
        advice = "write the vectors in the order of the skeleton's keypoints, with their names"
        found.append(Finding(MISNAMED, told, advice))
    return [finding for finding in found if finding is not None]


def _skipped(paths: Paths, effect: TextEffect | None, tap: str) -> Finding | None:
    """The neck, or all effect of the text, is there in training and not at inference."""
    gone = bool(tap) and paths.skipped(tap)
    silent = effect is not None and effect.changes("training") and not effect.changes("predict")
    if not silent and (not gone or (effect is not None and not effect.changes("training"))):
        return None
    alone = [n for n, w in zip(paths.names, paths.reached, strict=True) if w == TRAINING]
    inside = [n for n in alone if n == tap or n.startswith(f"{tap}.")]
    told = f"your training pass reaches {inside[0]}, your predict does not" if gone else _parting(paths)
    if effect is not None:
        told += f"; {effect.summary()}"
    return Finding(
        SKIPPED,
        f"measured on your code: {told}; keypoints end {100 * paths.moved:.1f} % of the box apart",
        "hand the text to the neck in your predict as your loss does (with the flip test, for both images)",
    )


def _parted(paths: Paths) -> Finding | None:
    """The passes differ in what the head is given or in what the network gives."""
    ends = [i for i, name in enumerate(paths.names) if name in (FEATURES, OUTPUTS)]
    if not any(paths.reached[i] != BOTH or paths.differences[i] > 0 for i in ends):
        return None
    return Finding(
        PARTED,
        f"measured on your code: {_parting(paths)}; keypoints end {100 * paths.moved:.1f} % of the box apart",
        "look at what your code does there only in training, or only in predict",
    )


def _parting(paths: Paths) -> str:
    first = paths.first
    if first is None:
        return "no tap differs"
    where = paths.reached[first]
    how = f"reached in {where}" if where != BOTH else f"by {100 * paths.differences[first]:.2g} %"
    return f"on the same input your training and predict passes part at {paths.names[first]}, {how}"


def _unread(effect: TextEffect | None) -> Finding | None:
    if effect is None or any(effect.changes(way) for way in ("training", "predict")):
        return None
    return Finding(
        UNREAD,
        f"measured on your code: {effect.change} changes neither features nor outputs, in the training pass "
        "nor in predict",
        "look for a gate at 0, or for the name under which your code reads the text: data samples carry it "
        "as global_text and local_text",
    )


def _one_vector(film: Film | None) -> Finding | None:
    if film is None or film.images < 2 or not film.at_inference:
        return None
    layer = film.layers[0]
    if not np.isfinite(layer.across_images) or layer.across_images > 1e-7:
        return None
    return Finding(
        ONE_VECTOR,
        f"measured on your code: γ at {layer.name} is the same for all {film.images} images (over channels "
        f"it varies by {layer.across_channels:.2g}), so conditioning carries nothing about the image",
        "describe what differs between images and give each image its own text, or take the neck away",
    )
