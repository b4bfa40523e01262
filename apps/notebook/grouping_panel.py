"""The grouping lab in a notebook: sliders that group one stored output anew, and AP on the kept images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from apps.notebook.live_figure import LiveFigure, display_panel
from workbench.cli import MISTAKES, sentence
from workbench.core.inspector import Choice, Range
from workbench.core.plain_text import escaped
from workbench.core.report import counted, signed_text
from workbench.inspectors.grouping import grouping_steps
from workbench.inspectors.grouping.replay import PictureParams, SetFigures, evaluate_settings

if TYPE_CHECKING:
    import ipywidgets

    from workbench.core import Run
    from workbench.data import PoseSet
    from workbench.evaluation.predict import Looked


class GroupingPanel:
    """A notebook panel with one widget for every field of PictureParams.

    Attributes:
        knobs: widgets by name; setting their `value` from a cell moves the picture as a hand does.
        report: how the image is grouped now.
        reached: AP by these rules on the kept images; None without any.
        figure: the picture.
    """

    def __init__(self, run: Run, kept: Sequence[Looked] = (), pose_set: PoseSet | None = None) -> None:
        """Group once by the knobs' defaults.

        Args:
            run: of a bottom-up model; its first sample's image is shown.
            kept: outputs of further images, from `workbench.evaluation.predict.forward_passes`.
            pose_set: their annotations.

        Raises:
            NotAvailable: the model has no tags.
        """
        self._run, self._kept, self._set = run, tuple(kept), pose_set
        hints = get_type_hints(PictureParams, include_extras=True)
        fields = [f for f in dataclasses.fields(PictureParams) if f.name != "instance"]
        self.knobs = {f.name: _widget(f.name, hints[f.name], f.default, run) for f in fields}
        self.report = grouping_steps.compute(run, PictureParams())
        self.reached: SetFigures | None = None
        self._plain: SetFigures | None = None
        self._text = _widgets().HTML()
        self.figure = self.report.plot()
        self._live = LiveFigure(self.figure)
        self._evaluate()
        self._plain = self.reached
        self._show()
        for widget in self.knobs.values():
            widget.observe(self._moved, names="value")

    @property
    def params(self) -> PictureParams:
        """What the knobs say."""
        return PictureParams(**{name: widget.value for name, widget in self.knobs.items()})

    def _moved(self, change: Any) -> None:
        try:
            self.report = grouping_steps.compute(self._run, self.params)
            # Which step and who is shown has no effect on AP.
            if all(change["owner"] is not self.knobs[name] for name in ("step", "person", "least_score")):
                self._evaluate()
        except MISTAKES as mistake:
            # The picture of other rules must not stand below knobs that say otherwise.
            self._text.value = f"<p>{escaped(sentence(mistake))}</p>"
            self._live.layout.display = "none"
            return
        self.figure = self.report.plot()
        self._live.show(self.figure)
        self._live.layout.display = None
        self._show()

    def _evaluate(self) -> None:
        if self._kept and self._set is not None:
            self.reached = evaluate_settings(self._run.model, self._kept, self._set, self.params)  # type: ignore[arg-type]

    def _show(self) -> None:
        text = self.report.summary()
        if self.reached is not None and self._set is not None:
            ap = self.reached.figures["AP"]
            change = "" if self._plain is None else f" ({signed_text(ap - self._plain.figures['AP'])})"
            text += (
                f". AP {ap:.3f}{change} on {counted(self.reached.images, 'image')} of {self._set.name}: "
                f"{counted(self.reached.found, 'person', 'people')} found, {self.reached.annotated} annotated"
            )
        self._text.value = f"<p>{escaped(text)}</p>"

    def widget(self) -> ipywidgets.Widget:
        """The panel as one widget."""
        widgets = _widgets()
        columns = widgets.Layout(grid_template_columns="repeat(3, minmax(220px, 1fr))")
        knobs = widgets.GridBox(list(self.knobs.values()), layout=columns)
        return widgets.VBox([knobs, self._text, self._live])

    def _ipython_display_(self) -> None:
        display_panel(self.widget())


def _widgets() -> Any:
    import ipywidgets

    return ipywidgets


def _widget(name: str, hint: Any, default: Any, run: Run) -> Any:
    """The widget of one field of PictureParams."""
    widgets = _widgets()
    kind, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    options = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    for mark in marks:
        if isinstance(mark, Choice):
            return widgets.Dropdown(options=mark.of(run), value=default, **options)
        if isinstance(mark, Range):
            slider = widgets.IntSlider if kind is int else widgets.FloatSlider
            # Grouping anew for every pixel of a drag would queue up behind the hand.
            return slider(min=kind(mark.low), max=kind(mark.high), step=kind(mark.step), value=default,
                          continuous_update=False, **options)  # fmt: skip
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=list(get_args(kind)), value=default, **options)
    return widgets.Checkbox(value=default, indent=False, **options)
