"""The look of every page: system fonts, quiet greys, one accent; the same shapes in light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gradio.themes import Base
from gradio.themes.utils import colors, fonts, sizes

STATIC = Path(__file__).parent / "static"

SCRIPTS = ("answers.js", "shell.js")

# Fonts that every desktop has: nothing is fetched, and text is there with the first paint.
SANS = [
    fonts.Font(n) for n in ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "DejaVu Sans", "sans-serif")
]
MONO = [
    fonts.Font(n)
    for n in ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
]


def theme() -> Base:
    """Gradio's base theme in the workbench's colours."""
    return Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.zinc,
        spacing_size=sizes.spacing_sm,
        radius_size=sizes.radius_sm,
        text_size=sizes.text_sm,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#131519",
        body_text_color="#1c2027",
        body_text_color_dark="#e4e7ec",
        body_text_color_subdued="#5c6470",
        body_text_color_subdued_dark="#9aa3b0",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1d23",
        background_fill_secondary="#f6f7f9",
        background_fill_secondary_dark="#15181d",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a1d23",
        block_border_color="#dfe3e8",
        block_border_color_dark="#2c313a",
        border_color_primary="#dfe3e8",
        border_color_primary_dark="#2c313a",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="#5c6470",
        block_label_text_color_dark="#9aa3b0",
        block_title_text_color="#5c6470",
        block_title_text_color_dark="#9aa3b0",
        block_title_text_weight="500",
        block_label_text_weight="500",
        block_shadow="none",
        block_shadow_dark="none",
        input_background_fill="#ffffff",
        input_background_fill_dark="#20242b",
        input_border_width="1px",
        button_border_width="1px",
        input_border_color="#cfd5dd",
        input_border_color_dark="#353b46",
        button_primary_background_fill="#1f5fbf",
        button_primary_background_fill_hover="#184d9c",
        button_primary_background_fill_dark="#3b7ddd",
        button_primary_background_fill_hover_dark="#5590e4",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef1f5",
        button_secondary_background_fill_dark="#20242b",
        button_secondary_background_fill_hover_dark="#2a2f38",
        button_secondary_border_color="#cfd5dd",
        button_secondary_border_color_dark="#353b46",
        table_even_background_fill="#ffffff",
        table_even_background_fill_dark="#1a1d23",
        table_odd_background_fill="#f9fafb",
        table_odd_background_fill_dark="#1d2127",
        color_accent_soft="#e7effa",
        color_accent_soft_dark="#22304a",
        link_text_color="#1f5fbf",
        link_text_color_dark="#7fb0f5",
        slider_color="#1f5fbf",
        slider_color_dark="#5590e4",
    )


def css() -> str:
    """The shell's style sheet."""
    return (STATIC / "shell.css").read_text(encoding="utf-8")


def head(titles: Mapping[str, str]) -> str:
    """What must run before Gradio's scripts: theme, kept subject, the queue's answers, a title for each page.

    Args:
        titles: path without slashes -> title of the page.
    """
    told = json.dumps(dict(titles)).replace("<", "\\u003c")
    scripts = (f"<script>{(STATIC / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)
    named = f"<script>window.workbenchTitles = {told};</script>"
    return '<meta name="referrer" content="same-origin">' + named + "".join(scripts)
