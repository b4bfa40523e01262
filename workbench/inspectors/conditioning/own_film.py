"""What do γ and β make of the features in code of the user's own, whose layer is named?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Run
from workbench.core.capabilities import HasText
from workbench.inspectors.conditioning.film import Film, Layer, effective_rank
from workbench.inspectors.conditioning.passes import FEATURES, apart, cells, passed

if TYPE_CHECKING:
    pass

from workbench.inspectors.conditioning.evidence import noise, without_text


def own_film(run: Run, bins: int, seed: int) -> Film:
    """γ and β as the named layer leaves them, and what the text makes of the features, in the training pass.

    Args:
        run: of a model of the user's own.
        bins: of the histograms.
        seed: of the random text.

    Raises:
        NotAvailable: no layer is named, or the features or the text are not at hand.
    """
    model: Any = run.model
    tap = model.text_taps.get("film")
    if tap is None:
        raise NotAvailable(
            "film: nothing declares which layer of your code leaves γ and β; name its tap: --film-tap NAME, "
            "or text_taps['film'] in an adapter (workbench paths lists the taps)"
        )
    kept = passed(run, "training")
    try:
        without = without_text(run, "training")
    except NotAvailable:
        without = None
    if tap not in kept.parts:
        raise NotAvailable(f"film: your training pass does not reach the tap {tap}")
    if FEATURES not in kept.parts:
        raise NotAvailable("film: training_pass of your adapter does not give Passed.features")
    leaving = kept.parts[tap]
    if leaving.ndim < 2 or leaving.shape[1] % 2:
        raise NotAvailable(
            f"film: expected γ and β side by side, [N, 2C], at the tap {tap}, got {list(leaving.shape)}"
        )
    gamma, beta = np.split(leaving.reshape(len(leaving), leaving.shape[1], -1).mean(-1), 2, axis=1)
    other = passed(run, "training", noise(seed))
    after = kept.parts[FEATURES]
    # nan where the code cannot do without text: then nobody knows what it would give the head.
    before = np.full(after.shape, np.nan) if without is None else without.parts[FEATURES]
    known = after.ndim == 4 and without is not None
    rank = [effective_rank(cells(maps)) if known else float("nan") for maps in (before, after)]
    layer = Layer(
        name=tap,
        gamma=gamma,
        beta=beta,
        # What lies between this layer and the features is the user's code: no gate is known.
        gate=float("nan"),
        change=apart(before, after),
        text_effect=apart(after, other.parts[FEATURES]),
        rank_before=rank[0],
        rank_after=rank[1],
    )
    text = run.model.text if isinstance(run.model, HasText) else None
    return Film(
        title=run.title,
        layers=(layer,),
        text=None,
        subjects=() if text is None else text.subjects,
        images=len(run.samples),
        at_inference=tap in passed(run, "predict").parts,
        bins=bins,
    )
