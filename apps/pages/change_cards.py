"""From a change of AP to the instances behind it: gained, lost and most changed ones with their poses."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from apps.compare.page import cut_outs
from workbench.core.errors import USER_ERRORS, sentence
from workbench.core.job import current_checkpoint
from workbench.evaluation import Predictions
from workbench.evaluation.calibration import pairs_of

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Comparison, Evaluation

# Instances of a group that are drawn; the list of the comparison's own file has all of them.
SHOWN = 8


def change_html(report: Comparison, found: Sequence[Predictions], pose_set: PoseSet) -> str:
    """The change of AP from the first to the last result, which opens groups of instances, which open them.

    Everything is in the page, so that a click asks the server nothing: the change, a group, an instance.

    Args:
        report: of the results.
        found: the predictions of each, in the same order.
        pose_set: the annotations with their images.

    Raises:
        Cancelled: the job in whose thread this runs was cancelled.
    """
    change = report.delta.get("AP")
    if change is None:
        return ""
    ends = [_by_truth(found[i], report.evaluations[i]) for i in (0, -1)]
    groups = (
        ("gained", "gained: OKS below .5 in A, above it in B", report.gained()),
        ("lost", "lost: OKS above .5 in A, below it in B", report.lost()),
        ("changed", "changed most", report.most_changed()),
    )
    parts = []
    for name, words, rows in groups:
        cards = "".join(_card(report, ends, pose_set, g) for g in rows[:SHOWN].tolist())
        more = f", the first {SHOWN} of them" if len(rows) > SHOWN else ""
        count = f"{len(rows)} " if name != "changed" else ""
        parts.append(
            f'<details data-testid="res-{name}"><summary>{count}{html.escape(words)}{more}</summary>'
            f"{cards or '<p>none</p>'}</details>"
        )
    return (
        f'<details class="res-change" data-testid="res-ap"><summary>AP {html.escape(str(change))}: '
        f"on which instances?</summary>{''.join(parts)}</details>"
    )


def _by_truth(found: Predictions, evaluation: Evaluation) -> Predictions:
    """The pose of each annotated instance, in the order of the ground truth; nan where there is none."""
    G, K = evaluation.ap.truth.keypoints.shape[:2]
    points, scores = np.full((G, K, 2), np.nan), np.zeros((G, K))
    rows, target = pairs_of(found, evaluation)
    points[target], scores[target] = found.keypoints[rows], found.scores[rows]
    ids, boxes = np.zeros(G, np.int64), np.full((G, 4), np.nan)
    return Predictions(ids, ids, boxes, points, scores, np.zeros(G))


def _card(report: Comparison, ends: Sequence[Predictions], pose_set: PoseSet, g: int) -> str:
    """One instance: its OKS in A and B, the annotation and both poses on the image."""
    current_checkpoint()
    truth = report.evaluations[0].ap.truth
    number, image_id = int(truth.ids[g]), int(truth.image_ids[truth.image[g]])
    instance = next(one for one in pose_set.instances if one.annotation_id == number)
    oks = [float(report.oks[i, g]) for i in (0, -1)]
    name = f"{pose_set.images[image_id].path.stem}/{number}"
    try:
        pictures = cut_outs(
            pose_set.image(image_id), instance.box, instance.truth, [(one, g) for one in ends],
            pose_set.skeleton,
        )  # fmt: skip
    except USER_ERRORS as missing:
        shown = f"<p>{html.escape(sentence(missing))}</p>"
    else:
        titles = ("annotation", *(f"{letter}, OKS {v:.2f}" for letter, v in zip("AB", oks, strict=True)))
        shown = "".join(
            f'<figure><img alt="{html.escape(f"{name}, {title}")}" src="{source}">'
            f"<figcaption>{html.escape(title)}</figcaption></figure>"
            for title, source in zip(titles, pictures, strict=True)
        )
    return (
        f'<details data-testid="res-instance"><summary>{html.escape(name)}: OKS {oks[0]:.2f} → {oks[1]:.2f}'
        f'</summary><div class="res-cases">{shown}</div></details>'
    )
