"""Pages about one epoch of one run on a part of a data set: their state, address, controls and sections."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import gradio as gr
from gradio.components import Component

from apps.pages.engine import LabPage
from apps.pages.report_section import Answer, printing, report_there, subject_inputs
from apps.pages.sections import Download, Section, add_heading, add_section, details_html, report_updates
from apps.pages.subject import epoch_name, epoch_named
from apps.server.encoding import record_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.job import Job
    from workbench.core.report import Report

ALL = 0
"""Value of `EpochState.limit` for the whole set."""


@dataclass(frozen=True)
class EpochState:
    """One state of such a page.

    Attributes:
        run: a run's id.
        epoch: its index in the run.
        data: id of a set.
        limit: how much of the set is predicted; 0 for all.
        against: what it is compared with; "" for the default.
    """

    run: str
    epoch: int
    data: str
    limit: int
    against: str = ""

    def text(self) -> str:
        """The state as JSON, to be held by the page."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Back from `text`."""
        return record_of(cls, text)


def first_of(context: Context, runs: Sequence[RunFolder]) -> RunFolder:
    """The first of some runs; of all where there is none."""
    return next(iter(runs), context.registry.default_run())


def checked_subject(
    context: Context, run: Any, able: Sequence[RunFolder], epoch: Any, data: Any, limit: Any, default: int,
    counted: str,
) -> tuple[str, int, str, int]:  # fmt: skip
    """Id of the run, index of the epoch, id of the set, and limit; what is missing takes its default.

    Args:
        context: of this serving.
        run: its id.
        able: the runs that can be asked.
        epoch: its index.
        data: id of a set.
        limit: of what is counted.
        default: limit where none is given.
        counted: ``images`` or ``instances``.

    Raises:
        KeyError: no such epoch or data set.
        ValueError: a value that cannot be, or no set that fits.
    """
    registry = context.registry
    folder = registry.run(run) if run else first_of(context, able)
    index = folder.epochs[-1].index if epoch in (None, "") else int(epoch)
    registry.epoch(folder.id, index)
    data = data or registry.default_data(folder.id, index)
    if not data:
        raise ValueError("choose a data set: none that is served has the keypoints of this model")
    registry.sets.skeleton(data)
    count = default if limit in (None, "") else int(limit)
    if count < 0:
        raise ValueError(f"{counted}: expected 1 or more, or 0 for all, got {count}")
    return folder.id, index, data, count


State = TypeVar("State", bound=EpochState)
Asked = TypeVar("Asked", bound=EpochState, contravariant=True)


class EpochWork(Protocol[Asked]):
    """What computes the answers of a state by one job."""

    def start(self, state: Asked, again: bool = False) -> Any:
        """Start, or find, the job; `again` also after a cancelled or failed one."""

    def job(self, state: Asked) -> Job | None:
        """The newest job of a state."""


class EpochPage(LabPage[State]):
    """A page of one epoch of one run.

    Attributes:
        questions: section -> title and question.
        alone: section -> page that asks its question alone.
        waiting: section -> what is said while it is computed.
        limits: (word, limit) on offer.
        state_type: of the page.
        work: starts the job.
    """

    questions: ClassVar[Mapping[str, tuple[str, str]]]
    alone: ClassVar[Mapping[str, str]] = {}
    waiting: ClassVar[Mapping[str, str]] = {}
    limits: ClassVar[Sequence[tuple[str, int]]]
    state_type: ClassVar[type[EpochState]]
    work: EpochWork[State]

    @abstractmethod
    def able_runs(self) -> list[RunFolder]:
        """The runs that can be asked, told from their tensors."""

    @abstractmethod
    def found(self, state: State, section: str) -> Report | str | None:
        """A section's report, the reason why there is none, or None while it is not computed."""

    @abstractmethod
    def code(self, state: State, section: str) -> str:
        """Python that makes the same report in a notebook."""

    def add_subject(self, counted: str) -> list[Component]:
        """Add run, epoch, data and limit; `counted` is what the limit counts."""
        free: dict[str, Any] = {"allow_custom_value": True}
        return [
            gr.Dropdown([], value=None, label="run", min_width=170, scale=2, **free),
            gr.Dropdown([], value=None, label="epoch", min_width=130, **free),
            gr.Dropdown([], value=None, label="data", min_width=150, **free),
            gr.Dropdown(
                self.limits, value=self.state_type.limit, label=counted, min_width=100, scale=0, **free
            ),
        ]

    def start(self, state: State, again: bool = False) -> None:
        self.work.start(state, again)

    def job(self, state: State) -> Job | None:
        return self.work.job(state)

    def default_run(self) -> RunFolder:
        """The first run that can be asked, else the first of all."""
        return first_of(self.context, self.able_runs())

    def runs_that_can(self) -> list[str]:
        return [run.title for run in self.able_runs()]

    def values_from_address(self, words: list[Any]) -> list[Any]:
        named = dict(zip(self.address, words, strict=True))
        run, last = named["run"], (named.pop("epochs") or "").rpartition(",")[2]
        folder = self.context.registry.run(run) if run else self.default_run()
        epoch = named["epoch"] or last
        named |= {"run": folder.id, "epoch": epoch_named(folder, epoch) if epoch else None}
        return [named[name] for name in self.values]

    def read_state(self, text: str) -> State:
        return self.state_type.of_text(text)  # type: ignore[return-value]

    def address_of(self, state: State) -> dict[str, Any]:
        return {
            "run": state.run,
            "epoch": epoch_name(self.context.registry.epoch(state.run, state.epoch)),
            "epochs": None,
            "data": state.data,
            "limit": None if state.limit == self.state_type.limit else state.limit,
        }

    def choices(self, state: State, bare: bool = False) -> list[Any]:
        """Updates of run, epoch, data and limit."""
        registry = self.context.registry
        run = registry.run(state.run)
        sets = [state.data] if bare else registry.sets.fitting(registry.skeleton(state.run, state.epoch))
        known = state.limit in [count for _, count in self.limits]
        limits = list(self.limits) if known else [*self.limits, (str(state.limit), state.limit)]
        return [
            gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=state.run),
            gr.update(choices=[(e.label, e.index) for e in run.epochs], value=state.epoch),
            gr.update(choices=sets, value=state.data),
            gr.update(choices=limits, value=state.limit),
        ]

    def add_sections(self) -> list[Section]:
        sections = []
        for name, (title, question) in self.questions.items():
            link = f"look-{self.alone[name]}" if name in self.alone else ""
            add_heading(f"{self.prefix}-{name}-head", title, question, link)
            sections.append(add_section(f"{self.prefix}-{name}", name))
        return sections

    def section_updates(self, state: State, section: str) -> list[Any]:
        def details(report: Report) -> str:
            download = Download(self.path, section, state.text())
            pictures = {f"{self.prefix}-{section}": ""}
            return details_html(download, report.table(), printing(self.code(state, section)), pictures)

        waiting = f"… {self.waiting.get(section, 'being computed')}"
        return report_updates(self.found(state, section), waiting, details)

    def answer(self, state: State, section: str) -> Answer:
        title = self.questions[section][0]
        found = report_there(self.found(state, section), title)
        inputs = subject_inputs(self.context, state.run, [state.epoch], state.data)
        return Answer.of(title, found, printing(self.code(state, section)), inputs)
