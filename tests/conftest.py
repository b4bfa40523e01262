"""What every test may ask for."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from tests.places import ROOT, SHARED

# The suite is meant for two cores, and a browser or a server has the other. Read when numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that is collected here goes away: looking through it for garbage takes a fifth of the time.
gc.disable()

# After the browser tests, the folders whose files take longest: whole verbs, pages, training.
LONG_FOLDERS = ("tests", "apps", "cli", "diagnosis", "training", "models", "inspectors", "sweeps")


@pytest.hookimpl(tryfirst=True)  # before the tests that `-m` leaves out are left out
def pytest_collection_modifyitems(items):
    """Tests in a browser are long and may be repeated once, and files with long tests come first.

    Such a test waits for another process, which may come late once; the report says so. A worker takes whole
    files: one that takes a minute leaves the other worker without work when it is the last.
    """
    long_files = set()
    for item in items:
        if "browser" in item.keywords or "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))
            item.add_marker(pytest.mark.long)
            long_files.add(item.path)
    items.sort(key=lambda item: (item.path not in long_files, item.path.parent.name not in LONG_FOLDERS))


def pytest_collection_finish():
    """Garbage is collected again, but not among modules and tests, a million objects."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project, where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data beside the project ({SHARED.name}/data is absent)")
    return SHARED


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's top folder."""
    return ROOT


@pytest.fixture
def workbench(capsys):
    """Run the command line in this process: `code, out, err = workbench("open", path, "--json")`."""
    from workbench.cli import main

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def scenes():
    """The built-in set of drawn people."""
    from workbench.data import builtin

    return builtin("scenes-people-val")


@pytest.fixture
def jobs():
    """A job manager, closed after the test."""
    from workbench.core.job import JobManager

    manager = JobManager()
    yield manager
    manager.close()
