"""How is a network of this kind brought to learn one image, when nobody says otherwise?"""

from __future__ import annotations

from typing import Any

from workbench.core.capabilities import Groups, RollsOut
from workbench.training.settings import Settings

TOP_DOWN = Settings(steps=200, learning_rate=1e-3)

# A decoder that reads its own answers sees another sequence at every step: with a constant rate its
# coordinates go on jumping by more than PCK .05 allows, and PCK ends wherever the last step left it. The rate
# falls to zero, so that the last third settles; the clip is for the first steps, which the weight of 20 on
# the end of the sequence makes steep.
SEQUENCE = Settings(steps=400, learning_rate=2e-3, schedule="cosine", warm_up=20, clip=1.0)

# A whole image is more background than a crop, and tags come apart only once the heatmaps stand.
PEOPLE = Settings(steps=300, learning_rate=5e-3, schedule="cosine", warm_up=20, clip=1.0)


def usual(model: Any) -> Settings:
    """The settings that models of this kind learn an image with.

    Args:
        model: with the capability RollsOut a sequence model, with Groups bottom-up; any other is treated as a
            top-down network.
    """
    if isinstance(model, RollsOut):
        return SEQUENCE
    return PEOPLE if isinstance(model, Groups) else TOP_DOWN
