"""What kind of file is this? Told from its bytes; what is no checkpoint is called what it is."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.contents import Contents
from workbench.checkpoints.numpy_files import read_npz
from workbench.checkpoints.opening import foreign_format
from workbench.checkpoints.safetensors_file import is_safetensors, read_safetensors
from workbench.checkpoints.tflite_file import read_tflite
from workbench.checkpoints.torch_files import is_export, read_bare_pickle, read_export, read_torch_zip
from workbench.checkpoints.zip_archive import Archive, open_archive

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


def contents_of(path: Path, limits: Limits, budget: Budget) -> Contents:
    """What one file holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no checkpoint, or damaged; one sentence says which, and what to do.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; {_WANTED}")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
    if size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path.name} is a git-lfs pointer of {size} bytes, not the file itself; fetch it "
            "with: git lfs pull"
        )
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(open_archive(path, limits=limits), limits, budget)
    if is_safetensors(head, size):
        return read_safetensors(path, limits)
    if head[:1] == b"\x80":
        return read_bare_pickle(path, limits, budget)
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise ValueError(f"{path.name} is {what}; {_WANTED}")
    if head[257:262] == b"ustar":
        raise ValueError(_tar(path))
    if head[4:8] in (b"ftyp", b"moov") or (head[:4] == b"RIFF"):
        raise ValueError(f"{path.name} is a video or image file; {_WANTED}")
    if head[4:8] == b"TFL3":
        return read_tflite(path, budget)
    if foreign := foreign_format(path, head):
        raise ValueError(f"{path.name} is {foreign}; {_WANTED}")
    text = _as_text(head)
    if text is not None and not _looks_pickled(head):
        raise ValueError(_text_sentence(path, text))
    if head[:1] == b"\x08" or path.suffix == ".onnx":  # protobuf field 1, ir_version
        from workbench.checkpoints.onnx_file import read_onnx

        return read_onnx(path)
    if _looks_pickled(head):
        try:
            return read_bare_pickle(path, limits, budget)
        except ValueError as error:
            if "bomb" in str(error):
                raise
            raise ValueError(f"{path.name} is no checkpoint: {_shown(head)}; {_WANTED}") from error
    raise ValueError(
        f"{path.name} is no checkpoint that is known here: {size} bytes beginning with "
        f"{_shown(head)}; {_WANTED}"
    )


def _archive(archive: Archive, limits: Limits, budget: Budget) -> Contents:
    if is_export(archive):
        return read_export(archive, limits, budget)
    if "data.pkl" in archive.members or archive.ending("/data.pkl"):
        return read_torch_zip(archive, limits, budget)
    if archive.ending(".npy"):
        return read_npz(archive)
    names = list(archive.members)
    if {"config.json", "model.weights.h5"} <= set(names):
        raise ValueError(
            f"{archive.path.name} is a Keras 3 model (zip with config.json and model.weights.h5); "
            f"export it to ONNX; {_WANTED}"
        )
    inside = next((n for n in names if n.endswith((".pth", ".pt", ".ckpt", ".safetensors", ".onnx"))), None)
    if inside is not None:
        raise ValueError(f"{archive.path.name} is a zip archive that holds {inside[:80]}: unpack it first")
    shown = ", ".join(n[:40] for n in names[:3]) or "nothing"
    raise ValueError(f"{archive.path.name} is a zip archive without weights (it holds {shown}); {_WANTED}")


def _tar(path: Path) -> str:
    import tarfile

    try:
        with tarfile.open(path) as archive:
            member = archive.next()
            names = {member.name} if member else set()
            while member is not None and len(names) < 8:
                member = archive.next()
                names |= {member.name} if member else set()
    except (tarfile.TarError, OSError, ValueError):
        return f"{path.name} is a damaged tar archive; {_WANTED}"
    if {"storages", "tensors", "pickle"} <= names:
        return (
            f"{path.name} was written by torch before 0.1.10 (a tar archive), which is not read here; "
            "open it with torch.load and save it again with torch.save"
        )
    return f"{path.name} is a tar archive ({', '.join(sorted(names)[:3])}): unpack it first"


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
    if lower.startswith(("{", "[")):
        return f"{path.name} is a JSON file without a weight_map; {_WANTED}"
    return f"{path.name} is a text file beginning {first!r}; {_WANTED}"


def _looks_pickled(head: bytes) -> bool:
    """It may be a pickle of protocol 0 or 1."""
    return head.startswith(_PICKLES)


def _shown(head: bytes) -> str:
    return repr(head[:12])
