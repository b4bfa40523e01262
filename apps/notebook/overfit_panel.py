"""An overfit session in a notebook: buttons and live curves, while the kernel stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from workbench.training.model_state import ModelState as Kept

from workbench.cli import MISTAKES, sentence
from workbench.core import PoseModel, Sample
from workbench.training.bisection import Cause as Finding
from workbench.training.bisection import found_cause, verdict_of
from workbench.training.bisection import observed as seen_wrong
from workbench.training.plan import Plan
from workbench.training.planned import new_session
from workbench.training.sequences import trainable

if TYPE_CHECKING:
    import ipywidgets

    from workbench.training.verdict import Expectation, Verdict

ENDED = ("finished", "stopped", "failed")

# Curves grow this often; every message to the browser costs the training a few ms.
DRAW_SECONDS = 0.5


class OverfitPanel:
    """Shows itself in a notebook; its session runs in a thread.

    Attributes:
        session: the loop; its methods may be called from other cells.
        figure: the live curves.
        verdict: once it has ended.
        culprit: the switch without which what is wrong is gone; "" none.
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
            samples: one image or a handful, with truth.
            plan: what surrounds the loop; the bare loop by default.
            expectation: what counts as learned.
            bisect: on failure, look for the cause.
            device: where to train.
            more: of `new_session`: folder, pause_at.

        Raises:
            ValueError: the samples or the plan do not fit the model.
        """
        self._samples, self._plan, self._expectation = tuple(samples), plan or Plan(), expectation
        self._device, self._bisect = device, bisect
        self._model = model = trainable(model, self._plan.settings.steps)
        self._first = Kept(model) if bisect else None
        self.session = new_session(model, samples, self._plan, device=device, **more)
        self.verdict: Verdict | None = None
        self.culprit = self._wrong = self._mended = ""
        self._drawn = 0
        self._watcher: threading.Thread | None = None
        self._cancelled = threading.Event()
        self.figure = _figure()
        self._told = _widgets().HTML()
        self._buttons = {word: _button(word, act) for word, act in self._acts().items()}
        self._enable()

    def _acts(self) -> dict[str, Callable[[], Any]]:
        held = self.session
        return {
            "Start": self.start,
            "Pause": held.pause,
            "Step 1": lambda: self.step(1),
            "Step 10": lambda: self.step(10),
            "Snapshot": held.snapshot,
            "Stop": self.stop,
        }

    def start(self) -> None:
        """Run freely, also after a pause; returns at once."""
        self.session.start()
        self._watch()

    def step(self, count: int = 1) -> None:
        """Do `count` steps and pause; returns at once."""
        self.session.step(count)
        self._watch()

    def stop(self) -> None:
        """End the session, or the bisection after it."""
        self._cancelled.set()
        if self.session.status().state not in ENDED:
            self.session.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, the verdict included; false when `timeout` seconds were not enough."""
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
            self.verdict = verdict_of(self.session, self._expectation)
        except MISTAKES as mistake:
            self._tell(sentence(mistake))
            return
        self._wrong = "; ".join(seen_wrong(self._model, self._samples, self._plan, self.session.rows))
        if self._first is not None and self.session.status().state == "finished":
            found = self._found(self._first, self.verdict)
            self.culprit, self._mended = found.culprit, found.mended
        self._tell(self._end())

    def _found(self, first: Kept, verdict: Verdict) -> Finding:
        return found_cause(
            first,
            self._samples,
            self._plan,
            verdict,
            self.session.rows,
            expectation=self._expectation,
            device=self._device,
            on_trial=lambda switch: self._tell(f"{self._came()}; trying without {switch}"),
            stopped=self._cancelled.is_set,
        )

    def _came(self) -> str:
        return "" if self.verdict is None else f"{self.verdict.outcome}: {self.verdict.came}"

    def _end(self) -> str:
        said = f"{self._came()}; {self._wrong}" if self._wrong else self._came()
        return f"{said}; without {self.culprit} {self._mended}" if self.culprit else said

    def _draw(self) -> None:
        rows = self.session.rows[self._drawn :]
        self._drawn += len(rows)
        now = self.session.status()
        if rows:
            _extend(self.figure, rows)
        self._tell(f"{now.state}, step {now.step} of {now.steps}{f': {now.reason}' if now.reason else ''}")
        self._enable()

    def _tell(self, text: str) -> None:
        import html

        self._told.value = f"<p>{html.escape(text)}</p>"

    def _enable(self) -> None:
        state = self.session.status().state
        for word, button in self._buttons.items():
            resting = state in ("ready", "paused", "waiting")
            button.disabled = (state in ENDED and word != "Stop") or (word == "Pause" and resting)
        self._buttons["Start"].description = "Start" if state == "ready" else "Resume"

    def widget(self) -> ipywidgets.Widget:
        """The panel as one widget."""
        widgets = _widgets()
        return widgets.VBox([widgets.HBox(list(self._buttons.values())), self._told, self.figure])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget())


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
    import plotly.graph_objects as go

    from workbench.figures import RUN_COLOURS, new_figure

    figure = new_figure("", x="step", height=320, showlegend=True)
    for (_, name, axes), ink in zip(TRACES, RUN_COLOURS, strict=False):
        figure.add_trace(
            go.Scatter(
                x=np.zeros(0, np.float32),
                y=np.zeros(0, np.float32),
                name=name,
                mode="lines+markers" if axes else "lines",
                line={"color": ink},
                xaxis=f"x{axes}",
                yaxis=f"y{axes}",
            )
        )
    figure.update_layout(
        xaxis={"domain": [0, 0.46]},
        xaxis2={"domain": [0.54, 1], "anchor": "y2", "title": {"text": "step"}, "matches": "x"},
        yaxis={"type": "log", "title": {"text": "loss"}},
        yaxis2={"range": [-0.03, 1.03], "anchor": "x2", "title": {"text": "PCK, share of keypoints"}},
    )
    return go.FigureWidget(figure)


def _extend(figure: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to the curves, all in one message."""
    with figure.batch_update():
        for trace, (column, _, _) in zip(figure.data, TRACES, strict=True):
            new = [row for row in rows if row.get(column) is not None]
            trace.x = np.append(trace.x, np.array([row["step"] for row in new], np.float32))
            trace.y = np.append(trace.y, np.array([row[column] for row in new], np.float32))
