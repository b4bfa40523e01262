"""What lies in a folder of predictions, with hashes, so that a table can be traced to its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import RECORD_SIZE, read_at_most, sha256_of, write_text
from workbench.core.plain_text import json_text
from workbench.core.report import plain
from workbench.evaluation.history import query_epochs
from workbench.evaluation.predictions import ORIGIN_KEY

if TYPE_CHECKING:
    from workbench.evaluation.history import History

MANIFEST = "manifest.json"


def write_manifest(folder: Path, data: str, about: Sequence[dict[str, Any]] = (), *, truth: str = "") -> Path:
    """Write `manifest.json`: each epoch's file with its hash, rows and protocol.

    Args:
        folder: of predictions.
        data: the data set, for people.
        about: more of each epoch, by ``epoch``: its checkpoint and that file's hash.
        truth: `epoch_scores.truth_digest` of the annotations; "" when they are not known.

    Raises:
        FileNotFoundError: there are no predictions.
        ValueError: a file is no file of predictions, or an epoch is there twice.
    """
    import pyarrow.parquet as pq

    history = query_epochs(folder)
    more = {one["epoch"]: one for one in about}
    entries = []
    for epoch, path in history.files.items():
        with pq.ParquetFile(path) as facts:
            notes, count = facts.schema_arrow.metadata or {}, facts.metadata.num_rows
        protocol = history.protocols[epoch]
        state = path.stat()
        entries.append(
            {
                "epoch": epoch, "file": path.name, "bytes": state.st_size, "changed_ns": state.st_mtime_ns,
                "sha256": sha256_of(path), "rows": count,
                "origin": notes.get(ORIGIN_KEY, b"").decode(errors="replace"),
                "protocol": None if protocol is None else protocol.to_json(), **more.get(epoch, {}),
            }
        )  # fmt: skip
    facts = {"format": 1, "data": data, "truth_sha256": truth, "epochs": entries}
    text = json_text(plain(facts), indent=1) + "\n"
    return write_text(Path(folder) / MANIFEST, text, follow=False)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None without one.

    Raises:
        ValueError: it is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        facts = json.loads(read_at_most(path, RECORD_SIZE, "a manifest"))
        if all(isinstance(one[name], str) for one in facts["epochs"] for name in ("file", "sha256")):
            return facts
        reason: Exception | str = "a name or hash is no text"
    except (ValueError, KeyError, TypeError, RecursionError) as failure:
        reason = failure
    raise ValueError(f"{path.name}: is damaged, expected a list of epochs with file and sha256 ({reason})")


def check_manifest(folder: Path, history: History | None = None) -> list[str]:
    """What in the folder is not as its manifest says, one sentence each; [] without a manifest.

    A file of the size and time of change that the manifest states is taken as unchanged; the bytes of any
    other are hashed.

    Args:
        folder: of predictions.
        history: of the folder, when it is open: then its epochs are compared too.

    Raises:
        ValueError: the manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    wrong = []
    names = set()
    stated = {path.name: epoch for epoch, path in history.files.items()} if history else {}
    for one in manifest["epochs"]:
        name = Path(str(one["file"])).name  # nothing outside the folder is opened
        names.add(name)
        file = Path(folder) / name
        if not file.is_file():
            wrong.append(f"{one['file']}: named in {MANIFEST}, and not there")
        elif _changed(file, one):
            wrong.append(f"{name}: changed since {MANIFEST} was written")
        elif history is not None and stated.get(name) != one.get("epoch"):
            wrong.append(f"{name}: is epoch {stated.get(name)}, and {MANIFEST} calls it {one.get('epoch')}")
    wrong += [f"{name}: not named in {MANIFEST}" for name in stated if name not in names]
    return wrong


def check_truth(folder: Path, data: str, truth: str) -> None:
    """Raise ValueError if the predictions of a folder were made on other annotations.

    Args:
        folder: of predictions.
        data: name of the set that is now given.
        truth: its `epoch_scores.truth_digest`.
    """
    manifest = read_manifest(folder)
    stated = manifest.get("truth_sha256") if manifest else None
    if isinstance(stated, str) and stated and stated != truth:
        name = manifest.get("data") if manifest else ""
        raise ValueError(
            f"{Path(folder).name}: its predictions are of {name}, annotations {stated[:12]}, and "
            f"{data} has annotations {truth[:12]}; name the same data set, or another folder"
        )


def _changed(file: Path, one: dict[str, Any]) -> bool:
    state = file.stat()
    if (one.get("bytes"), one.get("changed_ns")) == (state.st_size, state.st_mtime_ns):
        return False
    return sha256_of(file) != one["sha256"]
