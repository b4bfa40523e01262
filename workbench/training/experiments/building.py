"""How does an arm begin? The given network with another neck, on the weights that all arms share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.models.text_fusion import Path as Through
from workbench.models.text_fusion import TextFusion
from workbench.text import TextVectors
from workbench.training.experiments.arms import Arm, Way

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.models import LoadedModel


@dataclass(frozen=True, eq=False)
class Origin:
    """What all arms of an experiment share.

    Attributes:
        given: the text fusion model in question.
        config: the config it was built from.
        start: tensors that every arm begins with, by name; the neck's are not among them.
        species: sentences of all species, for arms that tell them apart; None where there are none.
        note: where the weights come from.
    """

    given: TextFusion
    config: Mapping[str, Any]
    start: Mapping[str, Tensor]
    species: TextVectors | None
    note: str


def origin_of(
    loaded: LoadedModel,
    start: Path | list[Path] | None = None,
    text: TextVectors | None = None,
    config: Path | None = None,
) -> Origin:
    """The common start of an experiment's arms.

    Args:
        loaded: a text fusion checkpoint.
        start: a checkpoint whose backbone and head every arm begins with: the base model that both were
            fine-tuned from. By default those of the given one, which have already learned beside its neck.
        text: sentences of the species; by default the built-in text that the config names.
        config: that the user named to open the checkpoint; by default the one in it or beside it.

    Raises:
        NotAvailable: the model has no text neck, or there is no config.
        ValueError: the start holds another network.
    """
    from workbench.checkpoints import open_checkpoint
    from workbench.models.opening import Opening
    from workbench.models.text_fusion.opening import fitted

    model = loaded.model
    if not isinstance(model, TextFusion) or not hasattr(model.module, "neck") or loaded.checkpoint is None:
        raise NotAvailable(
            f"experiment: {loaded.title} has no text neck; give a text fusion checkpoint (--demo has one)"
        )
    told = Opening(loaded.checkpoint, config).read_config()
    settings = fitted(told, loaded.checkpoint.tensors)
    own = {k: v.clone() for k, v in model.module.state_dict().items() if not k.startswith("neck.")}
    note = "backbone and head begin with the given checkpoint's own weights, which learned beside its neck"
    if start is not None:
        begun = open_checkpoint(start)
        held, file = begun.state_dict(), begun.path
        lacking = [
            name
            for name, tensor in own.items()
            if not name.startswith("head.refiner.")
            and not name.endswith("num_batches_tracked")
            and (name not in held or held[name].shape != tensor.shape)
        ]
        if lacking:
            raise ValueError(
                f"experiment: {file.name} does not fit as a start: {len(lacking)} tensors of backbone and "
                f"head are absent or of another shape ({lacking[0]} ...)"
            )
        own |= {name: held[name].to(own[name].dtype) for name in own if name in held}
        note = f"backbone and head begin with the weights of {file.parent.name}/{file.name}"
    return Origin(model, settings, own, text or _species(settings), note)


def arm_model(origin: Origin, arm: Arm, seed: int) -> TextFusion:
    """The model an arm trains: shared weights, and a neck of its own with first weights from the seed.

    Raises:
        NotAvailable: the arm wants sentences of the species and there are none.
        ValueError: the neck cannot be built.
    """
    from workbench.models.mmpose.model import build, model_of
    from workbench.models.mmpose.trust import changed
    from workbench.models.randomness import private_randomness

    part = origin.config["model"]
    settings = changed(origin.config, model={**part, "neck": {**part["neck"], **arm.neck}})
    with private_randomness(seed):
        module = build(settings).eval()
    module.load_state_dict(dict(origin.start), strict=False)
    model = model_of(module, settings, None, origin.given.top_down.device)
    assert isinstance(model, TextFusion)  # of this config
    given = origin.given
    top_down = dataclasses.replace(model.top_down, skeleton=given.skeleton)
    return dataclasses.replace(
        model, top_down=top_down, text=_text(origin, arm), inference=given.inference, training=given.training
    )


def way_through(model: TextFusion, way: Way) -> TextFusion:
    """The model gone through as the arm is judged."""
    ways: dict[str, Through] = {
        "as it predicts": model.inference,
        "as it was trained": model.training,
        "fused and refined": Through(True, "inference"),
        "neither neck nor refiner": Through(False, ""),
        "no refiner": dataclasses.replace(model.inference, refine=""),
    }
    return model.through(ways[way])


def _species(config: Mapping[str, Any]) -> TextVectors | None:
    from workbench.text.vectors import builtin_text

    named = str((config.get("model") or {}).get("text") or "").partition("/")[0]
    try:
        return builtin_text(named) if named else None
    except NotAvailable:
        return None


def _text(origin: Origin, arm: Arm) -> TextVectors | None:
    if arm.text == "own":
        return origin.given.text
    if origin.species is None or len(origin.species.subjects) < 2:
        raise NotAvailable(
            "experiment: sentences of each species are needed, and the config names none; give "
            "some with --text FILE"
        )
    if arm.text == "each species":
        return origin.species
    # Every species another one's sentence: as much information, none of it about the picture.
    return dataclasses.replace(
        origin.species, subject_vectors=np.roll(origin.species.subject_vectors, 1, axis=0)
    )
