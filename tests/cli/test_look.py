"""`workbench look`: every inspector is a verb, every knob an option, every mistake one sentence."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re

import pytest
import torch

from workbench.checkpoints.demo import demo_checkpoints
from workbench.cli.look import SUBVERBS, knob_options
from workbench.cli.output import as_columns
from workbench.inspectors import ALL, folder_of, get


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """An adapter of a user's own, with 17 COCO keypoints, so that built-in data fit."""
    path = tmp_path_factory.mktemp("own") / "my_toy.py"
    path.write_text(ADAPTER)
    return path


ADAPTER = '''
import numpy as np
import torch
from torch import nn

from workbench.core.geometry import crop_region, input_to_image
from workbench.core import Batch, Codec, Outputs, Prediction
from workbench.skeletons import SKELETONS


class Mine:
    """A 17-keypoint heatmap model with random filters."""

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Conv2d(3, 17, 3, stride=4, padding=1), nn.ReLU()).eval()
        self.taps = {"filters": "0", "head": "1"}
        self.skeleton = SKELETONS["coco-17"]
        self.codec = Codec("heatmap", (64, 48), (16, 12))

    def prepare(self, samples):
        import cv2

        crops, maps = [], []
        for s in samples:
            to_image = input_to_image(*crop_region(s.box, (64, 48)), (64, 48))
            crop = cv2.warpAffine(s.image, to_image, (48, 64), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            crops.append(torch.from_numpy(crop).permute(2, 0, 1) / 255)
            maps.append(to_image)
        return Batch(torch.stack(crops), np.stack(maps), tuple(samples))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))

    def decode(self, outputs, batch, options):
        found = []
        for maps, affine, sample in zip(outputs.heatmaps.numpy(), batch.to_image, batch.samples):
            y, x = np.divmod(maps.reshape(17, -1).argmax(1), 12)
            points = np.stack([x, y], 1) * 4.0 @ affine[:, :2].T + affine[:, 2]
            found.append(Prediction(points, maps.max((1, 2)), sample.box))
        return tuple(found)


def load(checkpoint, device):
    return Mine()
'''


class TestNames:
    def test_alone_it_lists_every_inspector_with_its_question(self, workbench):
        code, out, _ = workbench("look")
        assert code == 0
        for name in ALL:
            assert f"{name} " in out
            assert get(name).question in out

    def test_the_list_is_also_data(self, workbench):
        code, out, _ = workbench("look", "--json")
        assert code == 0
        assert json.loads(out) == {name: get(name).question for name in ALL} == SUBVERBS

    def test_an_unknown_inspector_is_a_mistake(self, workbench):
        assert workbench("look", "bogus")[0] == 2

    def test_listing_imports_nothing_heavy(self):
        import subprocess
        import sys

        code = (
            "import sys; from workbench.cli import main; main(['look']);"
            "print([m for m in ('torch', 'plotly', 'cv2', 'mmpose', 'scipy') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ALL)
class TestEveryInspector:
    def test_its_help_names_every_knob_with_its_sentence(self, workbench, name):
        code, out, _ = workbench("look", name, "--help")
        assert code == 0
        assert "--json" in out
        assert "--demo" in out
        for field in dataclasses.fields(get(name).params):
            assert f"--{field.name.replace('_', '-')}" in out

    def test_its_knobs_are_options_with_its_defaults(self, name):
        options = knob_options(get(name))
        params = get(name).params()
        for field in dataclasses.fields(params):
            default = options[field.name][1]
            assert getattr(default, "value", default) == getattr(params, field.name)

    def test_it_answers_or_says_why_not(self, workbench, model_file, name):
        code, out, err = workbench("look", name, "--adapter", model_file, "--data", "astronaut", "--json")
        # Those of rooms of their own ask models that this is none of.
        other_rooms = folder_of(name) not in ("outputs", "attribution")
        if name in ("simcc_curves", "vector_fields", "attention") or other_rooms:
            assert code == 2
            assert out == ""
            assert len(err.strip().splitlines()) == 1
            assert re.search("this model( gives| finds| has no|;)", err)
        else:
            assert code == 0, err
            facts = json.loads(out)
            assert {"inspector", "model", "samples", "summary", "table"} <= set(facts)
            assert facts["inspector"] == name


def test_weights_of_a_file_are_looked_at_without_a_model(workbench, tmp_path):
    state = {"a.conv.weight": torch.zeros(4, 3), "a.bn.running_var": torch.ones(3)}
    state["b.fc.weight"] = torch.full((2,), float("nan"))
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    code, out, err = workbench("look", "weights", str(tmp_path / "w.pth"), "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["counts"] == [12, 2]
    assert facts["modules"] == ["a.conv", "b.fc"]
    assert "100 % of the weights in b.fc are not finite" in facts["summary"]
    assert facts["samples"] == []
    assert "no model was built" in facts["notes"][0]
    content = torch.load(demo_checkpoints()[-1], map_location="cpu", weights_only=False)
    content["state_dict"] = {f"module.{name}": value for name, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "wrapped.pth")
    code, out, err = workbench("look", "weights", str(tmp_path / "wrapped.pth"), "--json")
    assert code == 0, err
    assert "no model was built: wrapped.pth does not fill the model" in json.loads(out)["notes"][0]
    assert workbench("look", "peaks", str(tmp_path / "wrapped.pth"), "--demo")[0] == 2
    code, _, err = workbench("look", "peaks", str(tmp_path / "w.pth"))
    assert code == 2
    assert "--adapter" in err


class TestOptions:
    def test_knobs_reach_the_inspector(self, workbench, model_file):
        words = ("look", "weights", "--adapter", model_file, "--kind", "biases", "--json")
        facts = json.loads(workbench(*words)[1])
        assert facts["counts"] == [17]

    def test_values_out_of_range_are_a_mistake(self, workbench, model_file):
        code, _, err = workbench("look", "peaks", "--adapter", model_file, "--radius", "1000")
        assert code == 2
        assert "--radius" in err

    def test_several_samples_are_looked_at_together(self, workbench, model_file):
        words = ("look", "peaks", "--adapter", model_file, "--data", "astronaut", "--json")
        facts = json.loads(workbench(*words, "--sample", "0", "--sample", "0")[1])
        assert len(facts["samples"]) == 2
        assert len(facts["bits"]) == 2

    def test_without_data_the_built_in_photograph_is_used_and_named(self, workbench, model_file):
        code, out, _ = workbench("look", "overlay", "--adapter", model_file)
        assert code == 0
        assert "neither --data nor --image" in out
        assert "astronaut" in out

    def test_an_image_with_a_box(self, workbench, model_file, tmp_path):
        from workbench.data import builtin
        from workbench.data.images import write_image

        picture = write_image(tmp_path / "mine.png", builtin("astronaut").sample(0).image)
        words = ("look", "overlay", "--adapter", model_file, "--image", picture, "--json")
        facts = json.loads(workbench(*words, "--box", "100,50,300,400")[1])
        assert facts["box"] == [100, 50, 300, 400]
        assert facts["samples"] == ["mine"]
        assert json.loads(workbench(*words)[1])["box"] == [0, 0, 512, 512]

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ((), "expected a checkpoint, --adapter, or --demo"),
            (("--data", "astronaut", "--image", __file__), "exclude each other"),
            (("--data", "astronaut", "--box", "1,2,3,4"), "--box belongs to --image"),
            (("--image", "x.png"), "x.png"),
            (("--data", "astronaut", "--sample", "99"), "no instance 99"),
            (("--data", "bogus"), "bogus"),
            (("--instance", "bogus"), "bogus"),
            (("--out", "figure.gif"), ".html or .json or .csv"),
            (("--out", "absent/figure.html"), "no such folder"),
        ],
    )
    def test_a_mistake_is_one_sentence(self, workbench, model_file, words, reason):
        own = ("--adapter", model_file) if words else ()
        code, out, err = workbench("look", "overlay", *own, *words)
        assert code == 2
        assert out == ""
        assert len(err.strip().splitlines()) == 1, err
        assert reason in err

    def test_data_of_other_keypoints_are_refused(self, workbench, model_file, shared):
        words = ("--data", shared / "data/ap10k/test_ap10k.json", "--images", shared / "data/ap10k")
        code, _, err = workbench("look", "overlay", "--adapter", model_file, *words)
        assert code == 2
        assert "keypoints" in err


class TestOut:
    def test_html_stands_alone_and_follows_light_and_dark(self, workbench, model_file, tmp_path):
        out = tmp_path / "figure.html"
        assert workbench("look", "overlay", "--adapter", model_file, "--out", out)[0] == 0
        page = out.read_text(encoding="utf-8")
        assert "Plotly.newPlot" in page
        assert "color-scheme:light dark" in page
        assert 'src="http' not in page

    def test_csv_and_json_hold_the_table(self, workbench, model_file, tmp_path):
        for ending in (".csv", ".json"):
            words = ("look", "peaks", "--adapter", model_file, "--out", tmp_path / f"peaks{ending}", "--json")
            facts = json.loads(workbench(*words)[1])
        table = list(csv.DictReader(io.StringIO((tmp_path / "peaks.csv").read_text())))
        assert [row["keypoint"] for row in table] == [row["keypoint"] for row in facts["table"]]
        assert json.loads((tmp_path / "peaks.json").read_text())["table"] == facts["table"]


def test_a_table_is_aligned_and_has_dashes_for_the_unknown():
    lines = as_columns([{"name": "a", "n": 1.23456}, {"name": "long", "n": None}])
    assert lines == ["name      n", "a     1.235", "long      -"]
    assert as_columns([]) == []


def test_a_knob_without_an_option_is_the_authors_mistake():
    @dataclasses.dataclass(frozen=True)
    class Params:
        """Knobs.

        Attributes:
            odd: of no known type.
        """

        odd: tuple = ()

    with pytest.raises(TypeError, match="no option for knob 'odd'"):
        knob_options(dataclasses.replace(get("peaks"), params=Params))


def test_keypoints_without_names_take_those_of_the_data(workbench, tmp_path):
    (tmp_path / "numbered.py").write_text(
        "from torch import nn\n"
        "from workbench.models import TopDown\n"
        "from workbench.core import Codec, Skeleton\n\n"
        "def load(checkpoint, device):\n"
        "    names = tuple(f'keypoint {k}' for k in range(17))\n"
        "    codec = Codec('heatmap', (32, 32), (8, 8), sigma=(1.0, 1.0))\n"
        "    return TopDown(nn.Conv2d(3, 17, 4, 4), Skeleton('own-17', names), codec)\n"
    )
    words = ["look", "heatmap_grid", "--adapter", tmp_path / "numbered.py", "--json"]
    code, out, err = workbench(*words, "--data", "astronaut")
    assert code == 0, err
    facts = json.loads(out)
    assert [row["keypoint"] for row in facts["table"]][:2] == ["nose", "left_eye"]
    assert any("as in astronaut" in note for note in facts["notes"])
    code, out, err = workbench(*words)
    assert code == 0, err
    assert json.loads(out)["table"][0]["keypoint"] == "keypoint 0", "nobody named the photograph as its data"


@pytest.mark.parametrize(
    ("verb", "option", "said"),
    [
        (("predict",), "--config", "config"),
        (("look", "peaks"), "--config", "config"),
        (("look", "peaks"), "--images", "scenes-val"),
        (("port",), "--config-a", "--config-a"),
    ],
)
def test_an_option_beside_demo_is_used_or_refused_and_not_passed_over(
    workbench, tmp_path, verb, option, said
):
    folder = tmp_path / "folder.py"
    folder.mkdir()
    code, out, err = workbench(*verb, "--demo", option, folder)
    assert (code, out) == (2, "")
    assert said in err
