"""What does an animal wear? Materials of trunk, limbs, hair, muzzle and feet, varied from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.data.scenes.animals import Species
from workbench.data.scenes.rendering import Colour, Figure, Material


@dataclass(frozen=True)
class Coat:
    """Indices of the materials of one animal."""

    trunk: int
    coat: int
    hair: int
    muzzle: int
    legs: int
    foot: int


def put_on_coat(figure: Figure, species: Species, rng: np.random.Generator) -> Coat:
    """Choose a coat for one animal, vary its tones and add its materials to the figure."""
    coat, hair, muzzle, legs = species.coats[rng.integers(len(species.coats))]
    tone = rng.uniform(0.86, 1.12)

    def near(colour: Colour) -> Colour:
        r, g, b = (float(np.clip(c * tone * rng.uniform(0.95, 1.05), 0, 1)) for c in colour)
        return r, g, b

    def like(colour: Colour, **changes: float) -> Material:
        return replace(
            Material(near(colour), grain=coat.grain, stroke=coat.stroke, gloss=coat.gloss), **changes
        )

    main = Material(
        near(coat.colour), near(coat.second), coat.pattern, coat.scale * rng.uniform(0.85, 1.2),
        coat.grain, coat.stroke, coat.gloss, False, coat.belly,
    )  # fmt: skip
    # Rings around the legs are finer than the stripes of the trunk.
    limbs = replace(main, scale=main.scale * (0.62 if coat.pattern == "stripes" else 0.8), belly=0.0)
    if legs is not None and coat.pattern != "stripes":
        limbs = like(legs)
    foot = like((0.20, 0.17, 0.15) if species.foot == "hoof" else coat.colour, grain=0.1)
    return Coat(
        trunk=figure.new(replace(main, on_body=True)),
        coat=figure.new(main),
        hair=figure.new(like(hair, grain=0.5, stroke=7.0)),
        muzzle=figure.new(like(muzzle)),
        legs=figure.new(limbs),
        foot=figure.new(foot),
    )
