"""workbench ablate: what is each part of a protocol or a network worth? Many variants of one forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli import conditioned
from workbench.cli.conditioned import DEMO_LIMIT, demo_file, newest
from workbench.cli.options import (
    BOTTOM_UP_DEMO,
    DataOptions,
    Demo,
    Files,
    Flip,
    Limit,
    ModelOptions,
    Out,
    Rule,
    Sigmas,
    check_limit,
    judged_set,
    model_files,
    option,
    same_keypoints,
    with_demo,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, as_columns, check_file, run_in_job, written
from workbench.core import FLIP_BY_DEFAULT, NotAvailable
from workbench.core.capabilities import BottomUpModel, GroupingModel, PlacesMaps
from workbench.core.inspector import absent_capability
from workbench.core.report import signed_text

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ablation import Ablation


SUBVERBS: dict[str, str] = {
    "tags": "Tag maps of a bottom-up model: one map for all, mean, components, noise.",
    "faults": "Undo frequent errors of inference scripts one by one: flip, tags, score, stride, BGR, sides.",
    "conditioning": "Neck, text and refiner of a model with text, with intervals.",
    "grouping": "Steps of a bottom-up protocol: NMS, order, thresholds, flip, affine, resolutions, refine.",
}

DEMO_PART = "tags"
"""Shown by `ablate --demo`."""

Match = Annotated[float | None, option("--match", "A reported AP: name the variant with the nearest AP.")]
Maps = Annotated[
    str | None,
    option("--maps", "Tag maps, comma separated: add a variant where all keypoints use their mean."),
]
DEMO_IMAGES = 16


def subcommand(name: str) -> Callable[..., Answer]:
    """The function of one way to ablate."""
    return {"tags": tags, "grouping": grouping, "faults": faults, "conditioning": conditioning}[name]


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """What the sweeps of a bottom-up model have in common."""

    data: DataOptions
    model: ModelOptions
    files: Files = None
    rule: Rule = None
    flip: Flip = FLIP_BY_DEFAULT
    limit: Limit = None
    sigmas: Sigmas = None
    out: Out = None
    demo: Demo = False


def tags(*, options: SweepOptions, maps: Maps = None, match: Match = None) -> Answer:
    """AP when keypoints read other tag maps, fewer of them, or worse ones: what do the maps mean?"""
    from workbench.evaluation.ablation import sweep, tag_variants

    subset = _indices(maps)

    def swept(model: BottomUpModel, pose_set: PoseSet, **asked: Any) -> Ablation:
        return sweep(model, pose_set, tag_variants(model, subset, options.flip), **asked)

    return _sweep("tags", options, swept, match)


def grouping(*, options: SweepOptions, match: Match = None) -> Answer:
    """AP with one step from maps to people changed at a time, then several: what is each worth?"""
    from workbench.evaluation.ablation import grouping_variants, sweep

    def swept(model: BottomUpModel, pose_set: PoseSet, **asked: Any) -> Ablation:
        return sweep(
            model, pose_set, lambda outputs: grouping_variants(model, outputs, options.flip), **asked
        )

    return _sweep("grouping", options, swept, match)


def faults(*, options: SweepOptions) -> Answer:
    """AP with each frequent error of inference scripts undone: which of them is in this pipeline?"""
    from workbench.evaluation.ablation import fault_sweep

    def swept(model: BottomUpModel, pose_set: PoseSet, **asked: Any) -> Ablation:
        return fault_sweep(model, pose_set, reference_flips=options.flip, **asked)

    return _sweep("faults", options, swept)


def _sweep(
    question: str, asked: SweepOptions, swept: Callable[..., Ablation], match: float | None = None
) -> Answer:
    """Evaluate the variants of one question and write what was asked for."""
    from workbench.evaluation import check_counting

    file, data, limit = model_files(asked.files), asked.data, asked.limit
    if asked.demo:
        from workbench.checkpoints.demo import demo_checkpoints

        file, limit = demo_checkpoints(BOTTOM_UP_DEMO)[-1], limit or DEMO_IMAGES
        data = with_demo(data, BOTTOM_UP_DEMO)
    asked.model.require("ablate", file)
    data.require("ablate")
    check_limit(limit)
    check_file(asked.out, *REPORT_ENDINGS)
    loaded = asked.model.open(file, asked.rule)
    model = require_bottom_up(loaded.model, f"ablate {question}")
    pose_set = data.open("ablate", len(model.skeleton), asked.model.skeleton)
    loaded, pose_set = same_keypoints(loaded, pose_set, asked.sigmas)
    model = require_bottom_up(loaded.model, f"ablate {question}")
    check_counting(pose_set)
    # The mirrored pass is a variant of grouping even where the reference goes without it.
    flip = asked.flip or (question in ("grouping", "faults") and bool(model.skeleton.mirror))
    report = run_in_job(
        f"predicting with {loaded.title}", swept, model, pose_set, flip=flip,
        image_ids=pose_set.first_images(limit), title=loaded.title, question=question,
    )  # fmt: skip
    facts = report.to_json()
    if match is not None:
        nearest, near = report.match(match)
        facts["match"] = {
            "ap": match, "nearest": nearest.name, "nearest_ap": nearest.ap, "near": near,
            "away": abs(nearest.ap - match),
        }  # fmt: skip
    return written(Answer(facts, _text(report, match)), asked.out, report)


def require_groups(model: Any, verb: str) -> GroupingModel:
    """The model itself.

    Raises:
        NotAvailable: it does not find people by itself.
    """
    if not isinstance(model, GroupingModel):
        raise NotAvailable(
            f"{verb}: this model is top-down: it has no tags and no grouping; give the checkpoint of a "
            "bottom-up model"
        )
    return model


def require_bottom_up(model: Any, verb: str) -> BottomUpModel:
    """The model itself.

    Raises:
        NotAvailable: it does not find people by itself, or does not state where its maps lie.
    """
    grouping = require_groups(model, verb)
    if not isinstance(grouping, BottomUpModel):
        raise NotAvailable(f"{verb}: {absent_capability(PlacesMaps)}")
    return grouping


def _indices(text: str | None) -> list[int]:
    try:
        return [int(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--maps: expected indices with commas between, got {text!r}") from None


def _text(report: Ablation, match: float | None) -> str:
    rows = report.table()
    columns = [name for name in rows[0] if name not in ("name", "about", "delta", "people")]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  " + " ".join(f"{name:>5}" for name in columns) + "   delta people"]
    for row in rows:
        figures = " ".join("    -" if row[name] is None else f"{row[name]:5.3f}" for name in columns)
        lines.append(
            f"{row['name']:{width}}  {figures}  {signed_text(row['delta'], '+6.3f')} {row['people']:6d}"
        )
    calls = f"; inputs of the network, with mirrored ones and other scales: {report.network_calls}"
    lines += ["", report.summary(), f"looks at images: {report.forward_passes}{calls}"]
    if match is not None:
        nearest, near = report.match(match)
        described = f"{nearest.name} (AP {nearest.ap:.3f}): {nearest.about}"
        if near:
            lines.append(f"AP {match:.3f} is near to: {described}")
        else:
            lines.append(
                f"AP {match:.3f}: no variant is near, so none of these changes explains it; the nearest is "
                f"{described}, {abs(nearest.ap - match):.3f} away"
            )
    return "\n".join([*lines, f"protocol: {report.protocol}"])


# workbench ablate conditioning: what do condition, neck and refiner cost or give, with intervals?


def conditioning(
    files: Files = None,
    *,
    options: conditioned.ConditionedOptions,
    limit: conditioned.Limit = None,
    sigmas: Sigmas = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """AP with and without every part, compared with the same path with the part."""
    from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
    from workbench.inspectors.conditioning.passes import spread

    check_file(out, *REPORT_ENDINGS)
    if demo:
        files, limit = [demo_file()], limit or DEMO_LIMIT
    loaded = options.open(newest(files))
    pose_set = judged_set(options.pose_set(), loaded.model.skeleton, sigmas)
    found = run_in_job(
        f"all paths through {loaded.title}", predicted, loaded.model, pose_set, spread(pose_set, limit),
        title=loaded.title,
    )  # fmt: skip
    report, order = ablation(found, loaded.title), ranking(found, pose_set, loaded.title)
    facts = {**report.to_json(), "ranking": order.to_json()}
    figures = report.reference.figures
    lines = [
        f"{'as it is':28} AP {figures['AP']:.3f}  AR {figures['AR']:.3f}",
        *as_columns(report.table()),
        "",
        report.summary(),
        "",
        *as_columns(order.table()),
        "",
        order.summary(),
        f"protocol: {report.reference.protocol.text()}",
    ]
    return written(Answer(facts, "\n".join(lines)), out, report)
