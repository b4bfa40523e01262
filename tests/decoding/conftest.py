from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def codecs():
    """mmpose's own codecs, the reference."""
    from workbench.models.mmpose_compat import install

    install()
    import mmpose.codecs

    return mmpose.codecs
