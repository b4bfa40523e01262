"""workbench compare: the epochs of a run side by side: figures, intervals, gained and lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.evaluate import (
    BatchSize,
    NoArea,
    PoseScore,
    Progress,
    Sigmas,
    constants,
    keep,
)
from workbench.cli.options import (
    Adapter,
    Assume,
    Config,
    Data,
    Decoder,
    Demo,
    Device,
    Family,
    Flip,
    Images,
    Output,
    Partial,
    Remap,
    ScoreRule,
    SkeletonName,
)
from workbench.cli.places import check_room
from workbench.core import FLIP_BY_DEFAULT

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Predictions, Protocol

Files = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(
        help="A run's folder, checkpoints (an index or folder of parts is one), or predictions (.parquet)."
    ),
]
Resamples = Annotated[int, typer.Option("--resamples", help="Of the bootstrap over images.", min=2)]
Keep = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="A folder for the predictions, one .parquet for each epoch."),
]

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".pt2")


def command(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    skeleton: SkeletonName = None,
    device: Device = "cpu",
    flip: Flip = FLIP_BY_DEFAULT,
    decoder: Decoder = "",
    score: ScoreRule = "",
    pose_score: PoseScore = "bbox_keypoint",
    no_area: NoArea = False,
    sigmas: Sigmas = None,
    resamples: Resamples = 1000,
    batch_size: BatchSize = 16,
    out: Keep = None,
    demo: Demo = False,
) -> Answer:
    """Evaluate several epochs on the same instances, from their annotated boxes.

    With --out each epoch's predictions are written when they are complete: a call that was stopped goes on
    with the first epoch that is missing.
    """
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_data

        # First and last: the demo is to show what compare tells, not to try patience.
        files, config = [demo_checkpoints()[0], demo_checkpoints()[-1]], demo_config()
        data = data or demo_data()
    paths = epochs_of(files or [])
    titles = titles_of(paths)
    if data is None:
        raise ValueError("compare: expected --data with a COCO-format json or a built-in set")
    from workbench.core import DecodeOptions
    from workbench.data.opening import open_data
    from workbench.evaluation import Predictions, check_evaluable, compare, predict, protocol_of_loaded
    from workbench.evaluation.predictions import finished_predictions, origin_of
    from workbench.evaluation.protocol import judged_by
    from workbench.models import open_model

    pose_set = open_data(data, images, progress=Progress("drawing scenes"))
    judged: dict[str, Any] = {
        "area_rule": "box" if no_area else "annotated",
        "sigmas": constants(sigmas, len(pose_set.skeleton)),
    }
    # Sigmas that come with a model are known once the first one is open.
    if sigmas is not None or all(path.suffix == ".parquet" for path in paths):
        check_evaluable(pose_set, **judged)
    if out is not None:
        check_room(out / f"{titles[0]}.parquet")
    options = DecodeOptions(decoder, score)  # type: ignore[arg-type]  # decode refuses other words
    rules = {"flip": flip, "options": options, "score_rule": pose_score}
    epochs: list[tuple[str, Predictions]] = []
    protocols: list[Protocol | None] = []
    judge: PoseSet | None = None
    numbers: list[int | None] = []
    kept = {title: out / f"{title}.parquet" for title in titles} if out is not None else {}
    origins: dict[str, str] = {}
    resumed: list[str] = []
    for path, title in zip(paths, titles, strict=True):
        if path.suffix == ".parquet":
            found, protocol = Predictions.from_parquet(path)
            number = None
        else:
            loaded = open_model(
                path,
                config=config,
                family=family,
                adapter=adapter,
                remap=remap,
                output=output or (),
                assume=assume or (),
                skeleton=skeleton,
                allow_partial=allow_partial,
                device=device,
                run_config=not demo,
            )
            if sigmas is None and judge is None:
                judge = judged_by(pose_set, loaded.model.skeleton)
                check_evaluable(judge, **judged)
            protocol = protocol_of_loaded(loaded, **rules)
            number = loaded.checkpoint.epoch if loaded.checkpoint is not None else None
            # A person's own code may have changed since, and nothing tells: it predicts anew.
            if out is not None and adapter is None and (config is None or demo):
                how = {"batch_size": batch_size, "device": device, "remap": remap, "family": family}
                how |= {"output": output, "assume": assume} if output or assume else {}
                how |= {"skeleton": skeleton} if skeleton else {}
                origins[title] = origin_of(protocol, pose_set, **how)
            finished = finished_predictions(kept[title], origins[title]) if title in origins else None
            found = finished or predict(
                loaded.model,
                pose_set,
                batch_size=batch_size,
                progress=Progress(f"predicting with {path.name}"),
                **rules,
            )
            if finished is not None:
                resumed.append(title)
            elif title in origins:
                found.to_parquet(kept[title], epoch=number, protocol=protocol, origin=origins[title])
        epochs.append((title, found))
        protocols.append(protocol)
        numbers.append(number)
    report = compare(
        judge or pose_set,
        epochs,
        protocols,
        resamples=resamples,
        **judged,
    )
    if out is not None:
        for (title, found), one, number in zip(epochs, report.evaluations, numbers, strict=True):
            keep(kept[title], found, one, number, origins.get(title, ""))
    lines = [f"{pose_set.name}: {report.text()}"]
    if resumed:
        lines.append(f"read from {out}, predicted by an earlier call: {', '.join(resumed)}")
    return Answer({**report.to_json(), "resumed": resumed}, "\n".join(lines))


def epochs_of(files: list[Path]) -> list[Path]:
    """The files to compare: those given, a folder's checkpoints in the order of training.

    An index (``*.index.json``), and a folder with one, is one epoch: a model in parts.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: fewer than two in all.
    """
    from workbench.checkpoints.checkpoint_files import as_typed, index_of, models_in, training_order

    found: list[Path] = []
    for path in as_typed(files):
        if path.is_file() or (path.is_dir() and index_of(path) is not None):
            found.append(path)
        elif path.is_dir():
            found += training_order(models_in(path, (*SUFFIXES, ".parquet")))
        else:
            raise FileNotFoundError(f"{path}: no such checkpoint, predictions or folder")
    if len(found) < 2:
        raise ValueError(f"compare: expected a run's folder or two files or more, got {len(found)} files")
    return found


def titles_of(paths: list[Path]) -> list[str]:
    """What to call each file: its name without endings, after its folder's where names would be the same.

    Raises:
        ValueError: two of them would still be called the same.
    """
    from workbench.checkpoints.checkpoint_files import name_of

    titles = [path.name if path.is_dir() else name_of(path) for path in paths]
    if len(set(titles)) < len(titles):
        names = zip(paths, titles, strict=True)
        titles = [f"{path.absolute().parent.name}-{title}" for path, title in names]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice is not None:
        raise ValueError(f"compare: two files would both be called {twice}; name each once, or rename one")
    return titles
