"""Inspector: one question that is asked of one run, declared for all user interfaces; and its parameters.

An inspector is one file with a frozen dataclass `Params`, a function ``compute(run, params) -> Report`` and
the record ``INSPECTOR``. The file's first line is the question. Its page, verb, HTTP name and contract tests
follow from the record; workbench.inspectors finds the file. Needs are what it, a page or a verb reads of a
model, and the sentence that says what is missing::

    needs = Needs(capability=RollsOut, truth=True)
    sentence = needs.unmet(model, truth=False)   # "" if all is there
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.capabilities import Conditioned, Groups, HasAttention, PlacesMaps, RollsOut, TakesSupport
from workbench.core.errors import NotAvailable, nearest

if TYPE_CHECKING:
    from workbench.core.model import Outputs, PoseModel
    from workbench.core.report import Report
    from workbench.core.run import Run


OUTPUT_NAMES: Mapping[str, str] = {"simcc": "SimCC vectors", "fields": "vector fields"}
"""Field of Outputs -> its name in sentences, where that is another word."""

ABSENT: Mapping[type, str] = {
    Groups: "tags: this model gives no tags and no grouping: it sees one box at a time; expected a bottom-up "
    "model, which finds all people of an image",
    PlacesMaps: "maps: this model groups people, but does not state where its maps lie in the image (scales, "
    "main_scale, tag_size, place, pass_named); expected a workbench.models.bottom_up.BottomUp",
    RollsOut: "rollout: this model finds all keypoints at once; expected a sequence model",
    TakesSupport: "support: this model takes no support example; expected a category-agnostic model, "
    "which finds the keypoints of an annotated example image",
    HasAttention: "attention: this model has no self-attention over patches whose weights can be read; "
    "expected a vision transformer such as ViTPose",
    Conditioned: "conditioning: no condition (text, class) is declared for this model; expected "
    "the workbench's text fusion modules, a config with code of your own (custom_imports), an adapter "
    "whose model has the capability Conditioned, or on the command line --film-tap with the name of the "
    "layer that outputs γ and β (see README)",
}
"""Capability -> what is said of a model without it."""


@dataclass(frozen=True)
class Needs:
    """What is read of a model; the default reads only what every model has.

    Attributes:
        outputs: fields of Outputs of which one is enough: ``("heatmaps", "simcc")``; () for any.
        capability: what the model must be able to do, a Protocol of workbench.core.capabilities, or several
            of which one is enough; None for nothing beyond PoseModel.
        codec: the model must state how coordinates are encoded in its output.
        truth: the samples must be annotated.
    """

    outputs: tuple[str, ...] = ()
    capability: type | tuple[type, ...] | None = None
    codec: bool = False
    truth: bool = False

    @property
    def capabilities(self) -> tuple[type, ...]:
        """The capabilities of which one is enough."""
        if self.capability is None:
            return ()
        return self.capability if isinstance(self.capability, tuple) else (self.capability,)

    def unmet(self, model: PoseModel, outputs: Outputs | None = None, truth: bool = True) -> str:
        """The sentence that says why a model cannot be asked; "" where it can.

        Args:
            model: any.
            outputs: of a forward pass; without them the model's codec decides between heatmaps and SimCC
                vectors, and all others count as present.
            truth: whether the samples are annotated.
        """
        given = _stated_outputs(model, self.outputs) if outputs is None else outputs.given()
        if self.outputs and not set(self.outputs) & set(given):
            return absent_output(self.outputs, given)
        if self.capabilities and not isinstance(model, self.capabilities):
            return absent_capability(self.capabilities[0])
        if self.codec and model.codec is None:
            return "codec: this family declares none, so no target can be drawn"
        if self.truth and not truth:
            return "truth: no annotation for these samples; give a data set with annotations"
        return ""

    def unmet_in(self, run: Run) -> str:
        """The same of a finished run: its model, its outputs, its samples."""
        return self.unmet(run.model, run.outputs, all(s.truth is not None for s in run.samples))

    def met_by_names(self, capabilities: Collection[str]) -> bool:
        """Whether a file whose models have the named capabilities can be asked, before one is built.

        Args:
            capabilities: names such as ``Groups``, as workbench.checkpoints.identity.Identity holds them.
        """
        return not self.capabilities or any(kind.__name__ in capabilities for kind in self.capabilities)

    def check(self, model: PoseModel, truth: bool = True) -> None:
        """Raise if a model cannot be asked.

        Args:
            model: that would be asked.
            truth: whether the samples have ground truth.

        Raises:
            NotAvailable: with the sentence of `unmet`.
        """
        if sentence := self.unmet(model, truth=truth):
            raise NotAvailable(sentence)


ANY_MODEL = Needs()
"""Of an inspector that can be asked about every model."""


def absent_capability(kind: type) -> str:
    """What is said of a model without a capability."""
    return ABSENT.get(kind, f"{kind.__name__}: this model does not have this capability")


def absent_output(wanted: tuple[str, ...], given: Collection[str]) -> str:
    """What is said of a model that gives none of the wanted outputs.

    Args:
        wanted: fields of Outputs, at least one.
        given: fields of Outputs that it gives.
    """
    names = [OUTPUT_NAMES.get(name, name) for name in wanted]
    if len(names) > 1:
        return f"output: this model gives neither {' nor '.join(names)}"
    present = ", ".join(OUTPUT_NAMES.get(name, name) for name in given) or "nothing"
    return f"{names[0]}: this model gives {present}, no {names[0]}"


def _stated_outputs(model: PoseModel, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The outputs that a model may give, as far as it declares any: a codec decides between two of them."""
    if model.codec is None:
        return wanted
    stated = "heatmaps" if model.codec.kind == "heatmap" else "simcc"
    other = {"heatmaps", "simcc"} - {stated}
    return (stated, *(name for name in wanted if name not in other))


@dataclass(frozen=True)
class Inspector:
    """One inspection, as user interfaces see it.

    Attributes:
        title: shown on its page.
        params: frozen dataclass whose fields are the controls (int, float, bool, str, Literal, Annotated with
            Range or Choice), all with defaults, each explained in its docstring.
        compute: from a run and parameters to a report. Pure: same input, same report.
        record: the taps it reads: () none, ("*",) all of the model's.
        needs: what it reads of a model, its outputs and its samples.
        mirrored: of a bottom-up model it reads the mirrored pass as well, as in the published protocol.
        of_file: from an opened checkpoint and parameters to a report, where no model can be built of the
            file; None where a model has to run.
        order: position among the inspectors of its folder in user interfaces; read without importing it.
        question: the question it answers, one line; the first line of the file of `compute` by default.
    """

    title: str
    params: type
    compute: Callable[[Run, Any], Report]
    record: tuple[str, ...] = ()
    needs: Needs = ANY_MODEL
    mirrored: bool = False
    of_file: Callable[[Any, Any], Report] | None = None
    order: int = 1000
    question: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.params, str):  # packages of before gave the question here
            raise TypeError(
                f"Inspector {self.title}: expected the class of parameters after the title, got "
                f"{self.params!r}; the question is the first line of the file, or question=..."
            )
        if not self.question:
            first, _, _ = (sys.modules[self.compute.__module__].__doc__ or "").partition("\n")
            object.__setattr__(self, "question", first)

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

        Args:
            run: that is asked.
            value: of the control.

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


def keypoint_choice(first: str) -> Choice:
    """The choice between a word that comes first, the default, and the keypoints of the run's model."""
    return Choice(lambda run: [first, *run.model.skeleton.keypoints])


def keypoint_of(run: Run, n: int, value: str) -> int:
    """Index of the keypoint that a KEYPOINT parameter means for sample n.

    Args:
        run: that is asked.
        n: index of the sample.
        value: of the control: the name of a keypoint, or LEAST_CERTAIN.

    Raises:
        ValueError: the model has no such keypoint.
    """
    k = KEYPOINT.index(run, value)
    scores = np.nan_to_num(np.asarray(run.predictions[n].scores, float), nan=np.inf)
    return k - 1 if k else int(scores.argmin())


LEAST_CERTAIN = "least certain"
INSTANCE = Choice(instances)
KEYPOINT = keypoint_choice(LEAST_CERTAIN)
