from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def configs() -> Path:
    """The folder of the configs that mmpose ships."""
    from workbench.models.mmpose_compat import install

    install()
    import mmpose

    return Path(mmpose.__file__).parent / ".mim/configs"
