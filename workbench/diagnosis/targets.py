"""Targets sorted into what they are: run folder, checkpoint, log, config, results, annotations, adapter."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workbench.checkpoints.checkpoint_files import CHECKPOINT_ENDINGS
from workbench.core.errors import USER_ERRORS, beside, sentence
from workbench.core.files import read_at_most
from workbench.core.python_text import tree_of
from workbench.diagnosis.texts import ErrorText, error_in, error_of_file, makes_statements
from workbench.evaluation.exchange_formats import DUMP_ENDINGS, is_dump

Kind = Literal[
    "checkpoint", "log", "error", "config", "code", "results", "predictions", "annotations", "media",
    "statements", "adapter", "damaged", "unknown",
]  # fmt: skip

_LOGS = (".log", ".txt", ".md", ".markdown", ".csv", ".out", ".err")
_CONFIGS = (".yaml", ".yml", ".toml")
_IN_FOLDER = (".py", ".json", ".yaml", ".yml", *DUMP_ENDINGS)
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
MEDIA = (".jpg", ".jpeg", ".png", ".bmp", ".webp", *VIDEOS)
# Bytes at the beginning and at the end of a json that decide what it is.
_HEAD = 1 << 16
# Bytes of the longest script that somebody writes by hand; a parser takes several hundred times as many.
_CODE = 1 << 20
# Nodes of the syntax tree of the longest script, how deep they lie in each other, and bits of its numbers:
# rules about code compare its parts with each other.
_NODES, _DEEP, _BITS = 15_000, 100, 1000
# Bytes of a json of no known kind up to which it is read whole, to say whether it is damaged.
_WHOLE = 1 << 26


@dataclass(frozen=True)
class Given:
    """What a diagnosis was given, by kind; run folders are taken apart.

    Attributes:
        checkpoint: the one that is examined; None without any.
        parts: all files of the model, where several make one; else empty.
        epochs: all checkpoints of its run in the order of training, the examined one included.
        others: further checkpoints that were named; the first is compared with the examined one.
        logs: of the run.
        configs: of the folder, and those that were named.
        named_config: the config that was named itself and not found in a folder; None without any.
        results: COCO result files.
        predictions: Parquet files of predictions, and mmpose's dumps (.pkl).
        annotations: COCO-format annotation files.
        errors: messages, pasted or found in texts.
        statements: Markdown texts that make statements about a recipe.
        code: Python files with classes or functions, read and never run.
        media: images and videos.
        folder: of the run; None without any.
        damaged: name and reason of each target that cannot be read although its kind is known.
        notes: one sentence for each target that is of no use, and why.
    """

    checkpoint: Path | None = None
    parts: tuple[Path, ...] = ()
    epochs: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    logs: tuple[Path, ...] = ()
    configs: tuple[Path, ...] = ()
    named_config: Path | None = None
    results: tuple[Path, ...] = ()
    predictions: tuple[Path, ...] = ()
    annotations: tuple[Path, ...] = ()
    errors: tuple[ErrorText, ...] = ()
    statements: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    media: tuple[Path, ...] = ()
    folder: Path | None = None
    damaged: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """What there is, in a few words."""
        named = {
            "checkpoint": self.checkpoint and self.checkpoint.name,
            "epochs": len(self.epochs) > 1 and str(len(self.epochs)),
            "log": self.logs and ", ".join(p.name for p in self.logs[:2]),
            "config": self.configs and self.configs[0].name,
            "results": self.results and self.results[0].name,
            "predictions": self.predictions and self.predictions[0].name,
            "annotations": self.annotations and self.annotations[0].name,
            "error message": self.errors and self.errors[0].source,
            "statements": self.statements and self.statements[0].name,
            "code": self.code and self.code[0].name,
            "picture or video": self.media and self.media[0].name,
        }
        return "; ".join(f"{kind} {name}" for kind, name in named.items() if name) or "nothing"


def sorted_targets(
    targets: Iterable[Path | str], within: Sequence[Path] = (), one_run: bool = False
) -> Given:
    """The targets by kind; what cannot be read or is of no use is noted, and the rest counts.

    Args:
        targets: files and run folders in any order.
        within: nothing in a folder may lie outside of these, symbolic links resolved; no limit when empty.
        one_run: files are those of one run's folder: checkpoints with different numbers are its epochs.
    """
    found: dict[str, list[Path]] = {}
    notes: list[str] = []
    errors: list[ErrorText] = []
    damaged: list[tuple[str, str]] = []
    folder: Path | None = None
    epochs: tuple[Path, ...] = ()
    named: list[Path] = []
    for target in targets:
        path = Path(target)
        if not exists(path):
            pasted = error_in(str(target), "the pasted message")
            errors += [pasted] if pasted is not None else []
            notes += [] if pasted is not None else [f"{target}: no such file or folder{beside(path)}"]
        elif path.is_dir():
            inside = _in_folder(path, notes, within)
            folder, epochs = folder or path, epochs or tuple(inside.get("checkpoint", []))
            for kind, paths in inside.items():
                chosen = paths[-1:] if kind == "checkpoint" else paths
                found.setdefault(kind, []).extend(chosen)
        else:
            _sort_file(path, found, errors, damaged, notes)
            named += [path] if path in found.get("config", ()) else []
    checkpoints = _opening_first(list(dict.fromkeys(found.get("checkpoint", ()))))
    if one_run and not epochs:
        epochs = _numbered(checkpoints)
        checkpoints = [*epochs[-1:], *(path for path in checkpoints if path not in epochs)]
    checkpoint = checkpoints[0] if checkpoints else None
    return Given(
        checkpoint=checkpoint,
        epochs=_epochs(checkpoint, epochs),
        others=tuple(checkpoints[1:]),
        logs=_first(found, "log"),
        configs=_first(found, "config"),
        named_config=named[0] if named else None,
        results=_first(found, "results"),
        predictions=_first(found, "predictions"),
        annotations=_first(found, "annotations"),
        errors=tuple(dict.fromkeys(errors)),
        statements=_first(found, "statements"),
        code=_first(found, "code"),
        media=_first(found, "media"),
        folder=folder or (checkpoint.parent if checkpoint is not None else None),
        damaged=tuple(damaged),
        notes=tuple(notes),
    )


def exists(path: Path) -> bool:
    """Whether a target is a file or a folder; a pasted text is too long for a name, and is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _sort_file(
    path: Path,
    found: dict[str, list[Path]],
    errors: list[ErrorText],
    damaged: list[tuple[str, str]],
    notes: list[str],
) -> None:
    """Add one file to what was found, or say why it is of no use."""
    try:
        kind, why = kind_of(path)
        error = error_of_file(path) if kind == "log" and not _binary_log(path) else None
        states = path.is_file() and makes_statements(path)
    except OSError as failure:
        notes.append(sentence(failure))
        return
    if error is not None:
        errors.append(error)
    if states:
        found.setdefault("statements", []).append(path)
    if kind == "damaged":
        damaged.append((path.name, why))
    elif kind == "unknown":
        notes.append(f"{path.name}: {why}")
    elif kind == "adapter":
        notes.append(f"{path.name}: an adapter is code; name it with --adapter to have it run")
        found.setdefault("code", []).append(path)
    # A saved message or an audit is no log, though it is a text.
    elif kind != "log" or not (unread := _unread(path)):
        found.setdefault(kind, []).append(path)
    elif isinstance(unread, ValueError) and _binary_log(path):
        damaged.append((path.name, f"cannot be read: {sentence(unread).removeprefix(f'{path.name}: ')}"))
    elif not (error or states):
        notes.append(f"{path.name} was not used: no figures by epoch can be read in it")


def _binary_log(path: Path) -> bool:
    """TensorBoard's events, and what W&B stores of an offline run."""
    return "tfevents" in path.name or path.suffix.lower() == ".wandb"


def _unread(path: Path) -> Exception | None:
    """Why no curves can be read in a file; None where they can."""
    from workbench.curves import read_logs

    try:
        read_logs([path], path.name)
    except (ValueError, LookupError, OSError) as error:
        return error
    return None


def kind_of(path: Path) -> tuple[Kind, str]:
    """What a file is, and why it is of no use where it is unknown.

    Args:
        path: of an existing file. Nothing in it is run.
    """
    ending = path.suffix.lower()
    if ending in (*CHECKPOINT_ENDINGS, ".npz"):
        return "checkpoint", ""
    if not path.is_file():
        return "unknown", "is no regular file; reading a pipe may never end"
    if ending == ".py":
        return _python(path)
    if ending == ".parquet":
        return "predictions", ""
    if is_dump(path):
        return _pickle(path)
    if ending in _CONFIGS:
        return "config", ""
    if _binary_log(path):
        return "log", ""
    if ending in (".json", ".jsonl"):
        return _json(path)
    if ending in _LOGS:
        return "log", ""
    if ending in MEDIA:
        return "media", ""
    return "unknown", (
        "expected a checkpoint, a config (.py, .yaml), a log (.json, .log, .csv, .md, .wandb), an error "
        "message (.txt), a COCO result or annotation file (.json), a dump of mmpose (.pkl), predictions "
        "(.parquet), an image, a video, or Python code"
    )


def _pickle(path: Path) -> tuple[Kind, str]:
    """The poses that mmpose's ``tools/test.py --dump`` writes, or weights."""
    from workbench.checkpoints import open_checkpoint

    with path.open("rb") as file:
        head = file.read(_HEAD)
    if b"pred_instances" in head:
        return "predictions", ""
    try:
        open_checkpoint(path)
    except USER_ERRORS as error:
        return "unknown", (
            f"holds neither poses of `tools/test.py --dump` (pred_instances) nor weights: {sentence(error)}"
        )
    return "checkpoint", ""


def _python(path: Path) -> tuple[Kind, str]:
    """A config assigns values, an adapter defines ``load``, other code defines classes or functions.

    The file is parsed and not run.
    """
    with path.open("rb") as file:
        data = file.read(_CODE + 1)
    if len(data) > _CODE:
        return "unknown", f"is longer than {_CODE >> 20} MB, as no config and no script is"
    try:
        tree = tree_of(data.decode(errors="replace"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "damaged", f"is no Python that can be read ({error.__class__.__name__}: {error})"
    if (kind := _kind_of_code(tree)) == "config":
        return kind, ""
    why = _beyond(tree)
    return ("unknown", why) if why else (kind, "")


def _beyond(tree: ast.Module) -> str:
    """Why code is none that somebody writes by hand; "" where it may be."""
    layer: list[ast.AST] = [tree]
    nodes = depth = 0
    while layer:
        nodes, depth = nodes + len(layer), depth + 1
        if nodes > _NODES:
            return f"has more than {_NODES} expressions and statements, as no training script has"
        if depth > _DEEP:
            return f"has more than {_DEEP} expressions and statements inside of each other"
        numbers = [n.value for n in layer if isinstance(n, ast.Constant) and isinstance(n.value, int)]
        if any(number.bit_length() > _BITS for number in numbers):
            return f"has a whole number of more than {_BITS} bits"
        layer = [inner for node in layer for inner in ast.iter_child_nodes(node)]
    return ""


def _kind_of_code(tree: ast.Module) -> Kind:
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "load" in functions:
        return "adapter"
    classes = any(isinstance(node, ast.ClassDef) for node in tree.body)
    values = [node for node in tree.body if isinstance(node, ast.Assign)]
    # A config of mmengine may hold a small function; a training script has more code than values, or calls.
    loops = any(isinstance(node, (ast.For, ast.While)) for node in tree.body)
    own = {target.id for node in values for target in node.targets if isinstance(target, ast.Name)}
    calls = any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _root(node.value.func) not in own
        for node in tree.body
    )
    return "code" if classes or loops or calls or len(functions) > len(values) else "config"


def _root(node: ast.expr) -> str:
    """The first name of ``model.update``; "" where it is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _json(path: Path) -> tuple[Kind, str]:
    with path.open("rb") as file:
        head, size = file.read(_HEAD), path.stat().st_size
        file.seek(max(0, size - _HEAD))
        tail = file.read(_HEAD)
    if head.strip() in (b"", b"{}", b"null"):
        return "unknown", "is empty" if not head.strip() else f"holds nothing: {head.strip().decode()}"
    begin = head.lstrip()[:1]
    if begin == b"[":
        if not tail.rstrip().endswith(b"]") and (why := _damage(path)):
            return "damaged", why
        if b'"keypoints"' in head or head.strip() == b"[]":
            return "results", ""
        if b'"bbox"' in head and b'"score"' in head:
            return "unknown", "holds a detector's boxes and no keypoints; give it to `evaluate` as --boxes"
        if _unread(path) is None:
            return "log", ""
        return "unknown", "is a list without keypoints or figures; expected a COCO result file or a log"
    if begin != b"{":
        return "unknown", "is no JSON that begins with { or ["
    marks = [f'"{name}"'.encode() for name in ("images", "annotations", "categories")]
    if sum(mark in head or mark in tail for mark in marks) >= 2:
        why = "" if tail.rstrip().endswith(b"}") else _damage(path)
        return ("damaged", why) if why else ("annotations", "")
    first = head.splitlines()[0]
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        try:
            row = json.loads(head) if len(head) < _HEAD else None
        except (ValueError, RecursionError):
            row = None
    if isinstance(row, dict):
        return "log", ""
    if size <= _WHOLE and (why := _damage(path)):
        return "damaged", why
    return "unknown", "is JSON, but no log, no result file and no annotations"


def _damage(path: Path) -> str:
    """Why a file is no JSON; "" where it is."""
    try:
        json.loads(read_at_most(path, _WHOLE, "JSON that does not end as it begins"))
    except (ValueError, RecursionError) as error:
        return f"is damaged JSON, cut or edited: {error}"
    return ""


def _in_folder(folder: Path, notes: list[str], within: Sequence[Path]) -> dict[str, list[Path]]:
    """What a run's folder holds, checkpoints in the order of training."""
    from workbench.checkpoints.checkpoint_files import index_of, models_in, training_order
    from workbench.curves import run_logs
    from workbench.data.image_folders import is_within

    def kept(paths: Iterable[Path]) -> list[Path]:
        inside: dict[bool, list[Path]] = {True: [], False: []}
        for path in paths:
            inside[is_within(path, within)].append(path)
        notes.extend(
            f"{path.name} is a link out of the served folder; it is not followed" for path in inside[False]
        )
        return inside[True]

    found: dict[str, list[Path]] = {}
    if index_of(folder) is not None:
        found["checkpoint"] = [folder]
    else:
        models = kept(models_in(folder))
        # best_coco_AP_epoch_180.pth repeats an epoch: it is no point of its own.
        numbered = [path for path in models if not path.stem.lower().startswith("best")]
        if models:
            found["checkpoint"] = _run_of(training_order(numbered or models), notes)
    logs = run_logs(folder)
    if inside := kept(logs):
        found["log"] = inside
    texts = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in _IN_FOLDER)
    for path in kept(path for path in texts if path.is_file() and path not in logs):
        kind, why = kind_of(path)
        if kind == "damaged":
            notes.append(f"{path.name} {why}")
        elif kind in ("config", "results", "predictions", "annotations"):
            found.setdefault(kind, []).append(path)
    if not found:
        notes.append(f"{folder}: no checkpoint, log, config or result file in this folder")
    return found


def _run_of(ordered: Sequence[Path], notes: list[str]) -> list[Path]:
    """The checkpoints of a run up to the last one that opens; those behind it are noted with the reason.

    Args:
        ordered: in the order of training.
        notes: added to.
    """
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.checkpoint_files import epoch_of

    kept = list(ordered)
    if any(epoch_of(path)[0] is not None for path in kept):
        behind = ("last", "latest", "final")
        other = [p for p in kept if epoch_of(p)[0] is None and not p.stem.lower().startswith(behind)]
        kept = [path for path in kept if path not in other]
        notes += [f"{path.name}: no epoch in its name, so it is not examined with the run" for path in other]
    broken: list[str] = []
    for number in range(len(kept), 0, -1):
        if len(kept) == 1:
            break
        try:
            open_checkpoint(kept[number - 1])
            notes += broken
            return kept[:number]
        except USER_ERRORS as error:
            broken.append(f"{kept[number - 1].name} cannot be opened: {sentence(error)}")
    return kept  # none opens: the last one is examined, and found to be broken


def _opening_first(checkpoints: list[Path]) -> list[Path]:
    """Checkpoints in the order of their names, those that do not open behind the first that does."""
    from workbench.checkpoints import open_checkpoint

    for number, path in enumerate(checkpoints if len(checkpoints) > 1 else ()):
        try:
            open_checkpoint(path)
        except USER_ERRORS:
            continue
        return [*checkpoints[number:], *checkpoints[:number]]
    return checkpoints


def _numbered(checkpoints: Sequence[Path]) -> tuple[Path, ...]:
    """Checkpoints whose names hold epochs, in the order of training; () where two hold the same one."""
    from workbench.checkpoints.checkpoint_files import epoch_of, numbered_epochs

    found = numbered_epochs(checkpoints)
    return tuple(found) if len({epoch_of(path)[1] for path in found}) == len(found) > 1 else ()


def _epochs(checkpoint: Path | None, of_folder: Sequence[Path]) -> tuple[Path, ...]:
    if of_folder or checkpoint is None:
        return tuple(of_folder)
    from workbench.checkpoints.checkpoint_files import epoch_of, models_in, numbered_epochs, training_order

    if epoch_of(checkpoint)[0] is None:
        return (checkpoint,)
    models = models_in(checkpoint.parent, (checkpoint.suffix.lower(),))
    return tuple(training_order({*numbered_epochs(models), checkpoint}))


def _first(found: dict[str, list[Path]], kind: Kind) -> tuple[Path, ...]:
    """The files of a kind, each once however it was named."""
    first: dict[Path, Path] = {}
    for path in found.get(kind, ()):
        first.setdefault(path.resolve(), path)
    return tuple(first.values())
