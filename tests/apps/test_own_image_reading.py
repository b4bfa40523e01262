"""An image of one's own is read as the server's --bits and --as-stored say, as the verbs read it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from apps.pages.inspectors import report_of
from apps.pages.overfit.own_photo import Clicks, OwnPhoto, own_sample
from apps.pages.subject import clicked_place, with_box
from apps.server.context import Context
from apps.server.settings import Settings
from workbench.cli import main
from workbench.data import builtin
from workbench.data.images import ImageReading
from workbench.inspectors import get
from workbench.skeletons import SKELETONS

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


@pytest.fixture
def dark(tmp_path):
    """A picture of 16 bits of which 10 are used."""
    path = tmp_path / "dark.png"
    cv2.imwrite(str(path), builtin("scenes-val").sample(0).image[..., ::-1].astype(np.uint16) * 4)
    return path


@pytest.fixture
def turned(tmp_path):
    """A picture of 40 x 60 pixels as stored, 60 x 40 upright."""
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(7200, dtype=np.uint8).reshape(60, 40, 3)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("bits", [0, 16])
def test_look_at_an_own_image_gives_the_figures_of_the_verb(bits, dark, tmp_path, capsys):
    settings = Settings(root=CHECKPOINTS, cache=tmp_path / "cache", reading=ImageReading(bits))
    context = Context.of(settings)
    try:
        page = report_of(
            context, get("overlay"), "rtmpose-demo", 5, None, None, None, str(dark), *[None] * 9
        )[0].to_json()
    finally:
        context.jobs.close()
    file = CHECKPOINTS / "rtmpose-demo" / "epoch_40.pth"
    stated = ["--bits", str(bits)] if bits else []
    assert main(["look", "overlay", str(file), "--image", str(dark), *stated, "--json"]) == 0
    verb = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(np.asarray(page["keypoints"]), np.asarray(verb["keypoints"]))


def test_an_uploaded_photo_is_learned_shown_and_clicked_as_stated(dark, turned):
    coco, nose = SKELETONS["coco-17"], Clicks({"nose": (30.0, 20.0)}, (2.0, 3.0, 38.0, 37.0))
    light, _ = own_sample(OwnPhoto(dark, clicks=nose), coco, None)
    stated, _ = own_sample(OwnPhoto(dark, clicks=nose), coco, None, ImageReading(16))
    assert light.image.max() > 60 * stated.image.max()
    for reading, shape in ((ImageReading(), (40, 60)), (ImageReading(as_stored=True), (60, 40))):
        sample, _ = own_sample(OwnPhoto(turned, clicks=nose), coco, None, reading)
        assert sample.image.shape[:2] == reading.size(turned) == shape
        assert with_box(turned, (None,) * 4, reading)[0].shape[:2] == shape
        assert clicked_place(SimpleNamespace(index=[9, 50]), turned, reading) == (9.0, 50.0)
