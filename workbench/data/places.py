"""Where may an image lie that a file names?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def is_within(file: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies below one of some folders, links followed; any file does when there are none."""
    if not folders:
        return True
    target = file.resolve()
    return any(target.is_relative_to(folder.resolve()) for folder in folders)
