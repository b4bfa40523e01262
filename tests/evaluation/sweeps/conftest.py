"""A run of three epochs whose keypoints lie 6, 2 and 0 pixels off, and the data that they are judged on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.apps import painted
from workbench.evaluation import SweepRules


def write_run(folder, delay=0.0, epochs=((1, 6), (2, 2), (10, 0))):
    for epoch, shift in epochs:
        painted.write_checkpoint(folder / f"epoch_{epoch}.pth", epoch, shift, delay)
    return folder


def rules(*ablations, **more):
    """Small batches, so that 24 images are six batches."""
    return SweepRules(ablations=ablations, batch_size=4, opening={"adapter": painted.__file__}, **more)


@pytest.fixture
def painting(tmp_path):
    run = write_run(tmp_path / "run")
    return SimpleNamespace(
        run=run,
        data=painted.write_data(tmp_path / "data", 24),
        out=tmp_path / "swept",
        adapter=painted.__file__,
    )
