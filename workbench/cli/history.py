"""workbench history: a run's predictions over all epochs, one Parquet file each, and questions to them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import MISTAKES, sentence
from workbench.cli.evaluate import write_predictions
from workbench.cli.options import (
    BatchSize,
    DataOptions,
    Demo,
    EvaluatorOptions,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    argument,
    judged_set,
    option,
)
from workbench.cli.output import Answer, as_columns, check_room, in_job, run_in_job
from workbench.core.errors import ReadingNote
from workbench.core.files import sha256_of, write_text
from workbench.core.report import counted

if TYPE_CHECKING:
    import numpy as np

    from workbench.data import PoseSet
    from workbench.evaluation.history import History

Run = Annotated[
    Path | None, argument("A folder of predictions (.parquet); or a run's folder, with --data and --out.")
]
Folder = Annotated[
    Path | None,
    option("--out", "A folder for a run's predictions: one .parquet per epoch, and manifest.json."),
]
Image = Annotated[str | None, option("--image-id", "One image through all epochs.")]
Instance = Annotated[str | None, option("--annotation-id", "One instance: its OKS and score in every epoch.")]
Worst = Annotated[int | None, option("--worst", "The worst instances of this epoch.")]
Between = Annotated[
    str | None, option("--between", "Two epochs, A,B: instances gained and lost, keypoints that got worse.")
]
Forget = Annotated[
    bool, option("--forgetting", "When each instance is right first, and when it is forgotten.")
]
Right = Annotated[float, option("--right", "OKS above which an instance counts as right.")]
Count = Annotated[int, option("--count", "Maximum number of rows of a list.", min=1)]
Import = Annotated[
    list[str] | None,
    option(
        "--import",
        "EPOCH=FILE: a COCO result file (.json), mmpose dump (.pkl) or FiftyOne export (folder, or "
        "folder#field) as this epoch; may be repeated.",
    ),
]
Export = Annotated[
    str | None,
    option(
        "--export",
        "EPOCH=FILE.json: write an epoch as a COCO result file; EPOCH=FOLDER: as a FiftyOne data set.",
    ),
]
Sort = Annotated[
    bool, option("--compact", "Also write a copy sorted by image, which answers --image-id faster.")
]
Mixed = Annotated[
    bool, option("--mixed", "Also compare epochs made under different rules or of different skeletons.")
]

DEMO_IMAGES = 12


def command(
    run: Run = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    image_id: Image = None,
    annotation_id: Instance = None,
    worst: Worst = None,
    between: Between = None,
    forgetting: Forget = False,
    right: Right = 0.5,
    count: Count = 20,
    import_: Import = None,
    export: Export = None,
    compact: Sort = False,
    mixed: Mixed = False,
    batch_size: BatchSize = 16,
    out: Folder = None,
    demo: Demo = False,
) -> Answer:
    """Predict what is missing, then ask: an image over the epochs, an epoch's worst, or two epochs.

    A call that was stopped goes on with the first epoch that is missing.
    """
    import tempfile

    from workbench.evaluation import truth_of
    from workbench.evaluation.epoch_scores import truth_digest
    from workbench.evaluation.history import query_epochs
    from workbench.evaluation.manifest import check_manifest, check_truth, write_manifest
    from workbench.evaluation.protocol import judged_as

    if demo:
        with tempfile.TemporaryDirectory() as folder:
            history = demo_history(Path(folder) if out is None else _new_folder(out))
            image, instance = _asked_ids(history, image_id, annotation_id)
            answer = _asked(history, image, instance, worst, between, count, [])
            return _with_written(_with_forgetting(answer, history, forgetting, image, right, count), out)
    if run is None:
        raise ValueError("history: expected a folder of predictions or of a run, or --demo")
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder")
    folder = run
    made: list[dict[str, Any]] = []
    new = bool(import_) or not any(run.glob("*.parquet")) or out is not None
    pose_set = data.open("history", skeleton=model.skeleton) if new or data.data is not None else None
    digest = ""
    if pose_set is not None:
        folder = out or run
        counting = evaluator.rules(len(pose_set.skeleton))
        digest = truth_digest(truth_of(pose_set, counting["area_rule"]))
        check_truth(folder, pose_set.name, digest)
    if new and pose_set is not None:
        if import_:
            _imported(import_, pose_set, folder, evaluator)
        elif out is None:
            raise ValueError("history: expected --out with a folder for the predictions of this run")
        if not import_ or out is not None:
            made = _predicted(run, folder, pose_set, model, reading, pose_score, evaluator, batch_size)
        write_manifest(folder, pose_set.name, made, truth=digest)
    history = query_epochs(folder, mixed=mixed)
    wrong = check_manifest(folder, history)
    if pose_set is not None and evaluator.sigmas is None:
        pose_set = judged_as(pose_set, history.protocols.values())
    note = "" if pose_set is None else _scored(history, pose_set, evaluator)
    if compact:
        in_job("sorting by image", lambda job: history.index_images(job.progress, job.cancelled))
    written = None if export is None else _exported(export, history, pose_set)
    image, instance = _asked_ids(history, image_id, annotation_id, pose_set)
    answer = _asked(history, image, instance, worst, between, count, wrong, note, pose_set)
    answer = _with_forgetting(answer, history, forgetting, image, right, count, pose_set)
    asked = forgetting or any(one is not None for one in (image_id, annotation_id, worst, between))
    return _with_written(answer, written, alone=not asked)


def _with_written(answer: Answer, path: Path | None, alone: bool = False) -> Answer:
    """The answer with what was written, if anything; alone: nothing else was asked for."""
    if path is None:
        return answer
    text = f"written: {path}"
    return Answer({**answer.facts, "written": str(path)}, text if alone else f"{answer.text}\n\n{text}")


def _new_folder(out: Path) -> Path:
    """The folder for a demo's predictions.

    Raises:
        ValueError: it holds predictions, which the demo's would replace.
    """
    if any(out.glob("*.parquet")):
        raise ValueError(f"--out: {out} holds predictions already; name another folder for those of the demo")
    check_room(out / "epoch.parquet")
    return out


def _asked_ids(
    history: History, image_id: str | None, annotation_id: str | None, pose_set: PoseSet | None = None
) -> tuple[int | None, int | None]:
    """The integers of the image and of the instance that are asked for; None where nothing is asked.

    Raises:
        ValueError: an id is text, and no data set has it; or no epoch has a pose of it.
    """
    numbers = (int, int) if pose_set is None else (pose_set.image_number, pose_set.instance_number)

    def number(option: str, text: str | None, of: Callable[[str], Any]) -> int | None:
        try:
            return None if text is None else int(of(text))
        except ValueError:
            raise ValueError(
                f"{option}: expected a number, or an id of the data set that --data names, got {text!r}"
            ) from None

    image = number("--image-id", image_id, numbers[0])
    instance = number("--annotation-id", annotation_id, numbers[1])
    if pose_set is None or image not in pose_set.images:
        _check_asked_ids(history, image, instance)
    return image, instance


def _check_asked_ids(history: History, image_id: int | None, annotation_id: int | None) -> None:
    """Raise ValueError where no epoch has a pose of the image or of the instance that is asked for."""
    name = history.folder.name
    if image_id is not None and not len(history.poses_of_image(image_id)):
        listed = _ids(history.predicted_ids()[1])
        raise ValueError(f"--image-id: no epoch of {name} has a pose of image {image_id}; {listed}")
    if annotation_id is not None and not history.of(annotation_id):
        found = history.predicted_ids()[0]
        listed = "" if found is None else f"; {_ids(found)}"
        raise ValueError(
            f"--annotation-id: no epoch of {name} has a pose of instance {annotation_id}{listed}"
        )


def _ids(found: np.ndarray, most: int = 8) -> str:
    """Which ids there are, the first ones by name."""
    more = f" ... ({len(found)} in all)" if len(found) > most else ""
    return f"there are {', '.join(map(str, found[:most].tolist()))}{more}"


def _scored(history: History, pose_set: PoseSet, evaluator: EvaluatorOptions) -> str:
    """Compute AP of every epoch that is new or changed; the sentence tells which part of the set counts."""
    from workbench.evaluation.predicted_part import part_of_history

    part = part_of_history(pose_set, history)
    counting = {**evaluator.rules(len(pose_set.skeleton)), "indices": part.indices}
    run_in_job(
        "AP of the epochs", history.score, pose_set, workers=os.cpu_count() or 1, **counting,
        kept="epochs that were scored are kept; the same command goes on with the others",
    )  # fmt: skip
    return part.sentence


def _predicted(
    run: Path,
    folder: Path,
    pose_set: PoseSet,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: str,
    evaluator: EvaluatorOptions,
    batch_size: int,
) -> list[dict[str, Any]]:
    """Predict every checkpoint of a run whose file is missing; what the manifest says of each.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: not one of them could be read.
    """
    from workbench.checkpoints.checkpoint_files import epoch_of, models_in, name_of, training_order
    from workbench.cli.compare import predicted
    from workbench.evaluation import check_evaluable, evaluate

    paths = training_order(models_in(run))
    if not paths:
        raise FileNotFoundError(f"{run}: no checkpoint and no predictions in this folder")
    check_room(folder / "epoch.parquet")
    counting = evaluator.rules(len(pose_set.skeleton))
    rules = reading.rules(pose_score)
    # A person's own code may have changed since, and nothing tells: its predictions are made anew.
    finished = folder if model.adapter is None and model.config is None else None
    records: list[dict[str, Any]] = []
    titles: set[str] = set()
    for path in paths:
        number, title = epoch_of(path)[0], name_of(path)
        if title in titles:  # its predictions would take the place of the other's
            said = f"workbench: {path.name} is passed over: another file of this epoch has the same name"
            typer.echo(said, err=True)
            continue
        try:
            loaded = model.open(path).named_as(pose_set)
            truth = judged_set(pose_set, loaded.model.skeleton, evaluator.sigmas)
            check_evaluable(truth, **counting)
            epoch = predicted(loaded, path, title, truth, model, rules, batch_size, finished)
        except MISTAKES as mistake:
            typer.echo(f"workbench: {path.name} is passed over: {sentence(mistake)}", err=True)
            continue
        number = epoch.number if epoch.number is not None else number
        if number is None or any(one["epoch"] == number for one in records):
            typer.echo(
                f"workbench: {path.name} is passed over: its epoch is not known or there twice", err=True
            )
            (folder / f"{epoch.title}.parquet").unlink(missing_ok=True)
            continue
        titles.add(title)
        file = folder / f"{epoch.title}.parquet"
        if not epoch.resumed or not _has_oks(file):
            report = evaluate(truth, epoch.predictions, epoch.protocol, **counting)
            write_predictions(file, epoch.predictions, report, number, epoch.origin)
        records.append({"epoch": number, "checkpoint": path.name, "checkpoint_sha256": sha256_of(path)})
    if not records:
        raise ValueError(
            f"{run}: not one of {counted(len(paths), 'checkpoint')} could be predicted with; see above"
        )
    return records


def _has_oks(file: Path) -> bool:
    """Whether a file was written after its poses were compared with the annotations."""
    import pyarrow.parquet as pq

    column = pq.read_table(file.absolute(), columns=["oks"])["oks"]
    return column.null_count < len(column)


def _imported(wanted: list[str], pose_set: PoseSet, folder: Path, evaluator: EvaluatorOptions) -> None:
    """Result files as epochs of the folder.

    Raises:
        ValueError: not EPOCH=FILE, or no result file.
        FileNotFoundError: no such file.
    """
    from workbench.data.coco import read_json
    from workbench.evaluation import Predictions, evaluate
    from workbench.evaluation.exchange_formats import is_dump, read_dump, read_fiftyone
    from workbench.evaluation.result_lists import minus_ones, results_of

    counting = evaluator.rules(len(pose_set.skeleton))
    for one in wanted:
        number, path = _numbered(one, "--import")
        bare, field = Path(str(path).partition("#")[0]), str(path).partition("#")[2]
        if bare.is_dir():
            found = read_fiftyone(bare, pose_set, field)
        elif not path.is_file():
            raise FileNotFoundError(f"{path}: no such result file")
        elif is_dump(path):
            found = read_dump(path)
        else:
            listed = results_of(pose_set, read_json(path))
            found = Predictions.from_coco(listed, path.name, len(pose_set.skeleton))
        for note in minus_ones(found, path.name):
            warnings.warn(note, ReadingNote, stacklevel=2)
        report = evaluate(pose_set, found, **counting)
        found.to_parquet(folder / f"epoch_{number}.parquet", epoch=number, protocol=report.protocol)


def _exported(wanted: str, history: History, pose_set: PoseSet | None) -> Path:
    """Write one epoch as a COCO result file, or as a FiftyOne data set; where to.

    Raises:
        KeyError: there is no such epoch.
        ValueError: FiftyOne needs the images, and no data set was named.
    """
    from workbench.evaluation import Predictions
    from workbench.evaluation.exchange_formats import write_fiftyone

    number, path = _numbered(wanted, "--export")
    if number not in history.files:
        raise KeyError(f"--export: no epoch {number}; there are {', '.join(map(str, history.files))}")
    found = Predictions.from_parquet(history.files[number])[0]
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(found.to_coco(), allow_nan=False))
    elif pose_set is None:
        raise ValueError("--export: a FiftyOne data set names the images; give them with --data")
    else:
        write_fiftyone(path, found, pose_set)
    return path


def _numbered(words: str, option: str) -> tuple[int, Path]:
    number, sign, path = words.partition("=")
    if not sign or not number.strip().isdecimal() or len(number) > 9 or not path:
        raise ValueError(f"{option}: expected EPOCH=FILE such as 20=results.json, got {words!r}")
    return int(number), Path(path)


def demo_history(folder: Path, progress: Callable[[int, int], None] | None = None) -> History:
    """Predict the first instances of the drawn scenes with every checkpoint of the demo run.

    Args:
        folder: takes the files; those of the same name are written anew.
        progress: called with (done, total) before each epoch; what it raises ends the work.
    """
    from workbench.checkpoints.demo import demo_checkpoints, demo_config
    from workbench.data import builtin
    from workbench.evaluation import evaluate, predict, query_epochs
    from workbench.evaluation.protocol import protocol_of_loaded
    from workbench.models import open_model

    pose_set, files = builtin("scenes-val"), demo_checkpoints()
    chosen = list(pose_set.labelled)[:DEMO_IMAGES]
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        loaded = open_model(file, config=demo_config())
        found = predict(loaded.model, pose_set, indices=chosen)
        report = evaluate(pose_set, found, protocol_of_loaded(loaded), indices=chosen)
        write_predictions(folder / f"{file.stem}.parquet", found, report, int(file.stem.rpartition("_")[2]))
    history = query_epochs(folder)
    history.score(pose_set, indices=chosen)
    return history


def _asked(
    history: History,
    image_id: int | None,
    annotation_id: int | None,
    worst: int | None,
    between: str | None,
    count: int,
    wrong: list[str],
    note: str = "",
    pose_set: PoseSet | None = None,
) -> Answer:
    """The epochs, and the answers to what was asked; the note tells which part of the set was predicted."""
    epochs, differences = history.epochs(), history.differences
    if differences:
        epochs = [{**row, "rules": history.rules[row["epoch"]]} for row in epochs]
    facts: dict[str, Any] = {"epochs": epochs, "differences": differences, "wrong": wrong, "note": note}
    lines = [_sentence(history, epochs), *([f"{note}."] if note else []), "", *as_columns(epochs)]
    # Epochs under several protocols: the differences from the first one follow.
    if protocol := next(iter(history.protocols.values())):
        facts["protocol"] = protocol.to_json()
        lines += ["", f"protocol{' of the first' if differences else ''}: {protocol.text()}"]
    lines += [f"made under other rules: {what}" for what in differences]
    lines += [f"mind: {what}" for what in wrong]

    def add(name: str, title: str, rows: list[dict[str, Any]], most: int = count) -> None:
        rows = facts[name] = rows if pose_set is None else pose_set.in_own_ids(rows)
        shown = [_with_keypoint_name(row, pose_set) for row in rows[:most]]
        lines.extend(["", f"{title}:" if rows else f"{title}: none", *as_columns(shown)])
        if len(rows) > most:
            lines.append(f"{len(rows) - most} more: see --json or --count")

    if image_id is not None:
        name = image_id if pose_set is None else pose_set.image_name(image_id)
        add("image", f"image {name} over the epochs", history.image(image_id))
    if annotation_id is not None:
        name = annotation_id if pose_set is None else pose_set.instance_name(annotation_id)
        add("instance", f"instance {name} over the epochs", history.of(annotation_id), 1000)
    if worst is not None:
        add("worst", f"worst instances of epoch {worst}", history.worst(worst, count))
    if between is not None:
        a, b = _two(between)
        add("gained", f"found in epoch {b} and not in {a}", history.gained(a, b))
        add("lost", f"found in epoch {a} and not in {b}", history.lost(a, b))
        if history.keypoint_counts[a] == history.keypoint_counts[b]:
            add("regressions", f"keypoints that got worse from {a} to {b}", history.regressions(a, b, count))
    comparable = history.mixed or not differences
    if not {"image", "instance", "worst", "gained"} & facts.keys() and len(history.files) > 1 and comparable:
        forgotten = [row for row in history.learned() if row["forgotten"]]
        add("forgotten", "instances that were found and lost again", forgotten)
    return Answer(facts, "\n".join(lines))


def _with_keypoint_name(row: dict[str, Any], pose_set: PoseSet | None) -> dict[str, Any]:
    """A row as it is printed: the name of its keypoint, where a data set tells it, in place of its number."""
    names = () if pose_set is None else pose_set.skeleton.keypoints
    number = row.get("keypoint")
    return {**row, "keypoint": names[number]} if number is not None and number < len(names) else row


def _with_forgetting(
    answer: Answer,
    history: History,
    wanted: bool,
    image_id: int | None,
    right: float,
    count: int,
    pose_set: PoseSet | None = None,
) -> Answer:
    """The answer with what is forgotten over the epochs, and when the instances of an image are right."""
    from workbench.evaluation.forgetting import check_threshold, forgetting

    check_threshold(right)
    followed = any(row["oks"] is not None for row in answer.facts["epochs"])
    if not wanted and (image_id is None or not followed):
        return answer
    report = forgetting(history, right)
    facts, lines = dict(answer.facts), [answer.text]
    named: Callable[[Any], Any] = (lambda rows: rows) if pose_set is None else pose_set.in_own_ids
    if image_id is not None:
        facts["instances"] = named(report.of_image(image_id))
        name = image_id if pose_set is None else pose_set.image_name(image_id)
        lines += ["", f"instances of image {name}:", *as_columns(facts["instances"])]
    if wanted:
        forgotten = facts["forgetting"] = named(report.to_json())
        most = sorted(forgotten["events"], key=lambda row: -row["forgotten"])[:count]
        lines += ["", report.summary(), "", *as_columns(sorted(most, key=lambda row: row["epoch"]))]
        shown = forgotten["instances"][:count]
        lines += ["", "instances that are forgotten:" if shown else "instances that are forgotten: none"]
        lines += as_columns(shown)
    return Answer(facts, "\n".join(lines))


def _sentence(history: History, epochs: list[dict[str, Any]]) -> str:
    rows = [row for row in epochs if row["oks"] is not None]
    count = f"{len(epochs)} epoch{'s' * (len(epochs) != 1)}"
    if history.differences and not history.mixed:
        kinds = len(set(history.rules.values()))
        return f"{count} made under {kinds} sets of rules; they are compared only when asked: --mixed."
    if not rows and history.predicted_ids()[0] is not None:
        return f"{count}; their poses were not compared with the annotations: name the data set with --data."
    if not rows:
        return f"{count}; their poses belong to no annotation, so only keypoints can be followed."
    scored = [row for row in epochs if row.get("AP") is not None]
    name, key, rows = ("AP", "AP", scored) if scored else ("mean OKS", "oks", rows)
    best, last = max(rows, key=lambda row: row[key]), rows[-1]
    rest = "" if best is last else f"; the last, epoch {last['epoch']}, has {last[key]:.3f}"
    return f"{count}: {name} is highest at epoch {best['epoch']}, {best[key]:.3f}{rest}."


def _two(words: str) -> tuple[int, int]:
    parts = words.split(",")
    if len(parts) != 2 or not all(p.strip().isdecimal() and len(p) < 10 for p in parts):
        raise ValueError(f"--between: expected two epochs such as 10,20, got {words!r}")
    return int(parts[0]), int(parts[1])
