"""workbench ablate: what is each part of a protocol or a network worth? Many variants, one look each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import (
    Adapter,
    Assume,
    Config,
    Data,
    Demo,
    Device,
    Family,
    Files,
    Flip,
    Images,
    Out,
    Output,
    Partial,
    Remap,
    Rule,
    SkeletonName,
    model_files,
)
from workbench.cli.places import check_file
from workbench.core import FLIP_BY_DEFAULT
from workbench.core.files import csv_text, write_text

if TYPE_CHECKING:
    from workbench.evaluation.ablation import Ablation
    from workbench.models.bottom_up import BottomUp

SUBVERBS: dict[str, str] = {
    "tags": "Tag maps of a bottom-up model: map n for all, mean, components, noise.",
    "faults": "Mistakes of inference scripts, each undone: flip, tags, score, stride, BGR, sides.",
    "conditioning": "Neck, text and refiner of a model with text, with intervals.",
    "grouping": "Its protocol: NMS, order, thresholds, flip, affine, resolutions, refine.",
}

Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", help="The first so many images; all by default, 16 with --demo."),
]
Match = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--match", help="An AP that somebody has seen: which variant comes nearest to it?"),
]
Maps = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--maps", help="Indices with commas between: their mean for all keypoints, too."),
]
Category = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--category", help="Id or name of the one category to read."),
]
DEMO, DEMO_IMAGES = "higherhrnet-demo", 16


def subcommand(name: str) -> Callable[..., Answer]:
    """The function of one way to ablate."""
    from workbench.cli.ablate_conditioning import conditioning
    from workbench.cli.ablate_faults import faults

    return {"tags": tags, "grouping": grouping, "faults": faults, "conditioning": conditioning}[name]


def tags(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    skeleton: SkeletonName = None,
    device: Device = "cpu",
    rule: Rule = None,
    flip: Flip = FLIP_BY_DEFAULT,
    maps: Maps = None,
    match: Match = None,
    limit: Limit = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """What do the tag maps mean? AP when keypoints read other maps, fewer of them, or worse ones."""
    from workbench.evaluation.ablation import tag_variants

    subset = _indices(maps)
    opening = {
        "config": config,
        "family": family,
        "adapter": adapter,
        "remap": remap,
        "output": output or (),
        "assume": assume or (),
        "skeleton": skeleton,
        "allow_partial": allow_partial,
        "device": device,
    }
    return swept(
        lambda model: tag_variants(model, subset, flip),
        "tag maps",
        (model_files(files), data, images, category),
        opening,
        rule or [],
        flip,
        match,
        limit,
        out,
        demo,
    )


def grouping(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    skeleton: SkeletonName = None,
    device: Device = "cpu",
    rule: Rule = None,
    flip: Flip = FLIP_BY_DEFAULT,
    match: Match = None,
    limit: Limit = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """What is each step from maps to people worth? AP with one changed at a time, then several."""
    from workbench.evaluation.ablation import grouping_variants

    opening = {
        "config": config,
        "family": family,
        "adapter": adapter,
        "remap": remap,
        "output": output or (),
        "assume": assume or (),
        "skeleton": skeleton,
        "allow_partial": allow_partial,
        "device": device,
    }
    return swept(
        lambda model: lambda outputs: grouping_variants(model, outputs, flip),
        "grouping",
        (model_files(files), data, images, category),
        opening,
        rule or [],
        flip,
        match,
        limit,
        out,
        demo,
    )


def swept(
    variants_of: Callable[[BottomUp], Any],
    question: str,
    source: tuple[Path | list[Path] | None, str | None, Path | None, str | None],
    opening: dict[str, Any],
    rules: list[str],
    flip: bool,
    match: float | None,
    limit: int | None,
    out: Path | None,
    demo: bool,
) -> Answer:
    """A sweep over the variants of one question, told and kept."""
    from workbench.cli.evaluate import Progress
    from workbench.data.opening import open_data
    from workbench.evaluation import check_evaluable
    from workbench.evaluation.ablation import sweep
    from workbench.evaluation.protocol import judged_by
    from workbench.models import open_model

    file, data, images, category = source
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_data

        file, data = file or demo_checkpoints(DEMO)[-1], data or demo_data(DEMO)
        limit = limit or DEMO_IMAGES
    if file is None and opening["adapter"] is None:
        raise ValueError("ablate: expected a checkpoint, or an --adapter that needs none; or --demo")
    if data is None:
        raise ValueError("ablate: expected --data with a COCO-format json or a built-in set")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit: expected at least 1 image, got {limit}")
    check_file(out, ".html", ".json", ".csv")
    loaded = open_model(file, **opening).with_rules(rules)
    model = require_bottom_up(loaded.model, f"ablate {question.split()[0]}")
    pose_set = open_data(data, images, category, Progress("drawing scenes"))
    pose_set = judged_by(pose_set, loaded.model.skeleton)
    check_evaluable(pose_set)
    report = sweep(
        model,
        pose_set,
        variants_of(model),
        image_ids=list(pose_set.images)[:limit],
        # The mirrored pass is a variant of grouping even where the reference goes without it.
        flip=flip or (question in ("grouping", "faults") and bool(model.skeleton.mirror)),
        title=loaded.title,
        question=question,
        progress=Progress(f"looking with {loaded.title}"),
    )
    facts = report.to_json()
    if match is not None:
        nearest, near = report.match(match)
        facts["match"] = {
            "ap": match, "nearest": nearest.name, "nearest_ap": nearest.ap, "near": near,
            "away": abs(nearest.ap - match),
        }  # fmt: skip
    if out is not None:
        _keep(report, facts, out)
        facts["written"] = str(out)
    return Answer(facts, _told(report, match, out))


def require_bottom_up(model: Any, verb: str) -> BottomUp:
    """The model itself.

    Raises:
        NotAvailable: it is not bottom-up.
    """
    from workbench.core import Groups, NotAvailable

    if not isinstance(model, Groups):
        raise NotAvailable(
            f"{verb}: this model sees one box at a time: it has no tags and no "
            "grouping; give a bottom-up checkpoint such as HigherHRNet's"
        )
    return cast("BottomUp", model)


def _indices(text: str | None) -> list[int]:
    try:
        return [int(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--maps: expected indices with commas between, got {text!r}") from None


def _keep(report: Ablation, facts: dict[str, Any], out: Path) -> None:
    if out.suffix == ".html":
        write_text(out, report.plot().to_html())
    elif out.suffix == ".json":
        from workbench.cli import as_text

        write_text(out, as_text(facts) + "\n")
    else:
        write_text(out, csv_text(report.table()))


def _told(report: Ablation, match: float | None, out: Path | None) -> str:
    rows = report.table()
    columns = [name for name in rows[0] if name not in ("name", "about", "delta", "people")]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  " + " ".join(f"{name:>5}" for name in columns) + "   delta people"]
    for row in rows:
        figures = " ".join("    -" if row[name] is None else f"{row[name]:5.3f}" for name in columns)
        lines.append(f"{row['name']:{width}}  {figures}  {row['delta']:+6.3f} {row['people']:6d}")
    calls = f"; inputs of the network, with mirrored ones and other scales: {report.network_calls}"
    lines += ["", report.summary(), f"looks at images: {report.forward_passes}{calls}"]
    if match is not None:
        nearest, near = report.match(match)
        told = f"{nearest.name} (AP {nearest.ap:.3f}): {nearest.about}"
        if near:
            lines.append(f"AP {match:.3f} is near to: {told}")
        else:
            lines.append(
                f"AP {match:.3f}: no variant is near, so none of these changes explains it; the nearest is "
                f"{told}, {abs(nearest.ap - match):.3f} away"
            )
    return "\n".join([*lines, *([f"written: {out}"] if out is not None else [])])
