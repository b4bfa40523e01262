"""A box around one person or animal in an image of one's own: as numbers, or by clicking two corners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.pages.subject import NO_BOX, Corners
from apps.pages.subject_bar import SubjectBar
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence

if TYPE_CHECKING:
    import numpy as np


def next_corners(box: Corners, x: float, y: float) -> Corners:
    """The box after a click: the first sets a corner, the second the opposite one, a third begins anew."""
    x0, y0, x1, _ = box
    if x0 is None or y0 is None or x1 is not None:
        return x, y, None, None
    return min(x0, x), min(y0, y), max(x0, x), max(y0, y)


def say_notes(path: str) -> None:
    """Show what is to be said about how an image was read."""
    from html import escape

    from workbench.data.images import read_image_with_notes

    for note in read_image_with_notes(Path(path))[1]:
        gr.Info(escape(note))  # toasts are HTML, and a file's name is anybody's


def with_box(path: str, box: Corners) -> np.ndarray:
    """The image with the box, or its first corner, drawn on it; RGB.

    Raises:
        ValueError: the file is no image.
    """
    import cv2
    import numpy as np

    from workbench.data.images import read_image

    pixels = np.array(read_image(Path(path)))
    thick = max(2, round(max(pixels.shape[:2]) / 300))
    x0, y0, x1, y1 = box
    if x0 is None or y0 is None:
        return pixels
    first = (round(x0), round(y0))
    if x1 is None or y1 is None:
        cv2.drawMarker(pixels, first, (229, 72, 77), cv2.MARKER_CROSS, thick * 8, thick)
    else:
        cv2.rectangle(pixels, first, (round(x1), round(y1)), (229, 72, 77), thick)
    return pixels


def box_events(context: Context, bar: SubjectBar, name: str) -> list[Any]:
    """Handlers of the bar's own image; those returned change what is looked at."""
    del context

    def shown(path: str | None) -> list[Any]:
        if not path:
            return [gr.update(value=None, visible=False), *NO_BOX]
        try:
            say_notes(path)
            return [gr.update(value=with_box(path, NO_BOX), visible=True), *NO_BOX]
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    def clicked(event: gr.SelectData, path: str | None, *box: float | None) -> list[Any]:
        if not path:
            raise gr.Error("give an image first", print_exception=False)
        corners = next_corners(box, float(event.index[0]), float(event.index[1]))  # type: ignore[arg-type]
        return [gr.update(value=with_box(path, corners), visible=True), *corners]

    def cleared() -> list[Any]:
        return [None, gr.update(value=None, visible=False), *NO_BOX]

    drawn = [bar.drawn, *bar.box]
    return [
        bar.image.upload(shown, bar.image, drawn, api_name=f"{name}_image", show_progress="hidden"),
        bar.drawn.select(
            clicked, [bar.image, *bar.box], drawn, api_name=f"{name}_corner", show_progress="hidden"
        ),
        gr.on(
            [bar.clear.click, bar.image.clear], cleared, None, [bar.image, *drawn],
            api_name=f"{name}_no_image", show_progress="hidden",
        ),
    ]  # fmt: skip
