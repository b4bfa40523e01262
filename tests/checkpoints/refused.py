"""What `open_checkpoint` says of a file that it does not open."""

from __future__ import annotations

import pytest

from workbench.checkpoints import open_checkpoint


def assert_refused(path, data, says):
    """Written to this path, the data is refused in one sentence that names the file and matches `says`."""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        open_checkpoint(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
