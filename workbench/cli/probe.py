"""workbench probe: what is wrong with the input or the flip test of a model? The alternatives are tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.options import (
    DataOptions,
    Demo,
    Files,
    ModelOptions,
    Out,
    Rule,
    Sigmas,
    check_limit,
    demo_run,
    model_files,
    option,
    same_keypoints,
    with_loading,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, in_job, written

if TYPE_CHECKING:
    from workbench.core.job import Job
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.probes import FlipReport, ProbeReport
    from workbench.models import LoadedModel

SUBVERBS: dict[str, str] = {
    "input": "Try other normalisations, channel orders, value ranges, axes, paddings and half pixels.",
    "flip": "Find the shift of the flip test, wrong mirror pairs, double peaks, and UDP read as plain.",
}

DEMO_PART = "input"
"""Shown by `probe --demo`."""

Limit = Annotated[
    int | None,
    option("--limit", "Number of annotated images, from the first; 40 by default, 12 with --demo."),
]
Seed = Annotated[int, option("--seed", "Random seed of the bootstrap.")]
IMAGES, DEMO_IMAGES = 40, 12


def subcommand(name: str) -> Callable[..., Answer]:
    """The function of one probe."""

    def probe(
        files: Files = None,
        *,
        data: DataOptions,
        model: ModelOptions,
        rule: Rule = None,
        limit: Limit = None,
        sigmas: Sigmas = None,
        seed: Seed = 0,
        out: Out = None,
        demo: Demo = False,
    ) -> Answer:
        loaded, pose_set, indices = _opened(
            f"probe {name}", files, data, model, rule, limit, sigmas, out, demo
        )
        what, probed = _PROBES[name]
        report = in_job(f"{what} {loaded.title}", lambda job: probed(loaded, pose_set, indices, seed, job))
        answer = Answer({**report.to_json(), "checkpoint": loaded.title}, report.text())
        return written(with_loading(answer, loaded), out, report)

    return probe


def _opened(
    verb: str,
    files: list[Path] | None,
    data: DataOptions,
    model: ModelOptions,
    rule: list[str] | None,
    limit: int | None,
    sigmas: str | None,
    out: Path | None,
    demo: bool,
) -> tuple[LoadedModel, PoseSet, list[int]]:
    """The model, the data set, and the instances to be measured."""
    file = model_files(files)
    if demo:
        files, data, model = demo_run(data, model)
        file = files[-1]
        limit = DEMO_IMAGES if limit is None else limit
    model.require(verb, file)
    data.require(verb)
    check_limit(limit)
    check_file(out, *REPORT_ENDINGS)
    from workbench.data.pose_set import check_images

    # The demo's config comes with its checkpoints: it is read, and not run.
    loaded = model.open(file, rule, run_config=not demo)
    pose_set = data.open(verb, len(loaded.model.skeleton), model.skeleton)
    loaded, pose_set = same_keypoints(loaded, pose_set, sigmas)
    chosen = pose_set.first_images(IMAGES if limit is None else limit)
    if not chosen:
        raise ValueError(f"{pose_set.name}: {verb} needs labelled instances with boxes, and there are none")
    check_images(pose_set, chosen)
    indices = [i for image in chosen for i in pose_set.labelled_of_image[image]]
    return loaded, pose_set, indices


def _input(
    loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int], seed: int, job: Job
) -> ProbeReport:
    """Try every alternative to how images become the network's input; name those that are better."""
    from workbench.evaluation.probes import probe_input
    from workbench.evaluation.probes.probing import ap_of

    return probe_input(
        loaded.model, pose_set.samples(indices), title=f"{loaded.title} on {pose_set.name}", seed=seed,
        sigmas=pose_set.skeleton.sigmas, evaluated=ap_of(pose_set, indices), progress=job.progress,
        cancelled=job.cancelled,
    )  # fmt: skip


def _flip(loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int], seed: int, job: Job) -> FlipReport:
    """Find the shift that the flip test needs, and mirror pairs that are wrong."""
    from workbench.evaluation.probes import probe_flip

    return probe_flip(
        loaded.model, pose_set.samples(indices), title=f"{loaded.title} on {pose_set.name}", seed=seed,
        sigmas=pose_set.skeleton.sigmas, progress=job.progress, cancelled=job.cancelled,
    )  # fmt: skip


_PROBES: dict[str, tuple[str, Callable[..., ProbeReport | FlipReport]]] = {
    "input": ("trying alternatives with", _input), "flip": ("mirroring with", _flip),
}  # fmt: skip
"""Name -> what its job does, and what does it."""
