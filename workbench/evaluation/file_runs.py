"""Which files are of one run, as far as folders, names and hashes tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from workbench.checkpoints.checkpoint_files import name_of


class FileRun(NamedTuple):
    """The run that a file is of.

    Attributes:
        folder: the uppermost one of the run.
        name: what the file is called besides epoch and number; "" for a name that says only these.
    """

    folder: str
    name: str = ""


# What a trainer or a person calls an epoch of a run: epoch_10, best_coco_AP_epoch_210, last, results-3.
_EPOCH_MARK = re.compile(
    r"(?<![a-z])best.*|(?<![a-z])(epochs?|ep|e|iters?|iterations?|steps?|it)[-_=. ]*\d+|(?<![^-_. ])\d+"
    r"|(?<![a-z])(last|latest|final|ema|swa|ckpt|checkpoint|model|weights|results?|predictions?|keypoints?|dt|val|test)"
    r"(?![a-z])"
)


def runs_of_files(paths: Sequence[Path], hashes: Sequence[str] = ()) -> list[FileRun]:
    """Which run each file is of, as far as folders, names and hashes tell.

    One folder, with those below it, is one run, unless its files have names of their own beside epoch and
    number: ``hrnet.json`` and ``vitpose.json`` are of two. Predictions of one checkpoint are of one run,
    wherever they lie.

    Args:
        paths: checkpoints, predictions or result files.
        hashes: of the checkpoint that each is or was made with, "" where none is known; () for none.

    Example:
        >>> names = ["hrnet_epoch_10.json", "hrnet_epoch_20.json", "vitpose.json"]
        >>> [run.name for run in runs_of_files([Path(name) for name in names])]
        ['hrnet', 'hrnet', 'vitpose']
    """
    folders = [path.absolute().parent for path in paths]
    tops = [
        min((f for f in folders if f == own or f in own.parents), key=lambda f: len(f.parts))
        for own in folders
    ]
    names = [_EPOCH_MARK.sub(" ", name_of(path).lower()) for path in paths]
    runs = [
        FileRun(str(top), "-".join(re.findall(r"[^-_. ]+", name)))
        for top, name in zip(tops, names, strict=True)
    ]
    # Beside a file that is called best or epoch_3 only, nothing says that another is of another run.
    unnamed = {run.folder for run in runs if not run.name}
    runs = [FileRun(run.folder) if run.folder in unnamed else run for run in runs]
    first: dict[str, FileRun] = {}
    known = hashes or [""] * len(runs)
    return [first.setdefault(sha, run) if sha else run for sha, run in zip(known, runs, strict=True)]
