"""workbench compare: the epochs of a run side by side: figures, intervals, gained and lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Resamples,
    argument,
    demo_run,
    judged_set,
    option,
)
from workbench.cli.output import Answer, check_room, in_job, run_in_job

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Predictions, Protocol
    from workbench.evaluation.file_runs import FileRun
    from workbench.models import LoadedModel

Files = Annotated[
    list[Path] | None,
    argument(
        "A run's folder, checkpoints (an index or folder of parts is one), predictions (.parquet), or "
        "result files (COCO .json, mmpose's --dump .pkl), which need no model."
    ),
]
Folder = Annotated[Path | None, option("--out", "A folder for the predictions, one .parquet for each epoch.")]


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch's predictions.

    Attributes:
        title: unique in one comparison.
        predictions: of all instances.
        protocol: their rules; None where a file keeps none.
        number: of the epoch, where it is known.
        origin: digest of all that decided them, to recognise the file later; "" where code may have changed.
        resumed: read from the file of an earlier call.
        run: that it is of, as far as folders, names and hashes tell; "" where nothing does.
    """

    title: str
    predictions: Predictions
    protocol: Protocol | None
    number: int | None = None
    origin: str = ""
    resumed: bool = False
    run: str | FileRun = ""


def command(
    files: Files = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    resamples: Resamples = 1000,
    batch_size: BatchSize = 16,
    out: Folder = None,
    demo: Demo = False,
) -> Answer:
    """Evaluate several epochs on the same instances, from their annotated boxes.

    With --out each epoch's predictions are written when they are complete: a call that was stopped goes on
    with the first epoch that is missing.
    """
    if demo:
        files, data, model = demo_run(data, model)
        files = [files[0], files[-1]]  # a demo should not take minutes
    how = Judging(data, model, reading, pose_score, evaluator, batch_size)
    truth, epochs, counting, notes = judged_epochs(epochs_of(files or []), how, files or [], out, demo)
    from workbench.evaluation import compare

    found = [(epoch.title, epoch.predictions) for epoch in epochs]
    protocols = [epoch.protocol for epoch in epochs]
    report = in_job(
        "comparing",
        lambda job: compare(
            truth, found, protocols, runs=[epoch.run for epoch in epochs], resamples=resamples,
            details=True, progress=job.progress, **counting,
        ),
    )  # fmt: skip
    if out is not None:
        for epoch, one in zip(epochs, report.evaluations, strict=True):
            file = out / f"{epoch.title}.parquet"
            write_predictions(file, epoch.predictions, one, epoch.number, epoch.origin)
    resumed = [epoch.title for epoch in epochs if epoch.resumed]
    lines = [f"{truth.name}: {report.text()}", *(f"mind: {note}" for note in notes)]
    if resumed:
        lines.append(f"read from {out}, predicted by an earlier call: {', '.join(resumed)}")
    return Answer(
        {**truth.in_own_ids(report.to_json()), "resumed": resumed, "notes": notes}, "\n".join(lines)
    )


@dataclasses.dataclass(frozen=True)
class Judging:
    """How epochs are predicted and counted: the options of a verb, see workbench.cli.options."""

    data: DataOptions
    model: ModelOptions
    reading: ReadingOptions
    pose_score: str
    evaluator: EvaluatorOptions
    batch_size: int


def judged_epochs(
    paths: list[Path], how: Judging, named: list[Path], out: Path | None = None, demo: bool = False
) -> tuple[PoseSet, list[Epoch], dict[str, Any], list[str]]:
    """The annotations as the models are judged by them, the predictions of each file, and how to count.

    The last is what a reader has to know: which part of the set was predicted, and which checkpoints of a
    folder were passed over because they do not open.

    Args:
        paths: checkpoints, predictions (.parquet) and COCO result files (.json).
        how: the options.
        named: the files and folders that the user named; a file among them has to open.
        out: a folder for predictions; those of an earlier call in it are read.
        demo: the config is the workbench's own.

    Raises:
        ValueError: no data set was named, a file cannot be read, or the figures cannot be computed.
    """
    titles = titles_of(paths)
    how.data.require("compare")
    from workbench.data.coco import read_json
    from workbench.evaluation import check_evaluable
    from workbench.evaluation.exchange_formats import is_dump
    from workbench.evaluation.predicted_part import part_of_predictions
    from workbench.evaluation.protocol import judged_as
    from workbench.evaluation.result_lists import minus_ones

    model = how.model
    given = {path: read_json(path) for path in paths if is_results(path)}
    pose_set = _annotations(how, list(given.values()))
    counting = how.evaluator.rules(len(pose_set.skeleton))
    sigmas_known = how.evaluator.sigmas is not None  # else they may come with a model, or its predictions
    if sigmas_known or all(path in given or is_dump(path) for path in paths):
        check_evaluable(pose_set, **counting)
    if out is not None:
        check_room(out / f"{titles[0]}.parquet")
    # A person's own code may have changed since, and nothing tells: its predictions are not resumed.
    folder = out if model.adapter is None and (model.config is None or demo) else None
    rules = how.reading.rules(how.pose_score)
    truth, epochs, broken, alone = pose_set, [], {}, {}
    for path, title in zip(paths, titles, strict=True):
        try:
            if (read := _read_epoch(path, title, given.get(path), pose_set)) is not None:
                epochs.append(read)
                continue
            loaded = model.open(path, run_config=not demo).named_as(pose_set)
        except MISTAKES as mistake:
            if path in named:
                raise
            broken[path] = mistake
            continue
        own = judged_set(pose_set, loaded.model.skeleton, how.evaluator.sigmas)
        alone[title] = own.skeleton.sigmas
        if not sigmas_known:
            check_evaluable(truth := own, **counting)
            sigmas_known = True
        epochs.append(predicted(loaded, path, title, own, model, rules, how.batch_size, folder))
    if broken and len(epochs) < 2:
        raise next(iter(broken.values()))
    paths = [path for path in paths if path not in broken]
    found, protocols = [one.predictions for one in epochs], [one.protocol for one in epochs]
    truth = truth if sigmas_known else judged_as(truth, protocols)
    part = part_of_predictions(truth, found, protocols, paths)
    epochs, unpaired = _paired_with_annotations(epochs, paths, truth, given)
    notes = [f"{path.name} is passed over: {sentence(mistake)}" for path, mistake in broken.items()]
    notes += [*unpaired, *filter(None, [part.sentence]), *_sigma_notes(how, truth, epochs, alone)]
    notes += [note for path, one in zip(paths, found, strict=True) for note in minus_ones(one, path.name)]
    return truth, epochs, {**counting, "indices": part.indices}, notes


def _sigma_notes(
    how: Judging, truth: PoseSet, epochs: list[Epoch], alone: Mapping[str, Sequence[float]]
) -> list[str]:
    """Which models are judged with the sigmas of another; nothing where --sigmas says what counts.

    Args:
        how: the options.
        truth: as all are judged.
        epochs: predictions that were read know their sigmas by their protocol.
        alone: by title, those of the models that were opened.
    """
    from workbench.evaluation.protocol import other_sigmas

    if how.evaluator.sigmas is not None:
        return []
    read = {one.title: one.protocol.oks_sigmas for one in epochs if one.protocol is not None}
    return other_sigmas(truth, {**read, **alone})


def _annotations(how: Judging, given: Sequence[Any]) -> PoseSet:
    """The set of --data, with as many keypoints as the first result list, under the names of --skeleton."""
    from workbench.evaluation.result_lists import keypoint_count

    count = next(map(keypoint_count, given), None)
    return how.data.open("compare", count, how.model.skeleton)


def _paired_with_annotations(
    epochs: list[Epoch], paths: list[Path], truth: PoseSet, given: Mapping[Path, Any]
) -> tuple[list[Epoch], list[str]]:
    """Epochs with their run, whose poses stand with the annotations whose boxes they have.

    Args:
        epochs: one for each path.
        paths: of the user.
        truth: the annotations.
        given: COCO result files among the paths.

    Returns:
        the epochs, and a note for each file of others whose poses cannot be paired.
    """
    from workbench.evaluation.exchange_formats import is_dump
    from workbench.evaluation.file_runs import runs_of_files
    from workbench.evaluation.result_lists import pairing_note, with_own_annotations

    runs = runs_of_files(paths, ["" if e.protocol is None else e.protocol.sha256 for e in epochs])
    made, notes = [], []
    for epoch, run, path in zip(epochs, runs, paths, strict=True):
        own, why = with_own_annotations(truth, epoch.predictions)
        made.append(dataclasses.replace(epoch, run=run, predictions=own))
        if why and (path in given or is_dump(path)):
            notes.append(pairing_note(path.name, why))
    return made, notes


def _read_epoch(path: Path, title: str, listed: Any, pose_set: PoseSet) -> Epoch | None:
    """The predictions in a file; None for a checkpoint.

    Args:
        path: of the file.
        title: of the epoch.
        listed: content of a COCO result file; None for another file.
        pose_set: that it is of.

    Raises:
        ValueError: it cannot be read.
        NotAvailable: its poses have another number of keypoints than the set.
    """
    from workbench.evaluation import Predictions
    from workbench.evaluation.exchange_formats import is_dump, read_dump
    from workbench.evaluation.result_lists import results_of

    protocol = None
    if is_results(path):
        found = Predictions.from_coco(results_of(pose_set, listed), path.name, len(pose_set.skeleton))
    elif is_dump(path):
        found = read_dump(path)
    elif path.suffix == ".parquet":
        found, protocol = Predictions.from_parquet(path)
    else:
        return None
    if len(found) and found.keypoints.shape[1] != len(pose_set.skeleton):
        from workbench.diagnosis.case import check_keypoints

        check_keypoints(found.keypoints.shape[1], pose_set, path.name)
    return Epoch(title, found, protocol)


def predicted(
    loaded: LoadedModel,
    path: Path,
    title: str,
    pose_set: PoseSet,
    model: ModelOptions,
    rules: dict[str, Any],
    batch_size: int,
    folder: Path | None,
) -> Epoch:
    """One epoch's predictions: read from `folder` where an earlier call left the same ones, else made.

    Args:
        loaded: the model.
        path: of its checkpoint.
        title: of the epoch.
        pose_set: with the OKS sigmas that count for this model, see `judged_set`.
        model: how it was opened.
        rules: arguments of `predict`.
        batch_size: crops in one forward pass.
        folder: for the predictions; None for none.
    """
    from workbench.evaluation import predict, protocol_of_loaded
    from workbench.evaluation.predictions import finished_predictions, origin_of

    protocol = protocol_of_loaded(loaded, batch_size=batch_size, **rules)
    number = loaded.checkpoint.epoch if loaded.checkpoint is not None else None
    file, origin = None, ""
    if folder is not None:
        file = folder / f"{title}.parquet"
        how: dict[str, Any] = {"batch_size": batch_size, "device": model.device}
        how |= {"remap": model.remap, "family": model.family}
        how |= {"output": model.output, "assume": model.stated} if model.output or model.stated else {}
        how |= {"skeleton": model.skeleton} if model.skeleton else {}
        if rules["score_rule"] == "oracle":  # the one score that reads the OKS sigmas
            how["sigmas"] = list(pose_set.skeleton.sigmas)
        origin = origin_of(protocol, pose_set, **how)
        if (finished := finished_predictions(file, origin)) is not None:
            return Epoch(title, finished, protocol, number, origin, resumed=True)
    left = "" if folder is None else f"finished epochs are in {folder}; the same command goes on with them"
    found = run_in_job(
        f"predicting with {path.name}", predict, loaded.model, pose_set, batch_size=batch_size, kept=left,
        **rules,
    )  # fmt: skip
    if file is not None:
        found.to_parquet(file, epoch=number, protocol=protocol, origin=origin)
    return Epoch(title, found, protocol, number, origin)


def is_results(path: Path) -> bool:
    """Whether a file is a COCO result list by its name; an index of a model in parts is none."""
    return path.suffix.lower() == ".json" and not path.name.endswith(".index.json")


def epochs_of(files: list[Path], verb: str = "compare") -> list[Path]:
    """The files to compare: those given, a folder's checkpoints in the order of training.

    An index (``*.index.json``), and a folder with one, is one epoch: a model in parts.

    Args:
        files: checkpoints, predictions and folders of them.
        verb: who asks; a report takes one epoch, everything else two or more.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: too few in all.
    """
    from workbench.checkpoints.checkpoint_files import (
        CHECKPOINT_ENDINGS,
        as_typed,
        index_of,
        models_in,
        training_order,
    )

    found: list[Path] = []
    for path in as_typed(files):
        if path.is_file() or (path.is_dir() and index_of(path) is not None):
            found.append(path)
        elif path.is_dir():
            found += training_order(models_in(path, (*CHECKPOINT_ENDINGS, ".parquet")))
        else:
            raise FileNotFoundError(f"{path}: no such checkpoint, predictions or folder")
    if len(found) < (1 if verb == "report" else 2):
        wanted = "or a file" if verb == "report" else "of two epochs or more, or two files or more"
        got = ", ".join(path.name for path in found or files) or "nothing"
        raise ValueError(f"{verb}: expected a run's folder {wanted}; got {got}")
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
