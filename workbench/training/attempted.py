"""Is the attempt in this folder the one that is to go on, or another one that was left there?

A folder's last snapshot is taken up again. Were it another attempt's (a planted fault, another image), its
rows would be judged as if they were this one's, and a healthy network be called broken.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.core.capabilities import HasDefects
from workbench.training.plan import Plan
from workbench.training.sequences import TaughtSequence

FILE = "attempt.json"

# They say how far to go and what to write down, not what is done at a step.
ANY = ("steps", "rates", "measure_every", "snapshot_every")


def same_attempt(folder: Path, model: PoseModel, samples: Sequence[Sample], plan: Plan) -> list[str]:
    """Write into a fresh run folder whose it is; refuse one that is another attempt's.

    Args:
        folder: for rows and snapshots.
        model: as `trainable` gave it.
        samples: of the attempt.
        plan: of the attempt.

    Returns:
        one sentence where the record of the attempt was damaged and is made anew, else nothing.

    Raises:
        ValueError: what lies there was made with other images, another network or another plan.
    """
    facts, file = _facts(model, samples, plan), folder / FILE
    if not any(folder.glob("step_*.pth")):
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, facts)
    elif file.exists():
        was = _read(file)
        if was is None:
            _write(file, facts)
            return [f"{file}: damaged, it is made anew; whether the steps in {folder} are of this attempt is "
                    "told by the network alone"]  # fmt: skip
        if other := [name for name in facts if was.get(name) != facts[name]]:
            raise ValueError(
                f"{folder}: expected an empty folder or this attempt's own, got another attempt's "
                f"({', '.join(other)} differ); name another folder"
            )
    return []


def _write(file: Path, facts: dict[str, Any]) -> None:
    half = file.with_suffix(".half")
    half.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    os.replace(half, file)  # noqa: PTH105 - atomic on every platform, which rename is not


def _read(file: Path) -> dict[str, Any] | None:
    """None where the file is damaged."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # no JSON, or no text at all
        return None
    return facts if isinstance(facts, dict) else None


def _facts(model: PoseModel, samples: Sequence[Sample], plan: Plan) -> dict[str, Any]:
    network: Any = model.module
    # A layer's rates and sizes are in its text; addresses of functions are of the process.
    told = network, network.defects if isinstance(network, HasDefects) else None, model.skeleton
    settings = {name: value for name, value in plan.settings.to_json().items() if name not in ANY}
    changes = {"augmentation": plan.augment, "flip": plan.flip}
    return {
        "images": _digest(b"".join(np.ascontiguousarray(s.image).tobytes() + _truth(s) for s in samples)),
        "network": _digest(re.sub(r" at 0x[0-9a-f]+", "", repr(told)).encode()),
        **{name: change and getattr(change, "__qualname__", "") for name, change in changes.items()},
        "teaching": repr(model.teaching if isinstance(model, TaughtSequence) else None),
        "codec": repr((plan.codec, plan.reading)),
        "dropout": plan.dropout,
        "normalisation": plan.normalisation,
        **settings,
    }


def _truth(sample: Sample) -> bytes:
    return np.asarray(
        (*sample.box, *np.ravel(sample.truth if sample.truth is not None else ())), float
    ).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
