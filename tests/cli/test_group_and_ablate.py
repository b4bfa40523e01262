"""workbench group and workbench ablate, from the words to the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.ablation.planted import planted
from workbench.data import builtin
from workbench.data.images import write_image
from workbench.models import LoadedModel
from workbench.models.higherhrnet import Architecture, HigherHRNet, new_higherhrnet, write
from workbench.skeletons import SKELETONS

SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)


@pytest.fixture(scope="module")
def unsure(tmp_path_factory):
    """A checkpoint of a network that is sure of nothing: no heatmap exceeds the threshold."""
    torch.manual_seed(0)
    network = HigherHRNet(SMALL).eval()
    with torch.no_grad():
        for layer in network.final_layers:
            layer.bias[:17] = -5
    path = tmp_path_factory.mktemp("unsure") / "unsure.pth"
    write(new_higherhrnet(network, SKELETONS["coco-17"], 64), path, 1)
    return path


@pytest.fixture(scope="module")
def scenes():
    return builtin("scenes-people-val")


@pytest.fixture
def perfect(scenes, monkeypatch, tmp_path):
    """open_model gives a model that knows the first image with two people; the path of that image."""
    image_id = next(i for i in scenes.images if sum(one.image_id == i for one in scenes.instances) == 2)
    loaded = LoadedModel(planted(scenes, [image_id]), None, "perfect", "higherhrnet")
    monkeypatch.setattr("workbench.models.open_model", lambda *args, **kwargs: loaded)
    return write_image(tmp_path / "two.png", scenes.image(image_id))


def test_group_tells_who_is_there_and_why(workbench, perfect, tmp_path):
    out = tmp_path / "people.png"
    code, printed, err = workbench("group", "any.pth", "--image", perfect, "--out", out, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert len(facts["instances"]) == 2
    assert out.is_file()
    detected = sum(np.isfinite(np.array(one["keypoints"], float)).all(1).sum() for one in facts["instances"])
    filled = sum(sum(one["filled"]) for one in facts["instances"])
    # A keypoint between two cells can peak in both: the second is written over the first.
    kept = [row for row in facts["trace"] if row["outcome"] in ("new", "joined")]
    assert len(kept) == detected - filled
    first, last = facts["trace"][0], facts["trace"][-1]
    assert first["outcome"] == "new"
    assert first["why"] == "began person 0: nobody was there yet"
    assert last["outcome"] == "joined"
    assert last["why"].startswith(f"joined person {last['person']}: tag distance 0.0")
    code, printed, _ = workbench("group", "any.pth", "--image", perfect)
    assert code == 0
    assert "2 people" in printed
    assert "joined person" in printed


def test_group_says_why_nobody_is_found(workbench, unsure, perfect_image):
    code, printed, err = workbench("group", unsure, "--image", perfect_image, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["instances"] == facts["trace"] == []
    assert any("no heatmap exceeds the detection threshold 0.1" in note for note in facts["notes"])


@pytest.fixture
def perfect_image(scenes, tmp_path):
    return write_image(tmp_path / "scene.png", scenes.image(next(iter(scenes.images))))


@pytest.mark.parametrize("what", ["tags", "grouping"])
def test_ablate_answers_with_reference_variants_and_counts(workbench, unsure, what, tmp_path):
    out = tmp_path / "table.csv"
    words = ["ablate", what, unsure, "--data", "scenes-people-val", "--limit", 1, "--out", out]
    code, printed, err = workbench(*words, "--json", "--match", "0.418")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["reference"]["AP"] == 0
    assert "finds nobody" in facts["summary"]
    assert facts["images"] == facts["forward_passes"] == 1
    assert facts["network_calls"] == 2
    assert {"name", "AP", "APM", "AR", "delta"} <= set(facts["variants"][0])
    assert facts["match"]["nearest"]
    assert out.read_text().splitlines()[0].startswith("name,AP,AP50")
    assert len(out.read_text().splitlines()) == len(facts["variants"]) + 2


def test_ablate_prints_a_table_and_writes_a_picture(workbench, unsure, tmp_path):
    out = tmp_path / "ablation.html"
    words = ["ablate", "grouping", unsure, "--data", "scenes-people-val", "--limit", 1, "--no-flip"]
    code, printed, err = workbench(*words, "--out", out)
    assert code == 0, err
    assert "no inverse affine" in printed
    assert "no flip" not in printed, "there is no mirrored pass to leave out"
    assert "plotly" in out.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("group",), "expected a checkpoint"),
        (("group", "{unsure}"), "expected at least one --image"),
        (("ablate", "tags"), "expected a checkpoint"),
        (("ablate", "tags", "{unsure}"), "expected --data"),
        (("ablate", "tags", "{unsure}", "--data", "scenes-people-val", "--maps", "a"), "indices with commas"),
        (("ablate", "tags", "{unsure}", "--data", "scenes-people-val", "--maps", "40"), "from 0 to 16"),
        (
            ("ablate", "grouping", "{unsure}", "--data", "scenes-people-val", "--limit", "0"),
            "at least 1 image",
        ),
        (
            ("ablate", "grouping", "{unsure}", "--data", "scenes-people-val", "--out", "a.png"),
            "ending in .html",
        ),
        (("ablate", "grouping", "{unsure}", "--data", "scenes-val"), "8 categories"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(workbench, unsure, words, told):
    code, printed, err = workbench(*(word.format(unsure=unsure) for word in words))
    assert code == 2
    assert printed == ""
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_a_top_down_checkpoint_has_no_grouping(workbench):
    from workbench.demo import demo_checkpoints

    code, _, err = workbench(
        "ablate", "tags", demo_checkpoints("cape-demo")[0], "--data", "scenes-people-val"
    )
    assert code == 2
    assert "sees one box at a time" in err
