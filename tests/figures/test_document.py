"""A report is one file of at most 2 MB, whatever goes into it."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from workbench.figures import image_data_uri
from workbench.figures.document import MOST_BYTES, _unpacked, drawn, html_document


def photos(count, side=640):
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (side // 16, side // 16, 3), np.uint8))
        yield f'<img width="300" src="{image_data_uri(np.asarray(coarse.resize((side, side))), side)}">'


def scatter(size, seed=0):
    rng = np.random.default_rng(seed)
    return go.Figure(go.Scatter(x=np.arange(float(size)), y=rng.normal(0, 50, size)))


def numbers(document):
    """x and y of the first figure of a document."""
    trace = json.loads(_unpacked(re.search('data-figure="([^"]*)"', document)[1]))["data"][0]
    return [np.frombuffer(base64.b64decode(trace[n]["bdata"]), trace[n]["dtype"]) for n in ("x", "y")]


def test_what_fits_is_not_touched():
    photo, figure = next(photos(1, 200)), drawn(scatter(100))
    document = html_document("small", [photo, figure])
    assert photo in document
    assert figure in document
    assert "left out" not in document


def test_photos_become_smaller_and_numbers_shorter_until_the_document_fits():
    figure = scatter(8000)
    before = np.asarray(figure.data[0].y)
    document = html_document("large", [*photos(6), drawn(figure)])
    assert len(document.encode()) <= MOST_BYTES
    assert "left out" not in document
    sides = [
        Image.open(io.BytesIO(base64.b64decode(p))).width for p in re.findall('jpeg;base64,([^"]*)', document)
    ]
    assert len(sides) == 6
    assert max(sides) < 640
    x, y = numbers(document)
    assert x.tolist() == list(range(8000))  # whole numbers, as epochs, stay
    assert y == pytest.approx(before, rel=0.005)


def test_what_fits_in_no_way_is_left_out_and_the_document_says_so():
    parts = ["<h2>Kept</h2>", *photos(60, 320), drawn(scatter(60_000)), "<p>the end</p>"]
    document = html_document("huge", parts)
    assert len(document.encode()) <= MOST_BYTES
    assert re.search(r"\d+ parts are left out: this document holds at most 2 MB", document)
    assert "<h2>Kept</h2>" in document
    assert "the end" in document
