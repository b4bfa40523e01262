"""Where tests find what is no part of the project."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The project's top folder."""

SHARED = Path(os.environ.get("WORKBENCH_SHARED", ROOT.parent / "shared"))
"""Real data, annotations and key lists; beside the project where nothing else is said."""
