"""workbench group and workbench ablate, from the words to the answer."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.ablation.planted import planted
from workbench.cli.group import why
from workbench.data.images import write_image
from workbench.models import LoadedModel
from workbench.models.higherhrnet.model import new_higherhrnet, write
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
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
    grouped = [row for row in facts["trace"] if row["outcome"] in ("new", "joined")]
    assert len(grouped) == detected - filled
    first, last = facts["trace"][0], facts["trace"][-1]
    assert first["outcome"] == "new"
    assert first["why"] == "started person 0: no person from an earlier keypoint"
    assert last["outcome"] == "joined"
    assert last["why"].startswith(f"joined person {last['person']}: tag distance 0.0")
    code, printed, _ = workbench("group", "any.pth", "--image", perfect)
    assert code == 0
    assert "2 people" in printed
    assert "joined person" in printed


def test_a_person_near_by_that_another_detection_joined_is_said_to_be_taken():
    distances = np.array([1.5, 0.2])
    assert why("new", 2, distances, {1}).endswith(
        "closest is person 1 at tag distance 0.20, whom another detection joined"
    )
    assert why("new", 2, distances, {0}).endswith("closest is person 1 at tag distance 0.20")


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
    assert "find no people" in facts["summary"]
    assert facts["images"] == facts["forward_passes"] == 1
    # The mirrored pass is looked at where it is a variant; the reference goes without it.
    assert facts["network_calls"] == (2 if what == "grouping" else 1)
    assert not facts["match"]["near"]
    assert {"name", "AP", "APM", "AR", "delta"} <= set(facts["variants"][0])
    assert facts["match"]["nearest"]
    assert out.read_text().splitlines()[0].startswith("name,AP,AP50")
    assert len(out.read_text().splitlines()) == len(facts["variants"]) + 2


def test_ablate_prints_a_table_and_writes_a_picture(workbench, unsure, tmp_path):
    out = tmp_path / "ablation.html"
    words = ["ablate", "grouping", unsure, "--data", "scenes-people-val", "--limit", 1]
    code, printed, err = workbench(*words, "--out", out)
    assert code == 0, err
    assert "no inverse affine" in printed
    assert "with flip" in printed
    table = printed.partition("protocol:")[0]
    assert "no flip" not in table, "there is no mirrored pass to leave out"
    assert "plotly" in out.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
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
        (("ablate", "grouping", "{unsure}", "--data", "scenes-val"), "number 0 is nose in coco-17"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(workbench, unsure, words, message):
    code, printed, err = workbench(*(word.format(unsure=unsure) for word in words))
    assert code == 2
    assert printed == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_top_down_checkpoint_has_no_grouping(workbench):
    from workbench.checkpoints.demo import demo_checkpoints

    code, _, err = workbench(
        "ablate", "tags", demo_checkpoints("cape-demo")[0], "--data", "scenes-people-val"
    )
    assert code == 2
    assert "this model is top-down" in err


OWN = Path(__file__).parents[1] / "adapters/bottom_up.py"


@pytest.fixture(scope="module")
def one_person(tmp_path_factory):
    """The words that name a set of one image with one person."""
    folder = tmp_path_factory.mktemp("one_person")
    write_image(folder / "1.png", np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    keypoints = [[10 + 4 * k, 20 + 2 * k, 2] for k in range(17)]
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 2000, "bbox": [5, 10, 80, 50],
        "num_keypoints": 17, "keypoints": np.ravel(keypoints).tolist(),
    }  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 96, "height": 64}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETONS["coco-17"].keypoints)}],
    }
    (folder / "set.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("group", "--rule", "detection_threshold=0"),
        ("predict",),
        ("evaluate", "--rule", "nms_kernel=3"),
        ("ablate", "grouping"),
        ("ablate", "tags"),
        ("oracle",),
    ],
    ids=" ".join,
)
def test_a_bottom_up_model_of_ones_own_works_in_every_verb(workbench, one_person, words):
    shown = ("--image", one_person / "1.png") if words[0] in ("group", "predict") else ()
    data = () if shown else ("--data", one_person / "set.json", "--images", one_person)
    code, out, err = workbench(*words, "--adapter", OWN, *shown, *data, "--json")
    assert code == 0, err
    assert json.loads(out)


@pytest.mark.parametrize(
    "words",
    [
        ("group",),
        ("evaluate",),
        ("oracle",),
        ("ablate", "grouping"),
        ("ablate", "tags"),
        ("ablate", "faults"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("flip", [False, True])
def test_every_verb_prints_whether_it_flips_and_which_solver_groups(workbench, one_person, words, flip):
    shown = ("--image", one_person / "1.png") if words[0] == "group" else ()
    data = () if shown else ("--data", one_person / "set.json", "--images", one_person)
    code, out, err = workbench(*words, "--adapter", OWN, *shown, *data, "--flip" if flip else "--no-flip")
    assert code == 0, err
    (said,) = [line for line in out.splitlines() if "solver" in line]
    assert ("no flip" not in said and "flip" in said) if flip else "no flip" in said
    assert f"solver scipy {version('scipy')}" in said


def test_a_mistake_in_a_bottom_up_model_of_ones_own_is_told_by_its_line(workbench, one_person, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN.read_text().replace("self.fine(fine), coarse", "self.fine(fine)[:, 0] @ 1, coarse"))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "@ 1" in text)
    code, _, err = workbench("group", "--adapter", path, "--image", one_person / "1.png")
    assert code == 2
    assert f"mine.py, line {line}: TypeError" in err


def test_a_model_with_group_alone_is_told_what_bottom_up_models_have(workbench, one_person, tmp_path):
    path = tmp_path / "mine.py"
    text = OWN.read_text().replace("return BottomUp(", "return Own(")
    path.write_text(
        f"{text}\nclass Own:\n    taps, codec = {{}}, None\n    prepare = forward = decode = group = print\n"
        "    def __init__(self, module, skeleton, **more):\n"
        "        self.module, self.skeleton = module, skeleton\n"
    )
    code, _, err = workbench("group", "--adapter", path, "--image", one_person / "1.png")
    assert code == 2
    assert "lacks aggregation, grouping, all_passes, maps" in err


def test_every_verb_and_the_page_have_one_flip_default(workbench, perfect, scenes):
    import inspect

    from workbench.cli import ablate, answering, compare, evaluate, group, oracle, predict
    from workbench.core import FLIP_BY_DEFAULT, Outputs
    from workbench.evaluation.ablation import grouping_variants
    from workbench.inspectors.grouping.replay import Params, aggregation_of
    from workbench.models import open_model

    commands = [c.command for c in (evaluate, oracle, group, predict, compare)] + [
        ablate.tags,
        ablate.grouping,
    ]
    defaults = {f.__module__: inspect.signature(answering(f)).parameters["flip"].default for f in commands}
    assert set(defaults.values()) == {FLIP_BY_DEFAULT}
    # The page and `look grouping_*`, which keep the mirrored pass for their switch.
    model = open_model(perfect).model
    assert Params().flip is FLIP_BY_DEFAULT
    assert aggregation_of(Params(), model).flip is FLIP_BY_DEFAULT
    reference = grouping_variants(model, Outputs(passes={"mirrored": Outputs()}))[0]
    assert reference.aggregation.flip is FLIP_BY_DEFAULT
    code, printed, err = workbench("group", "any.pth", "--image", perfect, "--json")
    assert code == 0, err
    assert json.loads(printed)["flip"] is FLIP_BY_DEFAULT


def test_the_demo_network_is_told_not_to_tell_left_from_right(workbench):
    code, printed, err = workbench("group", "--demo", "--json")
    assert code == 0, err
    pairs = json.loads(printed)["pairs"]
    assert pairs["collapsed"]
    assert pairs["share"] > 0.9
    assert pairs["median_true_distance"] > 0.1
    code, printed, _ = workbench("group", "--demo")
    assert "left/right pairs collapsed" in printed


def test_a_network_that_tells_left_from_right_is_not_accused(workbench, perfect):
    code, printed, err = workbench("group", "any.pth", "--image", perfect, "--json")
    assert code == 0, err
    pairs = json.loads(printed)["pairs"]
    assert pairs["pairs"] > 8
    assert not pairs["collapsed"]


def test_the_demo_network_is_accused_of_no_mistake_of_the_script(workbench):
    code, printed, err = workbench("ablate", "faults", "--demo", "--limit", "2", "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["suspects"] == []
    names = {row["name"] for row in facts["variants"]}
    assert {
        "tags x 10",
        "left and right exchanged",
        "blue and red exchanged",
        "stride twice as large",
    } <= names
    assert {"with flip", "mirrored tags as they come", "0.5 cell right and down"} <= names
