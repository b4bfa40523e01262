"""An overfit run in a notebook: buttons and live curves, while the kernel stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.notebook.live_figure import LiveFigure, display_panel
from workbench.cli import MISTAKES, sentence
from workbench.core import PoseModel, Sample
from workbench.core.plain_text import escaped
from workbench.training.overfit import OverfitReport, OverfitRun, OverfitSetup
from workbench.training.plan import Plan
from workbench.training.sequences import trainable

if TYPE_CHECKING:
    import ipywidgets

    from workbench.training.session import Session
    from workbench.training.verdict import Expectation, Verdict

ENDED = ("finished", "stopped", "failed")

# Curves grow this often; every message to the browser costs the training a few ms.
DRAW_SECONDS = 0.5


class OverfitPanel:
    """Displays itself in a notebook; its session runs in a thread.

    Attributes:
        run: session, verdict and cause.
        figure: the live curves.
    """

    def __init__(
        self,
        model: PoseModel,
        samples: Sequence[Sample],
        plan: Plan | None = None,
        *,
        expectation: Expectation | None = None,
        bisect: bool = True,
        device: str = "cpu",
        **more: Any,
    ) -> None:
        """Prepare the session; nothing runs before Start or `start()`.

        Args:
            model: trained in place.
            samples: one image or a handful, with ground truth.
            plan: everything around the loop; the bare loop by default.
            expectation: what counts as learned.
            bisect: find the cause of a failure.
            device: cpu, cuda, cuda:N.
            more: of OverfitRun: folder, pause_at.

        Raises:
            ValueError: the samples or the plan do not fit the model.
        """
        plan = plan or Plan()
        setup = OverfitSetup(trainable(model, plan.settings.steps), tuple(samples), plan, device)
        self.run = OverfitRun(setup, expectation=expectation, bisect=bisect, **more)
        self._drawn = 0
        self._watcher: threading.Thread | None = None
        self._cancelled = threading.Event()
        self.figure = _figure()
        self._live = LiveFigure(self.figure)
        self._text = _widgets().HTML()
        self._buttons = {word: _button(word, act) for word, act in self._acts().items()}
        self._enable()

    @property
    def session(self) -> Session:
        """The loop; its methods may be called from other cells."""
        return self.run.session

    @property
    def verdict(self) -> Verdict | None:
        """Once the session has ended."""
        return self.run.verdict

    @property
    def culprit(self) -> str:
        """The switch without which what is wrong is gone; "" none."""
        return self.run.cause.culprit if self.run.cause else ""

    def report(self) -> OverfitReport:
        """The result, as the command line gives it.

        Raises:
            ValueError: the session has not ended.
        """
        return self.run.report()

    def _acts(self) -> dict[str, Callable[[], Any]]:
        return {
            "Start": self.start,
            "Pause": self.session.pause,
            "Step 1": lambda: self.step(1),
            "Step 10": lambda: self.step(10),
            "Snapshot": self.session.snapshot,
            "Stop": self.stop,
        }

    def start(self) -> None:
        """Run until the end, also after a pause; returns at once."""
        self.session.start()
        self._watch()

    def step(self, count: int = 1) -> None:
        """Do some steps and pause; returns at once."""
        self.session.step(count)
        self._watch()

    def stop(self) -> None:
        """End the session, or the bisection after it."""
        self._cancelled.set()
        if self.session.status().state not in ENDED:
            self.session.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, verdict and bisection included.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            False when it still runs after `timeout` seconds.
        """
        if self._watcher is not None:
            self._watcher.join(timeout)
            return not self._watcher.is_alive()
        return False

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._follow, daemon=True, name="overfit panel")
            self._watcher.start()

    def _follow(self) -> None:
        while not self.session.join(DRAW_SECONDS):
            self._draw()
        self._draw()
        try:
            verdict = self.run.judge()
        except MISTAKES as mistake:
            self._show(sentence(mistake))
            return
        if self.run.needs_cause:
            self.run.find_cause(
                on_trial=lambda switch: self._show(
                    f"{verdict.outcome}: {verdict.came}; trying without {switch}"
                ),
                stopped=self._cancelled.is_set,
            )
        self._show(self._conclusion())

    def _conclusion(self) -> str:
        report = self.run.report()
        words = [f"{report.headline}: {report.verdict.came}", *self.run.wrong]
        if report.culprit:
            words.append(f"without {report.culprit} {report.mended}")
        more = report.helped or report.next_step
        return "; ".join([*words, *([more] if more else [])])

    def _draw(self) -> None:
        rows = self.session.rows[self._drawn :]
        self._drawn += len(rows)
        now = self.session.status()
        if rows:
            _extend(self.figure, rows)
            self._live.show(self.figure)
        self._show(f"{now.state}, step {now.step} of {now.steps}{f': {now.reason}' if now.reason else ''}")
        self._enable()

    def _show(self, text: str) -> None:
        self._text.value = f"<p>{escaped(text)}</p>"

    def _enable(self) -> None:
        state = self.session.status().state
        for word, button in self._buttons.items():
            resting = state in ("ready", "paused", "waiting")
            button.disabled = (state in ENDED and word != "Stop") or (word == "Pause" and resting)
        self._buttons["Start"].description = "Start" if state == "ready" else "Resume"

    def widget(self) -> ipywidgets.Widget:
        """The panel as one widget."""
        widgets = _widgets()
        return widgets.VBox([widgets.HBox(list(self._buttons.values())), self._text, self._live])

    def _ipython_display_(self) -> None:
        display_panel(self.widget())


def _widgets() -> Any:
    import ipywidgets

    return ipywidgets


def _button(word: str, act: Callable[[], Any]) -> Any:
    button = _widgets().Button(description=word)
    button.on_click(lambda _: act())
    return button


TRACES = (
    ("loss", "loss", ""),
    ("pck_train", "PCK, training mode", "2"),
    ("pck", "PCK, evaluation mode", "2"),
)


def _figure() -> Any:
    from workbench.figures import RUN_COLOURS, new_figure

    figure = new_figure("", x="step", height=320, showlegend=True)
    for (_, name, axes), ink in zip(TRACES, RUN_COLOURS, strict=False):
        figure.add_scatter(
            x=np.zeros(0, np.float32),
            y=np.zeros(0, np.float32),
            name=name,
            mode="lines+markers" if axes else "lines",
            line={"color": ink},
            xaxis=f"x{axes}",
            yaxis=f"y{axes}",
        )
    figure.update_layout(
        xaxis={"domain": [0, 0.46]},
        xaxis2={"domain": [0.54, 1], "anchor": "y2", "title": {"text": "step"}, "matches": "x"},
        yaxis={"type": "log", "title": {"text": "loss"}},
        yaxis2={"range": [-0.03, 1.03], "anchor": "x2", "title": {"text": "PCK, share of keypoints"}},
    )
    return figure


def _extend(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to the curves."""
    for trace, (column, _, _) in zip(figure.data, TRACES, strict=True):
        new = [row for row in rows if row.get(column) is not None]
        trace.x = np.append(trace.x, np.array([row["step"] for row in new], np.float32))
        trace.y = np.append(trace.y, np.array([row[column] for row in new], np.float32))
