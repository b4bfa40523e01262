"""What does a sweep over 25 variants cost beside one evaluation? HigherHRNet-W32 at 512, one look per image.

The network is asked in full, and what it would say is planted: perfect maps of the drawn people, so that
grouping has people to group and the figures are known. The peer is one evaluation by the reference rules.
Processor time: both are minutes of one core, in which other programs come and go.
"""

from __future__ import annotations

import time

import torch

from benchmarks.row import Row

IMAGES = 2
VARIANTS = 25
LIMIT = 1.5  # times one evaluation
INPUT = 512


def rows() -> list[Row]:
    """One row for each kind of sweep."""
    from tests.evaluation.ablation.planted import planted
    from workbench.data import builtin
    from workbench.evaluation import evaluate
    from workbench.evaluation.ablation import grouping_variants, sweep, tag_variants
    from workbench.evaluation.predict import predict_people
    from workbench.models.higherhrnet.network import W32, HigherHRNet

    scenes = builtin("scenes-people-val")
    ids = list(scenes.images)[:IMAGES]
    indices = [i for i, one in enumerate(scenes.instances) if one.image_id in ids]
    # Seeded: numbers near zero in a network's weights cost a processor many times as much as others.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = planted(scenes, ids, INPUT, through=HigherHRNet(W32).eval())

    def evaluation() -> float:
        started = time.process_time()
        evaluate(scenes, predict_people(model, scenes, ids, flip=True), indices=indices)
        return time.process_time() - started

    sweeps = {
        "grouping": lambda outputs: grouping_variants(model, outputs, flip=True)[: VARIANTS + 1],
        "tags": lambda outputs: tag_variants(model, flip=True)[: VARIANTS + 1],
    }
    # Both sides once before the clock runs: the first pass also reserves memory and imports.
    predict_people(model, scenes, ids[:1], flip=True)
    sweep(model, scenes, sweeps["grouping"], image_ids=ids[:1])
    measured: list[Row] = []
    for name, variants in sweeps.items():
        # Before and after: even a processor is not equally fast for a minute.
        before = evaluation()
        started = time.process_time()
        report = sweep(model, scenes, variants, image_ids=ids)
        taken = time.process_time() - started
        once = (before + evaluation()) / 2
        measured.append(
            {
                "what": f"ablate {name}, {len(report.variants)} variants and the reference, "
                f"HigherHRNet-W32-{INPUT} with mirrored images, {IMAGES} images, processor time; "
                f"{report.forward_passes} looks",
                "ours": f"{taken:.1f} s",
                "peer": f"one evaluation {once:.1f} s",
                "ratio": f"{taken / once:.2f} of it",
                "target": f"<= {LIMIT:g} evaluations",
                "met": taken <= LIMIT * once and report.forward_passes == IMAGES,
            }
        )
    return measured
