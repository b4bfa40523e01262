"""Files of a model: shard indices, folders, the order of a run's checkpoints, models in parts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.checkpoints.averages import Averages
from workbench.checkpoints.budget import Limits
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.identity import Identity, identify_shapes
from workbench.checkpoints.state_dicts import common_prefix, unwrapped
from workbench.core.files import Twice, belongs, each_once, read_at_most
from workbench.core.report import counted

WEIGHT_ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".tar")
"""Endings, lower case, of files that hold weights by name."""

CHECKPOINT_ENDINGS = (*WEIGHT_ENDINGS, ".onnx", ".pt2", ".tflite")
"""Endings of all files that are checkpoints; of .npz and .json, which can be opened too, few are."""

# What trainers of Hugging Face's libraries write beside a model, under the endings of one.
_TRAINER_STATE = re.compile(r"(optimizer|scheduler|scaler|sampler|training_args|rng_state)(_\d+)?")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_PARTS = 10_000
_SINGLE = ("model.safetensors", "pytorch_model.bin")


def files_of(path: Path | str | Sequence[Path | str], limits: Limits) -> list[Path]:
    """The files to read, in order.

    Args:
        path: a file, a shard index, a folder that holds one model, or several of these.
        limits: bounds on the size of an index.

    Raises:
        FileNotFoundError: there is no such file, or a part is missing.
        ValueError: a folder that is no model, an index that points out of its folder.
    """
    if not isinstance(path, (str, Path)):
        files = [part for one in path for part in files_of(one, limits)]
        if not files:
            raise ValueError("no checkpoint is named")
        return files
    path = Path(path)
    if path.is_dir():
        return _in_folder(path, limits)
    if path.name.endswith(".json") and path.is_file():
        return _in_index(path, limits)
    return [path]


def index_of(folder: Path) -> Path | None:
    """The index of a folder that holds one model in parts; None of any other folder.

    The names that Hugging Face's libraries write come first; another ``*.index.json`` counts where it is the
    only one.
    """
    for name in _INDICES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob(f"*{INDEX_ENDING}"))
    return others[0] if len(others) == 1 and _names_parts(others[0]) else None


def models_in(folder: Path, endings: Sequence[str] = CHECKPOINT_ENDINGS) -> list[Path]:
    """The checkpoints of a folder, in no order; an index stands for the parts that it names.

    Args:
        folder: of a run.
        endings: of checkpoints, lower case, with their dots.

    Raises:
        FileNotFoundError: a part that an index names is missing.
        ValueError: an index points out of the folder.
    """
    indices = [path for path in folder.glob(f"*{INDEX_ENDING}") if _names_parts(path)]
    # Not Path.resolve(): it raises RuntimeError for links in a circle.
    parts = {os.path.realpath(part) for index in indices for part in _in_index(index, Limits())}
    files = [path for path in folder.iterdir() if is_model(path, endings)]
    return [*indices, *(path for path in files if os.path.realpath(path) not in parts)]


def is_model(path: Path, endings: Sequence[str] = CHECKPOINT_ENDINGS) -> bool:
    """Whether a name is a checkpoint's, and no optimizer's or other part of a trainer's state.

    Args:
        path: of a file; it is not opened.
        endings: of names of checkpoints.
    """
    return path.suffix.lower() in endings and _TRAINER_STATE.fullmatch(path.stem) is None


def _names_parts(index: Path) -> bool:
    """Whether a json has the weight_map of an index; others (of TensorFlow.js) have none."""
    if not index.is_file():
        return False
    try:
        return "weight_map" in json.loads(read_at_most(index, Limits().header, "a shard index"))
    except (ValueError, TypeError, RecursionError):  # a number of thousands of digits is a ValueError
        return False


def _in_folder(folder: Path, limits: Limits) -> list[Path]:
    if (index := index_of(folder)) is not None:
        return _in_index(index, limits)
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    if folder.suffix == ".mlpackage":
        raise ValueError(f"{folder} is a CoreML package, which is not read; export the model to ONNX")
    if (folder / "saved_model.pb").is_file():
        raise ValueError(f"{folder} is a TensorFlow SavedModel, which is not read; export it to ONNX")
    found = sorted(p.name for p in folder.iterdir() if is_model(p))
    if len(found) == 1:
        return [folder / found[0]]
    if not found and any(folder.glob("*.distcp")):
        raise ValueError(
            f"{folder} is a distributed checkpoint of torch (.distcp), which is not read; make one file "
            "of it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth"
        )
    if not found and ((folder / "_CHECKPOINT_METADATA").is_file() or (folder / "manifest.ocdbt").is_file()):
        raise ValueError(
            f"{folder} is an Orbax checkpoint of JAX, which is not read; save its arrays by name with "
            "safetensors.flax.save_file"
        )
    listed = (
        f"it holds {counted(len(found), 'checkpoint')}, name one, or all if they are the parts of one model: "
        f"{', '.join(found[:4])}"
        if found
        else "it holds none"
    )
    raise ValueError(f"{folder} is a folder, not a checkpoint; {listed}")


def _in_index(index: Path, limits: Limits) -> list[Path]:
    content = read_at_most(index, limits.header, "a shard index")
    try:
        weights = json.loads(content, object_pairs_hook=each_once).get("weight_map")
    except Twice as error:
        raise ValueError(f"{index.name} is damaged: it names {error} twice") from None
    except (ValueError, AttributeError, RecursionError):
        weights = None
    if weights is None:
        return [index]  # no index: `open_checkpoint` says what else it is
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        raise ValueError(
            f"{index.name} is a JSON file and no index of weights; a checkpoint or shard index is needed"
        )
    folder = index.parent.resolve()
    names = list(dict.fromkeys(weights.values()))
    if len(names) > _PARTS or any(len(name) > 1000 or "\0" in name for name in names):
        raise ValueError(
            f"{index.name} names {counted(len(names), 'file')}, or longer names, than any model has; refused"
        )
    parts = [folder / name for name in names]
    for part in parts:
        if not belongs(part, folder):
            raise ValueError(f"{index.name} points to {part.name} outside its folder; refused")
        if not part.is_file():
            raise FileNotFoundError(f"{index.name} names {part.name}, which is missing beside it")
    if not parts:
        raise ValueError(f"{index.name} names no files")
    return parts


# -- the order of the checkpoints of a run


INDEX_ENDING = ".index.json"
"""Of a file that names the parts of one model."""

_NUMBER = re.compile(r"(?<![a-z])(?P<unit>epoch|ep|iter|step)[-_=]?(?P<number>\d+)", re.IGNORECASE)


def name_of(path: Path) -> str:
    """What a checkpoint is called without its endings; ``epoch_5`` of ``epoch_5.safetensors.index.json``."""
    if path.name.endswith(INDEX_ENDING):
        return Path(path.name.removesuffix(INDEX_ENDING)).stem
    return path.stem


def epoch_of(path: Path) -> tuple[int | None, str]:
    """Number and label that a checkpoint's file name tells."""
    name = name_of(path)
    found = _NUMBER.search(name)
    if found is None:
        trailing = re.fullmatch(r"(\d+)|.*?[-_.](\d+)", name)
        number = int(trailing.group(1) or trailing.group(2)) if trailing else None
        return number, name.replace("_", " ")
    number = int(found["number"])
    label = f"{_unit(found)} {number}"
    return number, f"best, {label}" if name.lower().startswith("best") else label


def training_order(paths: Iterable[Path]) -> list[Path]:
    """The files by the number in their names: epoch_5 before epoch_40.

    Epochs come before iterations and steps, which count something else; ``best_*``, ``last`` and the like,
    and files without a number, come behind the others.

    Example:
        >>> files = ["epoch_40.pth", "best_epoch_3.pth", "epoch_5.pth"]
        >>> [path.name for path in training_order(map(Path, files))]
        ['epoch_5.pth', 'epoch_40.pth', 'best_epoch_3.pth']
    """
    return sorted(paths, key=_order)


def numbered_epochs(paths: Iterable[Path]) -> list[Path]:
    """The files whose names hold a number, in the order of training; best_*, which repeat an epoch, left out.

    Example:
        >>> files = ["epoch_40.pth", "best_epoch_3.pth", "last.pth", "epoch_5.pth"]
        >>> [path.name for path in numbered_epochs(map(Path, files))]
        ['epoch_5.pth', 'epoch_40.pth']
    """
    named = (path for path in paths if epoch_of(path)[0] is not None)
    return training_order(path for path in named if not name_of(path).lower().startswith("best"))


def as_typed(paths: Iterable[Path]) -> list[Path]:
    """Files of a command line: in the order given, unless a shell made it.

    A shell puts what a pattern matches in text order, epoch_40 before epoch_5. Files of one folder that came
    in that order are put in the order of training.
    """
    given = list(paths)
    by_text = sorted(given, key=lambda path: path.name)
    if len({path.parent for path in given}) == 1 and given == by_text:
        return training_order(given)
    return given


def _order(path: Path) -> tuple[bool, bool, str, int, str]:
    number, _ = epoch_of(path)
    behind = name_of(path).lower().startswith(("best", "last", "latest", "final"))
    found = _NUMBER.search(name_of(path))
    return behind, number is None, _unit(found) if found else "", number or 0, path.name


def _unit(found: re.Match[str]) -> str:
    return "epoch" if found["unit"].lower() in ("epoch", "ep") else found["unit"].lower()


# -- one model in several files


_SHARD = re.compile(r"(.*?)[-_.]?(\d+)[-_]of[-_](\d+)$")
_NUMBERED = re.compile(r"(.*?)[-_.]?(?:part|shard|rank)?[-_.]?(\d+)$", re.IGNORECASE)
# Names of whole checkpoints in time, never of parts.
_IN_TIME = re.compile(r"epoch|iter|step|best|last|latest|final|ckpt|checkpoint|ema|swa", re.IGNORECASE)
# First parts of names in backbones, necks and heads of the known families.
_USUAL = re.compile(
    r"(backbone|neck|head|keypoint_head|header|conv[12]|bn[12]|layer[1-4]|transition[1-3]|stage[2-4]|"
    r"final_layers?|deconv_layers)\."
)


def merged(opened: Sequence[Checkpoint], by_index: bool) -> Checkpoint:
    """Several parts as one checkpoint; what the training left is taken from the first that has it.

    Where the files are named as modules are (``attention_hi``, ``head``) and nothing else says that they are
    one model, or two hold a tensor of the same name, each part's tensors are put under its file's name.

    Args:
        opened: at least two.
        by_index: an index or a folder names them as one model.

    Raises:
        ValueError: nothing says that they are parts of one model, or their tensors collide.
    """
    twice = _collision(opened)
    complete = [part for part in opened if _is_whole(part)]
    if len(complete) > 1 and not by_index:
        raise ValueError(_refusal(opened, "each is a whole network", twice))
    prefixes = [""] * len(opened)
    one_model = by_index or _numbered(opened) or _named_as_their_tensors(opened) or _more_together(opened)
    if twice or not one_model:
        usual = any(_USUAL.match(f"{part.path.stem}.") for part in opened) and not complete
        if by_index or not _named_as_modules(opened) or not (twice or usual):
            raise ValueError(
                _refusal(opened, "" if twice else "neither an index nor their names say so", twice)
            )
        prefixes = [_prefix(part) for part in opened]
    tensors, unread = {}, {}
    for part, prefix in zip(opened, prefixes, strict=True):
        tensors |= {prefix + n: replace(info, name=prefix + n) for n, info in part.tensors.items()}
        unread |= {prefix + name: item for name, item in part.unread.items()}
    best = max(opened, key=lambda part: (part.epoch is not None, len(part.meta)))
    how = ", each under its file's name" if any(prefixes) else ""
    return replace(
        best,
        paths=tuple(path for part in opened for path in part.paths),
        tensors=tensors,
        unread=unread,
        left=tuple(dict.fromkeys(text for part in opened for text in part.left)),
        # Averages of one part say nothing of the others.
        averages=Averages(),
        prefix=common_prefix(tensors),
        inert=tuple(dict.fromkeys(name for part in opened for name in part.inert)),
        format=f"{best.format}, in {counted(len(opened), 'part')}{how}",
    )


def _collision(opened: Sequence[Checkpoint]) -> str:
    """The first name that two parts hold, with both files; "" if none."""
    seen: dict[str, str] = {}
    for part in opened:
        for name in part.tensors:
            if name in seen:
                return f"{seen[name]} and {part.path.name} both hold {name!r}"
            seen[name] = part.path.name
    return ""


def _is_whole(part: Checkpoint) -> bool:
    """A head that tells its keypoints, and a layer that takes an image."""
    return part.identity.keypoints is not None and _takes_images(info.shape for info in part.tensors.values())


def _takes_images(shapes: Iterable[tuple[int, ...]]) -> bool:
    """A convolution over three channels; one over a single channel may be depthwise."""
    return any(len(shape) == 4 and shape[1] == 3 for shape in shapes)


def _named_as_modules(opened: Sequence[Checkpoint]) -> bool:
    """File names that could be attributes of one module, in one folder, and not the same network again."""
    stems = [part.path.stem for part in opened]
    shapes = [{name: info.shape for name, info in part.tensors.items()} for part in opened]
    without_numbers = {re.sub(r"\d+", "", stem) for stem in stems}
    alike = all(one == shapes[0] for one in shapes)
    return (
        len({part.path.resolve().parent for part in opened}) == 1
        and len(set(stems)) == len(stems)
        and all(stem.isidentifier() and not _IN_TIME.search(stem) for stem in stems)
        # a_1 and a_2 of the same shapes may be two states of one network; attention_hi and _lo are named.
        and not (alike and (len(without_numbers) == 1 or not _shares_a_word(stems)))
        # p1 and p2 that hold a few of the same tensors are shards that overlap.
        and not (len(without_numbers) == 1 and _overlap(shapes))
    )


def _overlap(parts: Sequence[Mapping[str, tuple[int, ...]]]) -> bool:
    """Some names stand in all of the parts, with one shape, and each part has others that no other has."""
    common = set.intersection(*map(set, parts))
    own = [set(part).difference(*(other for other in parts if other is not part)) for part in parts]
    return (
        bool(common) and all(own) and all(part[name] == parts[0][name] for part in parts for name in common)
    )


def _shares_a_word(stems: Sequence[str]) -> bool:
    words = [set(stem.split("_")) for stem in stems]
    return bool(set.intersection(*words))


def _prefix(part: Checkpoint) -> str:
    """The file's name as a prefix, where its tensors do not begin with it already."""
    stem = part.path.stem
    return "" if all(name.startswith(f"{stem}.") for name in part.tensors) else f"{stem}."


def _numbered(opened: Sequence[Checkpoint]) -> bool:
    """One stem and the numbers 1 to n (or 0 to n - 1), as sharded files have."""
    for pattern in (_SHARD, _NUMBERED):
        found = [pattern.match(part.path.stem) for part in opened]
        if not all(found):
            continue
        stems = {match[1] for match in found if match}
        numbers = sorted(int(match[2]) for match in found if match)
        in_time = any(_IN_TIME.search(stem) for stem in stems)
        if (
            len(stems) == 1
            and numbers[0] in (0, 1)
            and numbers == list(range(numbers[0], numbers[0] + len(found)))
        ):
            return pattern is _SHARD or not in_time
    return False


def _named_as_their_tensors(opened: Sequence[Checkpoint]) -> bool:
    """backbone.pth holds backbone.*, my_head.pth holds head.*: each file's name says which part it is."""

    def says(part: Checkpoint) -> bool:
        firsts = {unwrapped(name).removeprefix(part.prefix).partition(".")[0] for name in part.tensors}
        return len(firsts) == 1 and bool(
            re.search(rf"(?:^|_|-){re.escape(next(iter(firsts)))}$", part.path.stem)
        )

    return all(says(part) for part in opened)


def _more_together(opened: Sequence[Checkpoint]) -> bool:
    """The tensors together are a known pose network, which none of the parts is alone."""
    union = identify_shapes(
        {
            unwrapped(name).removeprefix(part.prefix): info.shape
            for part in opened
            for name, info in part.tensors.items()
        }
    )
    usual = all(
        _USUAL.match(unwrapped(name).removeprefix(part.prefix)) for part in opened for name in part.tensors
    )
    images = _takes_images(info.shape for part in opened for info in part.tensors.values())
    return usual and images and _known(union) and not any(_is_whole(part) for part in opened)


def _known(identity: Identity) -> bool:
    return identity.keypoints is not None and not identity.family.startswith(("unknown", "heatmap head over"))


def _refusal(opened: Sequence[Checkpoint], why: str, twice: str) -> str:
    """What the files are, and what to do."""
    listed = ", ".join(f"{part.path.name} ({part.identity})" for part in opened[:5])
    more = f" and {len(opened) - 5} more" if len(opened) > 5 else ""
    reasons = "; ".join(text for text in (why, twice) if text)
    return (
        f"{listed}{more} are not parts of one model: {reasons}. Name one file; or say that they belong "
        "together by a *.index.json, by numbered names (model-1-of-2, model-2-of-2), or by file names "
        "that are those of the modules (backbone.pth, head.pth)"
    )
