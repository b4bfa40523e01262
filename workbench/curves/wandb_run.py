"""Offline runs of Weights & Biases (``run-*.wandb``), read with wandb itself where it is installed."""

from __future__ import annotations

import json
from typing import Any

from workbench.core import NotAvailable
from workbench.core.errors import reason
from workbench.curves.json_lines import plain_rows
from workbench.curves.source import Source, check_size
from workbench.curves.table import Log

_MAGIC = b":W&B"


def is_wandb(head: bytes, name: str) -> bool:
    """Whether it begins as wandb's record files do."""
    return head.startswith(_MAGIC)


def read_wandb(source: Source) -> Log:
    """What an offline run logged with ``wandb.log``.

    Raises:
        NotAvailable: wandb is not installed, or a version without the reader that is used.
        ValueError: wandb cannot read the file.
    """
    try:
        from google.protobuf.message import DecodeError  # pyright: ignore[reportMissingImports]
        from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]
        from wandb.sdk.internal.datastore import DataStore  # pyright: ignore[reportMissingImports]
    except ImportError as missing:
        raise NotAvailable(
            f"{source.name}: an offline run of W&B is read with wandb, which is not installed ({missing}): "
            "`pip install wandb`, or export the run's history as CSV"
        ) from None
    check_size(source.path)
    store, objects = DataStore(), []
    try:
        store.open_for_scan(str(source.path))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                objects.append(_history(record.history))
                source.budget.make(1 + len(objects[-1]))
    except AssertionError as cut:  # how wandb's reader ends at a half-written record
        source.note(f"the last record is cut off and left out{f' ({reason(cut)})' if cut.args else ''}")
    except (DecodeError, ValueError, TypeError, IndexError) as damaged:
        raise ValueError(f"{source.name}: wandb cannot read it ({reason(damaged)})") from None
    if not objects:
        raise NotAvailable(f"{source.name}: no line of history in it")
    return Log(list(plain_rows(objects, source)), tuple(source.notes))


def _history(history: Any) -> dict[str, Any]:
    row = {}
    for item in history.item:
        name = item.key or "/".join(item.nested_key)
        try:
            row[name] = json.loads(item.value_json)
        except (ValueError, RecursionError):
            continue
    return row
