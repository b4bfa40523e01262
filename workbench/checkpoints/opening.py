"""Opening of checkpoints: the format of a file, and what is in it; nothing is run, no tensor is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from workbench.checkpoints.averages import averages_of
from workbench.checkpoints.budget import LIMITS, Budget, Limits, TooExpensive
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.checkpoint_files import files_of, merged
from workbench.checkpoints.exported_files import read_onnx, read_tflite
from workbench.checkpoints.foreign_formats import foreign_archive, foreign_format, foreign_name
from workbench.checkpoints.history import history_of
from workbench.checkpoints.numpy_files import read_npz
from workbench.checkpoints.pickled_objects import Fields, Ordered
from workbench.checkpoints.safetensors_file import is_safetensors, read_safetensors
from workbench.checkpoints.state_dicts import Finder, Found, common_prefix, find_state_dict
from workbench.checkpoints.tensors import Contents, FileRange, TensorInfo
from workbench.checkpoints.torch_files import is_export, read_bare_pickle, read_export, read_torch_zip
from workbench.checkpoints.zip_archive import open_archive
from workbench.core.report import counted

# Containers that hold any Python value; all others hold tensors by name, which is all that they say.
_PICKLED = ("torch zip", "pickle", "torch pickle before 1.6")


def open_checkpoint(
    path: Path | str | Sequence[Path | str], *, wrapper: str = "", limits: Limits = LIMITS
) -> Checkpoint:
    """Open a checkpoint of any known format; nothing in it is executed, no tensor is read.

    Args:
        path: a file, several files that make one model, a shard index (``*.index.json``), or a folder that
            holds one model.
        wrapper: key of the weights to take, for files that hold several (``best_state_dict``); "" for the
            usual keys.
        limits: bounds on what a file may ask for before it is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or a damaged or hostile one; one sentence says what it is.
        LookupError: the file is ONNX and the package onnx is not installed.

    Example:
        >>> from workbench.checkpoints.demo import demo_checkpoints
        >>> checkpoint = open_checkpoint(demo_checkpoints()[-1])
        >>> checkpoint.format, checkpoint.epoch, checkpoint.identity.family
        ('mmengine', 40, 'RTMPose')
        >>> name = next(iter(checkpoint.tensors))
        >>> checkpoint.read(name).shape == checkpoint.tensors[name].shape  # read from disk now
        True
    """
    files = files_of(path, limits)
    opened = [_one(file, wrapper, limits) for file in files]
    return opened[0] if len(opened) == 1 else merged(opened, isinstance(path, (str, Path)))


def _one(path: Path, wrapper: str, limits: Limits) -> Checkpoint:
    budget = Budget(path.name, objects=limits.objects, nbytes=limits.text)
    contents = contents_of(path, limits, budget)
    finder = Finder(budget, limits)
    try:
        found = find_state_dict(contents.value, finder, wrapper)
        named = {name: _named(info, name) for name, info in found.tensors.items()}
        _refuse_multiplied(named, path, limits)
        kind = _format(contents, found)
        history = history_of(contents.value, contents.facts, limits.shown)
        averages = averages_of(contents.value, finder, found.wrapper, named, kind == "mmengine")
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return Checkpoint(
        paths=(path, *_beside(path, named.values())),
        container=contents.container,
        format=kind,
        tensors=named,
        wrapper=found.wrapper,
        prefix=common_prefix(named),
        history=history,
        averages=replace(averages, averaged=_all_named(averages.averaged), raw=_all_named(averages.raw)),
        inert=contents.inert,
        facts=contents.facts,
        unread=found.unread,
        left=found.left,
        modules=_modules(contents.value, found.wrapper),
    )


def _modules(value: object, wrapper: str) -> tuple[str, ...]:
    """Modules of the network, as torch lists them beside the weights under a key."""
    for key in wrapper.split(".") if wrapper else ():
        value = value.get(key) if isinstance(value, Mapping) else None
    return value.modules if isinstance(value, Ordered) else ()


def _refuse_multiplied(tensors: Mapping[str, TensorInfo], path: Path, limits: Limits) -> None:
    """Check the sum of all tensors: by sharing storages a small file could declare terabytes.

    Raises:
        ValueError: together they declare far more bytes than the file holds.
    """
    named = sum(info.nbytes for info in tensors.values() if info.storage.source is not None)
    size = path.stat().st_size
    if named > max(limits.shared * size, limits.text):
        raise ValueError(
            f"its tensors name {named:,} bytes together, which the {size:,} bytes of the file cannot hold; "
            "it is refused as a bomb"
        )


def _beside(path: Path, tensors: Iterable[TensorInfo]) -> list[Path]:
    """Other files that tensors lie in, as ONNX stores large weights: part of the size and of the hash."""
    sources = (info.storage.source for info in tensors)
    return list(dict.fromkeys(p.path for p in sources if isinstance(p, FileRange) and p.path != path))


def _named(info: TensorInfo, name: str) -> TensorInfo:
    return replace(info, name=name)


def _all_named(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {name: _named(info, name) for name, info in tensors.items()}


def _format(contents: Contents, found: Found) -> str:
    value = contents.value
    if found.single:
        return "a single tensor, no state dict"
    if found.joined:
        return f"weights under {', '.join(repr(key[:60]) for key in found.joined[:6])}, joined"
    if contents.container not in _PICKLED:
        return contents.container
    if isinstance(value, (list, tuple)):
        return (f"a list of {counted(len(value), 'value')}") + (
            f", weights under {found.wrapper!r}" * bool(found.wrapper)
        )
    if not isinstance(value, Mapping) or isinstance(value, Fields):
        return "pickled module"
    meta = value.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    if "pytorch-lightning_version" in value:
        return "Lightning"
    if "message_hub" in value or "mmengine_version" in meta:
        return "mmengine"
    if "state_dict" in value and ("mmcv_version" in meta or ("meta" in value and "config" in meta)):
        return "mmcv 0.x"
    if "state_dict" in value and "meta" in value:
        return "OpenMMLab, published without training state"
    if found.wrapper:
        return f"training checkpoint, weights under {found.wrapper!r}"
    return "bare state dict"


# -- the format of a file, from its first bytes


_WANTED = "a checkpoint (.pth, .pt, .ckpt, .safetensors, .onnx, .tflite, TorchScript, torch.export) is needed"
# Protocols 0 and 1 have no header; dicts, lists, tuples and objects begin like this.
_PICKLES = (
    b"(dp", b"(lp", b"(ip", b"}q", b"]q", b"(cc", b"(i", b"(S'", b"ccollections\n", b"ccopy", b"cos\n",
    b"cnt\n", b"cposix\n", b"c__builtin__\n", b"cbuiltins\n", b"cnumpy",
)  # fmt: skip
# First bytes -> what the file is.
_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"GGUF", "a GGUF language model"),
    (b"\x1f\x8b", "packed with gzip: unpack it first (gunzip, or tar xzf)"),
    (b"\xfd7zXZ", "packed with xz: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"BZh", "packed with bzip2: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it first"),
    (b"OggS", "a sound or video file"),
    (b"\x1aE\xdf\xa3", "a video file"),
)


@dataclass(frozen=True)
class Format:
    """One format of files: how it is recognised, and how it is read.

    Attributes:
        name: for people.
        recognises: from the first 1024 bytes (fewer of a smaller file), the size in bytes and the path to
            whether a file has this format. Cheap, and raises nothing.
        read: from the path, the limits and the budget of this file to its Contents. Runs nothing of the file
            and leaves tensors on disk. Raises ValueError with one sentence for a damaged file; for a format
            that is only named and not read, it always does.
    """

    name: str
    recognises: Callable[[bytes, int, Path], bool]
    read: Callable[[Path, Limits, Budget], Contents]


def contents_of(path: Path, limits: Limits, budget: Budget) -> Contents:
    """What one file holds, by the reader of the first of FORMATS that recognises it.

    Args:
        path: the file.
        limits: bounds on what is read.
        budget: work and memory that are left for the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or damaged; one sentence says which, and what to do.
        LookupError: the file is ONNX and the package onnx is not installed.
    """
    if not path.exists():
        hint = "; an option stands before each NAME=VALUE: --assume mean=0 --assume std=255"
        raise FileNotFoundError(f"no file {path}{hint if '=' in path.name else ''}")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; {_WANTED}")
    size = path.stat().st_size
    head = _head(path)
    if size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or download it again")
    for known in FORMATS:
        if known.recognises(head, size, path):
            return known.read(path, limits, budget)
    raise ValueError(
        f"{path.name} is no checkpoint that is known here: {size} bytes beginning with "
        f"{_shown(head)}; {_WANTED}"
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def _refuse_pointer(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    raise ValueError(
        f"{path.name} is a git-lfs pointer of {path.stat().st_size} bytes, not the file itself; fetch it "
        "with: git lfs pull"
    )


def _is_other(head: bytes, size: int, path: Path) -> bool:
    return head.startswith(tuple(magic for magic, _ in _OTHERS))


def _refuse_other(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    head = _head(path)
    what = next(what for magic, what in _OTHERS if head.startswith(magic))
    raise ValueError(f"{path.name} is {what}; {_WANTED}")


def _refuse_tar(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    raise ValueError(_tar(path))


def _is_video(head: bytes, size: int, path: Path) -> bool:
    return head[4:8] in (b"ftyp", b"moov") or head[:4] == b"RIFF"


def _refuse_video(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    raise ValueError(f"{path.name} is a video or image file; {_WANTED}")


def _refuse_foreign(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    what = foreign_format(path, _head(path)) or foreign_name(path)
    raise ValueError(f"{path.name} is {what}; {_WANTED}")


def _read_onnx(path: Path, limits: Limits, budget: Budget) -> Contents:
    try:
        return read_onnx(path)
    except ValueError:  # other protobuf files begin alike
        if foreign_name(path):
            _refuse_foreign(path, limits, budget)
        raise


def _is_text(head: bytes, size: int, path: Path) -> bool:
    return _as_text(head) is not None and not _looks_pickled(head)


def _refuse_text(path: Path, limits: Limits, budget: Budget) -> NoReturn:
    raise ValueError(_text_sentence(path, _as_text(_head(path)) or ""))


def _read_old_pickle(path: Path, limits: Limits, budget: Budget) -> Contents:
    """Contents of a pickle of protocol 0 or 1, which has no header: other files may begin like one."""
    try:
        return read_bare_pickle(path, limits, budget)
    except ValueError as error:
        if "bomb" in str(error):
            raise
        raise ValueError(f"{path.name} is no checkpoint: {_shown(_head(path))}; {_WANTED}") from error


def _read_zip(path: Path, limits: Limits, budget: Budget) -> Contents:
    """Contents of a zip archive, by what it holds."""
    archive = open_archive(path, limits=limits)
    if is_export(archive):
        return read_export(archive, limits, budget)
    if "data.pkl" in archive.members or archive.ending("/data.pkl"):
        return read_torch_zip(archive, limits, budget)
    if archive.ending(".npy"):
        return read_npz(archive)
    names = list(archive.members)
    inside = next((n for n in names if n.endswith((".pth", ".pt", ".ckpt", ".safetensors", ".onnx"))), None)
    if inside is not None:
        raise ValueError(f"{path.name} is a zip archive that holds {inside[:80]}: unpack it first")
    if what := foreign_archive(path, names):
        raise ValueError(f"{path.name} is {what}; {_WANTED}")
    shown = ", ".join(n[:40] for n in names[:3]) or "nothing"
    raise ValueError(f"{path.name} is a zip archive without weights (it holds {shown}); {_WANTED}")


def _tar(path: Path) -> str:
    try:
        names = _tar_names(path)
    except ValueError:
        return f"{path.name} is a damaged tar archive; {_WANTED}"
    if {"storages", "tensors", "pickle"} <= names:
        return (
            f"{path.name} was written by torch before 0.1.10 (a tar archive), which is not read here; "
            "open it with torch.load and save it again with torch.save"
        )
    shown = f" ({', '.join(sorted(names)[:3])})" if names else ""
    return f"{path.name} is a tar archive{shown}: unpack it first"


# Headers of a tar archive that are looked at; torch wrote four members.
_TAR_HEADERS = 16
# Kinds of headers that describe the next one: pax (x, g) and GNU's long names (L, K).
_DESCRIBING = b"xgLK"


def _tar_names(path: Path) -> set[str]:
    """Names of the first members of a tar archive; what stands between their headers is not read.

    Not by Python's tarfile: that of 3.11.7 asks for the memory that a pax header states, calls itself once
    for each long name, and searches pax records in quadratic time.
    Source: POSIX.1-2001 pax, "ustar Interchange Format"; GNU tar for sizes in base 256.

    Raises:
        ValueError: a header is damaged, or its member reaches beyond the file.
    """
    names, at, size = set(), 0, path.stat().st_size
    with path.open("rb") as file:
        for _ in range(_TAR_HEADERS):
            file.seek(at)
            header = file.read(512)
            if not any(header):  # the end, or the zeros before it
                return names
            if len(header) < 512 or int(header[148:156].strip(b" \0") or b"0", 8) != _tar_checksum(header):
                raise ValueError("a header without its checksum")
            if header[156] not in _DESCRIBING:
                names.add(header[:100].partition(b"\0")[0].decode("utf-8", "replace"))
            given = header[124:136]
            wide = given[0] == 0x80
            nbytes = int.from_bytes(given[1:], "big") if wide else int(given.strip(b" \0") or b"0", 8)
            at += 512 + -(-nbytes // 512) * 512
            if nbytes < 0 or at > size:
                raise ValueError("a member beyond the file")
    return names


def _tar_checksum(header: bytes) -> int:
    """Sum of a header's bytes, the checksum itself taken as blanks."""
    return sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _as_text(head: bytes) -> str | None:
    if b"\x00" in head:
        return None
    # A character may be cut at the end of the head.
    for cut in range(4):
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text if all(c.isprintable() or c in "\r\n\t\f\ufeff" for c in text) else None
    return None


def _text_sentence(path: Path, text: str) -> str:
    first = (text.strip().splitlines() or [""])[0][:60]
    lower = text.lstrip("\ufeff \r\n\t").lower()
    if lower.startswith(("<!doctype", "<html", "<?xml")):
        return (
            f"{path.name} is a web page, not a checkpoint: the download got an error or sign-in page; "
            "repeat it"
        )
    if path.name == "last_checkpoint" or first.endswith((".pth", ".pt", ".ckpt")):
        return f"{path.name} is a text file that names a checkpoint; open that one: {first}"
    # "[train]" begins a section of settings, not a list.
    if re.match(r"\{|\[\s*([\[{\"\d\]-]|$)", lower):
        return f"{path.name} is a JSON file and no index of weights; {_WANTED}"
    return f"{path.name} is a text file beginning {first!r}; {_WANTED}"


def _looks_pickled(head: bytes) -> bool:
    """Whether it may be a pickle of protocol 0 or 1."""
    return head.startswith(_PICKLES)


def _shown(head: bytes) -> str:
    return repr(head[:12])


FORMATS: tuple[Format, ...] = (
    Format(
        "git-lfs pointer",
        lambda head, size, path: head.startswith(b"version https://git-lfs"),
        _refuse_pointer,
    ),
    Format(
        "zip: torch.save, TorchScript, torch.export, numpy",
        lambda head, size, path: head.startswith((b"PK\x03\x04", b"PK\x05\x06")),
        _read_zip,
    ),
    Format(
        "safetensors",
        lambda head, size, path: is_safetensors(head, size),
        lambda path, limits, budget: read_safetensors(path, limits),
    ),
    Format("pickle", lambda head, size, path: head[:1] == b"\x80", read_bare_pickle),
    Format("picture, document, packed file", _is_other, _refuse_other),
    Format("tar", lambda head, size, path: head[257:262] == b"ustar", _refuse_tar),
    Format("video", _is_video, _refuse_video),
    Format(
        "TensorFlow Lite",
        lambda head, size, path: head[4:8] == b"TFL3",
        lambda path, limits, budget: read_tflite(path, budget),
    ),
    Format(
        "file of another framework",
        lambda head, size, path: bool(foreign_format(path, head)),
        _refuse_foreign,
    ),
    Format("text", _is_text, _refuse_text),
    Format(
        "ONNX",
        # 8: protobuf's field 1, ir_version.
        lambda head, size, path: head[:1] == b"\x08" or path.suffix == ".onnx",
        _read_onnx,
    ),
    Format("pickle of protocol 0 or 1", lambda head, size, path: _looks_pickled(head), _read_old_pickle),
    Format(
        "file with a name of another framework",
        lambda head, size, path: bool(foreign_name(path)),
        _refuse_foreign,
    ),
)
"""All formats, tried in this order; those with an unmistakable beginning come first."""
