"""The project speaks of itself alone: no file names a place of the machine on which it was written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Package indexes of one machine; the public one needs no address.
INDEX = re.compile(r"(?:https?|file)://\S*/simple\b|--(?:extra-)?index-url|--find-links")


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this tree is no git checkout: which files belong to the project is not known")
    return [ROOT / name for name in listed.decode().split("\0") if name]


def places() -> list[str]:
    """Folders that are this machine's own: of the checkout, of the user, of Python's environment."""
    found = {ROOT, ROOT.parent, Path.home(), Path(sys.prefix), Path(sys.prefix).resolve()}
    return sorted(str(place) for place in found if place != Path("/"))


def test_no_file_names_a_place_or_a_package_index_of_a_machine():
    own = [(f"{place}/", re.compile(rf"(?<![\w.}}\]/-]){re.escape(place)}/")) for place in places()]
    assert all(pattern.search(f"at {place}file") for place, pattern in own)
    named = []
    for path in tracked():
        content = path.read_bytes() if path.is_file() and path != Path(__file__).resolve() else b""
        if b"\0" not in content[:8192]:
            text = content.decode("utf-8", "replace")
            found = [place for place, pattern in own if place in text and pattern.search(text)]
            found += INDEX.findall(text)
            named += [f"{path.relative_to(ROOT)}: {one}" for one in found]
    assert not named
