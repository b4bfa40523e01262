"""Inspector: one question that is asked of one run, declared for all user interfaces; and its parameters.

An inspector is one file with a frozen dataclass `Params`, a function ``compute(run, params) -> Report`` and
the record ``INSPECTOR``. The file's first line is the question. Its page, verb, HTTP name and contract tests
follow from the record; workbench.inspectors finds the file.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.capabilities import Groups
from workbench.core.errors import NotAvailable, nearest
from workbench.core.needs import ANY_MODEL, Needs

if TYPE_CHECKING:
    from workbench.core.model import PoseModel
    from workbench.core.report import Report
    from workbench.core.run import Run


@dataclass(frozen=True)
class Inspector:
    """One inspection, as user interfaces see it.

    Attributes:
        title: shown on its page.
        question: the question it answers, one line; the same as the first line of its file.
        params: frozen dataclass whose fields are the controls (int, float, bool, str, Literal, Annotated with
            Range or Choice), all with defaults, each explained in its docstring.
        compute: from a run and parameters to a report. Pure: same input, same report.
        record: the taps it reads: () none, ("*",) all of the model's.
        needs: what it reads of a model, its outputs and its samples.
        mirrored: of a bottom-up model it reads the mirrored pass as well, as in the published protocol.
        of_file: from an opened checkpoint and parameters to a report, where no model can be built of the
            file; None where a model has to run.
        order: position among the inspectors of its folder in user interfaces; read without importing it.
    """

    title: str
    question: str
    params: type
    compute: Callable[[Run, Any], Report]
    record: tuple[str, ...] = ()
    needs: Needs = ANY_MODEL
    mirrored: bool = False
    of_file: Callable[[Any, Any], Report] | None = None
    order: int = 1000

    def report(self, run: Run, params: Any = None) -> Report:
        """The report on a run, after its needs are checked.

        Args:
            run: with the taps of `record` recorded.
            params: an instance of `params`; its defaults when None.

        Raises:
            NotAvailable: the run's model, outputs or samples lack something; the sentence says what.
            ValueError: a parameter is not possible for this run.
        """
        if sentence := self.needs.unmet_in(run):
            raise NotAvailable(sentence)
        return self.compute(run, self.params() if params is None else params)

    def flips(self, model: PoseModel) -> bool:
        """Whether a run for this inspection includes the mirrored image."""
        return self.mirrored and isinstance(model, Groups) and bool(model.skeleton.mirror)

    @property
    def name(self) -> str:
        """The module's name; also its address in the app and its verb on the command line."""
        return self.compute.__module__.rpartition(".")[2]


@dataclass(frozen=True)
class Range:
    """Bounds of a numeric parameter, for the user interfaces: ``Annotated[int, Range(1, 15, 1)]``."""

    low: float
    high: float
    step: float


@dataclass(frozen=True)
class Choice:
    """A parameter whose values are known once there is a run: ``Annotated[str, Choice(of_run)]``.

    Attributes:
        of: from a run to the values offered, the first being the default.
    """

    of: Callable[[Run], list[str]]

    def index(self, run: Run, value: str) -> int:
        """Position of a value among those offered; the first for "".

        Raises:
            ValueError: it is not offered. The message lists near ones.
        """
        offered = self.of(run)
        if value and value not in offered:
            raise ValueError(f"no {value!r} in this run; nearest: {nearest(value, offered)}")
        return offered.index(value) if value else 0


def field_descriptions(params: type) -> dict[str, str]:
    """Parameter -> what the docstring of its Params says of it, under ``Attributes:``."""
    _, _, listed = inspect.cleandoc(params.__doc__ or "").partition("Attributes:\n")
    notes: dict[str, str] = {}
    current = ""
    for line in listed.splitlines():
        entry = re.match(r" {4}(\w+)(?: \([^)]*\))?: (.+)", line)
        if entry:
            current = entry[1]
            notes[current] = entry[2].strip()
        elif current and line.startswith(" " * 8):
            notes[current] += " " + line.strip()
        else:
            current = ""
    return notes


def instances(run: Run) -> list[str]:
    """Names of the samples of a run, each name once."""
    keys = [sample.key or f"sample {i}" for i, sample in enumerate(run.samples)]
    return [key if keys.count(key) == 1 else f"{key} ({i})" for i, key in enumerate(keys)]


def keypoints(run: Run) -> list[str]:
    """The choice of the keypoint with the lowest score, then the keypoints of the run's model."""
    return [LEAST_CERTAIN, *run.model.skeleton.keypoints]


def keypoint_of(run: Run, n: int, value: str) -> int:
    """Index of the keypoint that a KEYPOINT parameter means for sample n.

    Raises:
        ValueError: the model has no such keypoint.
    """
    k = KEYPOINT.index(run, value)
    scores = np.nan_to_num(np.asarray(run.predictions[n].scores, float), nan=np.inf)
    return k - 1 if k else int(scores.argmin())


LEAST_CERTAIN = "least certain"
INSTANCE = Choice(instances)
KEYPOINT = Choice(keypoints)
