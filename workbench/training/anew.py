"""The same network from first weights, defects of its code included: can it learn one image at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.training.sequences import TaughtSequence, Teaching

if TYPE_CHECKING:
    from workbench.models.cape.model import Cape


def untaught(model: Cape, seed: int = 0) -> TaughtSequence:
    """A network of the model's size, with its defects, that is taught with the truth before every step.

    Args:
        model: as a checkpoint holds it; stays as it is.
        seed: of the first weights.
    """
    from workbench.models.cape.model import new_cape

    fresh = new_cape(model.skeleton, model.module.size, seed, model.module.defects)
    fresh.module.to(next(model.module.parameters()).device)
    return TaughtSequence(fresh, Teaching())
