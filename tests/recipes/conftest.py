"""The configs of mmpose."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def installed() -> Path:
    """The folder of configs that mmpose ships."""
    spec = importlib.util.find_spec("mmpose")
    if spec is None or spec.origin is None:
        pytest.skip("mmpose is not installed")
    return Path(spec.origin).parent / ".mim"
