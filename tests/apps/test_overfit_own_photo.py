"""An uploaded photo to overfit: with a json, or with clicked keypoints; and a config's own training."""

from __future__ import annotations

import html
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from apps.pages.overfit import own_photo as photos
from apps.pages.overfit.choices import Choices, checked_choices, setup_of
from apps.pages.overfit.own_photo import BOX, Clicks, OwnPhoto, own_photo, own_sample
from apps.pages.overfit.page import CHECKED_WITH, NAMES, OverfitPage
from apps.pages.overfit.views import command_html
from apps.server.context import Context
from apps.server.settings import Settings
from tests.apps.test_overfit_page import SMALL
from tests.waiting import until
from workbench.data.images import ImageReading, write_image
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]

TRAINING = """
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.05, momentum=0.9), clip_grad=dict(max_norm=3.0))
param_scheduler = [dict(type="MultiStepLR", begin=0, end=10, milestones=[5], gamma=0.1, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=10)
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002), dict(type="MyOwnHook")]
"""


@pytest.fixture
def context(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "small.py").write_text(SMALL)
    (root / "trained.py").write_text(SMALL + TRAINING)
    found = Context.of(Settings(root=root, cache=tmp_path / "cache"))
    yield found
    found.jobs.close()


@pytest.fixture
def photo(tmp_path):
    """A picture of 120 x 160 pixels in a folder of its own, as an upload lies."""
    from PIL import Image

    folder = tmp_path / "upload"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "my photo.png")
    return folder / "my photo.png"


def clicks(**box):
    made = Clicks()
    for name, place in {"nose": (50, 30), "left_eye": (58, 24), "left_ankle": (70, 100)}.items():
        made = made.clicked(name, *place)
    return made


def annotation(file, *names, instances=((0, 10.0),), **size):
    """A json of these images; (image's number, x of the nose) for each instance."""
    images = [{"id": 5 + i, "file_name": name, **size} for i, name in enumerate(names)]
    entries = [
        {
            "id": 70 + i, "image_id": 5 + number, "category_id": 1, "bbox": [5, 5, 60, 90], "iscrowd": 0,
            "area": 5400, "num_keypoints": 1, "keypoints": [x, 20, 2] + [0] * 48,
        }
        for i, (number, x) in enumerate(instances)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}
    file.write_text(json.dumps({"images": images, "annotations": entries, "categories": [category]}))
    return file


def test_clicks_make_an_annotation_and_its_box(photo):
    sample, skeleton = own_sample(OwnPhoto(photo, clicks=Clicks.of_text(clicks().text())), COCO, 7)
    assert skeleton.keypoints == COCO.keypoints
    assert sample.image.shape == (120, 160, 3)
    seen = {n: tuple(p[:2]) for n, p in zip(COCO.keypoints, sample.truth, strict=True) if p[2] > 0}
    assert seen == {"nose": (50, 30), "left_eye": (58, 24), "left_ankle": (70, 100)}
    # 76 pixels high, 20 wide: .15 of the longer side is added all around.
    assert sample.box == pytest.approx((50 - 11.4, 24 - 11.4, 70 + 11.4, 100 + 11.4))


def test_a_clicked_box_is_taken_and_a_click_may_be_taken_back(photo):
    boxed = clicks().clicked(BOX, 100, 110).clicked(BOX, 20, 10)
    sample, _ = own_sample(OwnPhoto(photo, clicks=boxed), COCO, None)
    assert sample.box == (20, 10, 100, 110)
    assert boxed.without(BOX).without("nose").text() == clicks().without("nose").text()
    assert Clicks().clicked("nose", 1, 2).without("nose").text() == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected the text"),
        ('{"keypoints": {"nose": [1]}, "box": [null, null, null, null]}', "expected the text"),
        ('{"keypoints": {"nose": [NaN, 3]}, "box": [null, null, null, null]}', "finite"),
        ('{"keypoints": {"tail": [1, 3], "nose": [9, 9]}, "box": [null, null, null, null]}', "'tail'"),
        ('{"keypoints": {"nose": [1, 3000]}, "box": [null, null, null, null]}', "outside of my photo.png"),
        ('{"keypoints": {"nose": [1, 3]}, "box": [null, null, null, null]}', "click two opposite corners"),
        ('{"keypoints": {"nose": [1, 3]}, "box": [4, 4, null, null]}', "click two opposite corners"),
    ],
)
def test_what_cannot_be_clicked_keypoints_is_refused(photo, text, message):
    with pytest.raises(ValueError, match=message):
        own_sample(own_photo(str(photo), None, text), COCO, None)


def test_a_json_says_the_keypoints_of_the_photo_and_only_of_it(photo, tmp_path):
    file = annotation(
        tmp_path / "a.json", "data/other.png", "data/My Photo.png", instances=((0, 1.0), (1, 33.0), (1, 44.0))
    )
    own = OwnPhoto(photo, file)
    assert own_sample(own, SKELETONS["ap10k-17"], None)[0].truth[0, 0] == 33
    sample, skeleton = own_sample(own, SKELETONS["ap10k-17"], 2)
    assert (sample.truth[0, 0], skeleton.name) == (44, "coco-17")
    with pytest.raises(KeyError, match="are 1, 2, not 0"):
        own_sample(own, COCO, 0)


def test_nothing_that_a_json_names_is_opened(photo, tmp_path, monkeypatch):
    """Names that lead elsewhere, absolute ones, and a file beside the upload."""
    secret = tmp_path / "secret.png"
    shutil.copy(photo, secret)
    opened = []
    from workbench.data import images

    true_size, true_read = images.image_size, images.read_image_with_notes

    def noted(path):  # an image is read through a link to its open file: its place is what counts
        opened.append(os.path.realpath(path))

    monkeypatch.setattr(images, "image_size", lambda p: (noted(p), true_size(p))[1])
    monkeypatch.setattr(images, "read_image_with_notes", lambda p, *a: (noted(p), true_read(p, *a))[1])
    names = ("../secret.png", str(secret), "file:///etc/passwd", "http://127.0.0.1/x.png", "my photo.png")
    file = annotation(tmp_path / "a.json", *names, instances=((4, 33.0), (0, 1.0), (1, 2.0)))
    assert own_sample(OwnPhoto(photo, file), COCO, None)[0].truth[0, 0] == 33
    assert set(opened) == {os.path.realpath(photo)}
    only = annotation(tmp_path / "b.json", "../../etc/passwd")  # renamed: the one image is the photo
    assert own_sample(OwnPhoto(photo, only), COCO, None)[0].image.shape == (120, 160, 3)
    assert set(opened) == {os.path.realpath(photo)}


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("a.png", "b.png"), {}, "none of its 2 images is called my photo.png"),
        (("x/my photo.png", "y/my photo.png"), {}, "2 of its 2 images is called"),
        (("my photo.png",), {"width": 99, "height": 99}, "99 x 99"),
    ],
)
def test_a_json_that_does_not_fit_the_photo_is_refused(photo, tmp_path, names, size, message):
    with pytest.raises(ValueError, match=message):
        own_sample(OwnPhoto(photo, annotation(tmp_path / "a.json", *names, **size)), COCO, None)


def test_a_photo_needs_one_annotation_and_a_json_its_photo(photo, tmp_path):
    file = str(annotation(tmp_path / "a.json", "my photo.png"))
    assert own_photo(None, None, "") is None
    with pytest.raises(ValueError, match="upload the photo"):
        own_photo("", file, "")
    with pytest.raises(ValueError, match="click its place"):
        own_photo(str(photo), None, "")
    with pytest.raises(ValueError, match="got both"):
        own_photo(str(photo), file, clicks().text())


@pytest.mark.parametrize("text", ["{}", "[1]", "[]", "no json", '{"images": 5, "annotations": []}'])
def test_a_json_that_is_none_is_refused_in_one_sentence(photo, tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        own_sample(OwnPhoto(photo, tmp_path / "a.json"), COCO, None)


def test_the_page_shows_and_checks_it_before_start_as_start_does(context, photo):
    page = OverfitPage(context)
    asked = ("", "rtmpose", "small.py", "astronaut", None, "cpu", 5, False, str(photo), None)
    message, _, picture, *_ = page.awaited(*asked, clicks().text())
    assert "my photo/1 alone, 3 annotated keypoints" in message
    assert "this page's values, not the config's" in message.replace("&#x27;", "'")
    assert picture.count("<circle") == 3
    message, _, picture, *_ = page.awaited(*asked, "")
    assert "click its place" in message
    assert picture == ""


def test_what_is_started_is_repeated_by_its_command(context, photo, tmp_path, monkeypatch):
    file = annotation(tmp_path / "upload" / "mine.json", "my photo.png", instances=((0, 33.0), (0, 44.0)))
    own = own_photo(str(photo), str(file), "")
    choices = Choices(config="small.py", data="scenes-val", own=own, steps=3, learning_rate=2e-3, ema=0.5)
    here = setup_of(context, choices)
    assert here.samples[0].truth[0, 0] == 33
    assert "--annotation mine.json" in here.command
    assert "--image 'my photo.png'" in here.command
    assert "--no-config-training" in here.command
    attempt = SimpleNamespace(setup=here, choices=choices, is_private=True)
    shown = command_html(attempt, context.settings.root)
    # Typed where photo and json lie, so that the config's path is whole.
    assert html.escape(here.command) in shown
    assert shown.endswith("in the folder that holds my photo.png and mine.json")
    monkeypatch.chdir(tmp_path / "upload")
    assert settings_of(here.command, monkeypatch) == here.plan.settings
    named = setup_of(context, Choices(config="small.py", data="astronaut", own=own, sample=1, steps=3))
    assert "--images . --sample 1" in named.command


def test_the_session_of_an_uploaded_photo_is_not_named_to_others(context, photo):
    own = own_photo(str(photo), None, clicks().text())
    page = OverfitPage(context)
    attempt = page.attempts.begin(Choices(config="small.py", data="astronaut", own=own, steps=100000))
    try:
        with pytest.raises(ValueError, match="a session on an uploaded photo") as refused:
            page.attempts.begin(Choices(config="small.py", data="astronaut", steps=3))
        told = f"{refused.value} {page.restored('[null]')}"
        assert attempt.id not in told
        assert "my photo" not in told
    finally:
        attempt.run.session.stop()
        attempt.run.session.join()


def test_a_session_whose_page_is_closed_can_be_ended_by_who_needs_its_device(context, photo, monkeypatch):
    """Of an uploaded photo nobody else knows the address; paused, it held the device for ever."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from apps.server import api
    from workbench.core import job as core

    monkeypatch.setattr(core, "ASKS_SECONDS", 0.05)
    server = FastAPI()
    api.install(server, context)
    jobs = f"{api.PREFIX}/jobs"
    page, own = OverfitPage(context), own_photo(str(photo), None, clicks().text())
    attempt = page.attempts.begin(Choices(config="small.py", data="astronaut", own=own, steps=10**6))
    identity = attempt.training.id
    with TestClient(server) as client:
        assert f'data-job="{identity}"' in page.watch(attempt.id)[0]  # its closing is told by that
        assert "data-cancel-job" not in str(page.restored("[null]"))
        assert client.post(f"{jobs}/{identity}/cancel").status_code == 404  # a page shows it
        attempt.run.session.pause()
        until(lambda: attempt.state == "paused")
        assert client.get(jobs).json() == []
        client.post(f"{jobs}/left", params={"ids": identity})
        until(lambda: attempt.is_left)
        with pytest.raises(ValueError, match=r"that no open page shows .*: reload this page and cancel it"):
            page.attempts.begin(Choices(config="small.py", data="astronaut", steps=3))
        assert f'data-cancel-job="{identity}"' in str(page.restored("[null]"))
        assert client.post(f"{jobs}/{identity}/cancel").json()["id"] == identity
    until(lambda: not attempt.alive)
    assert (attempt.state, attempt.job) == ("stopped", None)
    assert page.attempts.begin(Choices(config="small.py", data="astronaut", steps=1)).run.session.join(30)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"keypoints": [0] * 51, "num_keypoints": 0}, "no instance has a labelled keypoint"),
        ({"bbox": [5, 5, 0, 0]}, "no labelled instance has a box with an area"),
        ({"iscrowd": 1}, "all instances with labelled keypoints are crowds (iscrowd)"),
    ],
)
def test_why_nothing_of_a_photo_can_be_learned_is_what_the_json_says(photo, change, why):
    """A box without an area was told as "no visible keypoint", beside 17 of them."""
    file = annotation(
        photo.parent / "mine.json", "my photo.png", "other.png", instances=((0, 10.0), (1, 10.0))
    )
    content = json.loads(file.read_text())
    content["annotations"][0] |= change  # the other image's instance stays as it is
    file.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"^mine.json: no instance of my photo.png can be learned: "
    ) as refused:
        own_sample(OwnPhoto(photo, file), COCO, None)
    assert str(refused.value).endswith(why)


def settings_of(command, monkeypatch):
    """The settings that the command line trains with, and nothing is trained."""
    import shlex

    from workbench.cli import main
    from workbench.training import overfit

    found = []

    def stop(self, setup, **more):
        found.append(setup.plan.settings)
        raise ValueError("that will do")

    monkeypatch.setattr(overfit.OverfitRun, "__init__", stop)
    assert main(shlex.split(command)[1:]) == 2
    import dataclasses

    # How often is measured is the page's own: it is looked at meanwhile.
    return dataclasses.replace(found[0], measure_every=1)


def test_the_training_of_a_config_is_that_of_the_command_line(context, monkeypatch):
    choices = Choices(
        config="trained.py", data="astronaut", steps=20, learning_rate=7.0, config_training=True
    )
    here = setup_of(context, choices)
    settings = here.plan.settings
    assert (settings.optimizer, settings.learning_rate, settings.clip) == ("sgd", 0.05, 3.0)
    assert settings.ema == pytest.approx(0.998)
    assert settings.rates[0] == pytest.approx(1.0)
    assert settings.rates[-1] == pytest.approx(0.1)
    assert "optimizer SGD" in here.recipe.used[0]
    assert "hook MyOwnHook" in here.recipe.unused
    assert "no-config-training" not in here.command
    import dataclasses

    assert settings_of(here.command, monkeypatch) == dataclasses.replace(settings, measure_every=1)


def test_without_it_the_pages_values_are_used_and_said(context):
    here = setup_of(context, Choices(config="trained.py", data="astronaut", steps=20, learning_rate=7e-3))
    assert (here.plan.settings.optimizer, here.plan.settings.learning_rate) == ("adamw", 7e-3)
    assert here.recipe is None
    assert "--no-config-training" in here.command


def test_training_of_a_config_needs_one(context):
    message, *_ = OverfitPage(context).awaited("", "rtmpose", "", "astronaut", None, "cpu", 5, True)
    assert "no config is named" in message


def test_the_config_inside_a_checkpoint_trains_like_one_beside_it(context, monkeypatch):
    from workbench.checkpoints.demo import root

    folder = context.settings.root / "inside"
    folder.mkdir()
    for one in context.settings.root.glob("*.py"):
        one.unlink()  # one in the folder above would be the run's
    shutil.copy(root() / "rtmpose-demo/epoch_1.pth", folder / "epoch_1.pth")
    offered = OverfitPage(context).restored(json.dumps([None, "inside", "scenes-val", None]))[-len(NAMES) :]
    config, own = (offered[NAMES.index(name)]["value"] for name in ("config", "config_training"))
    assert (config, own) == ("inside/epoch_1.pth", True)
    here = setup_of(context, Choices(config=config, data="scenes-val", steps=20, config_training=own))
    assert here.recipe is not None
    assert here.plan.settings.rates
    import dataclasses

    repeated = settings_of(here.command, monkeypatch)
    assert repeated == dataclasses.replace(here.plan.settings, measure_every=1)


def test_a_rate_or_warm_up_that_hardly_learns_is_said_before_start(context):
    asked = ("demo", "", "scenes-val", None, "cpu", 200)
    page, rate, warm_up = OverfitPage(context), CHECKED_WITH.index("learning_rate"), len(CHECKED_WITH)
    values = [None] * warm_up
    values[rate] = 3e5
    message, *_ = page.awaited("", *asked, False, None, None, "", *values)
    assert "learning rate of 300000 is very high" in message
    message, *_ = page.awaited("", *asked, True, None, None, "", *values)
    assert "very high" not in message  # the config's own rate is used


def test_a_link_to_a_run_with_a_config_trains_as_it_says(context, monkeypatch):
    from apps.pages.overfit import page

    monkeypatch.setattr(page, "config_of_run", lambda *_: "trained.py")
    offered = OverfitPage(context).restored(json.dumps([None, "a run", "astronaut", None]))
    assert offered[-1]["value"] is True
    monkeypatch.setattr(page, "config_of_run", lambda *_: "")
    *_, note = OverfitPage(context).restored(json.dumps([None, "a run", "astronaut", None]))[: -len(NAMES)]
    assert "no config (.py) lies in the folder of a run or above it" in note


def test_an_opening_answer_that_comes_after_a_start_leaves_the_session_alone(context):
    session, sent, *_ = OverfitPage(context).restored("[null]")
    assert "value" not in session
    assert "value" not in sent


def test_a_large_photo_is_shown_small_and_clicked_in_its_own_pixels(tmp_path):
    from types import SimpleNamespace

    from apps.pages.subject import clicked_place, with_box

    path = write_image(tmp_path / "large.png", np.zeros((1536, 2048, 3), np.uint8))
    shown, scale = with_box(path, (200.0, 1e15, None, None), ImageReading())  # a corner that cannot be drawn
    assert (shown.shape, scale) == ((768, 1024, 3), 0.5)
    # Pixel 511 of the picture lies between the pixels 1022 and 1023 of the file.
    assert clicked_place(SimpleNamespace(index=[511, 0]), path, ImageReading()) == (1022.5, 0.5)
    drawn = photos.marked(path, Clicks({"nose": (1023.0, 767.0), "left_eye": (1e6, -1e6)}), COCO)
    assert (drawn[383, 511] != shown[383, 511]).any()


def test_photos_are_drawn_with_what_was_clicked(photo):
    bare = photos.marked(photo, Clicks(), COCO)
    drawn = photos.marked(photo, clicks(), COCO)
    assert (drawn[30, 50] != bare[30, 50]).any()


def test_a_json_of_other_keypoints_is_answered_with_what_to_do_about_the_photo(context, photo, tmp_path):
    own = OwnPhoto(photo, annotation(tmp_path / "a.json", photo.name))
    with pytest.raises(ValueError, match="remove the json and click keypoints on the photo") as refused:
        checked_choices(context, Choices(data="astronaut", own=own))
    said = "RTMPose (demo) predicts ap10k-17, my photo.png is annotated with coco-17; "
    assert str(refused.value).startswith(said)
