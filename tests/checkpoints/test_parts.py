"""Several files are one model only where an index, their names or those of their tensors say so."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.cli.test_adapter_examples import a_set
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.loading import load_state
from workbench.models.movenet.network import MoveNet


def save(folder, files):
    """Files of state dicts, by name; their paths in order."""
    for name, state in files.items():
        torch.save(state, folder / name)
    return [folder / name for name in files]


@pytest.fixture(scope="module")
def movenet():
    return MoveNet().state_dict()


def resnet(keypoints=17):
    """Enough of a SimpleBaseline of the official names to be told as one."""
    state = {f"layer3.{n}.conv1.weight": torch.zeros(1, 1, 1, 1) for n in range(2)}
    state |= {"conv1.weight": torch.zeros(1, 3, 7, 7), "layer4.0.conv1.weight": torch.zeros(1, 1, 1, 1)}
    state |= {"deconv_layers.0.weight": torch.zeros(1, 1, 4, 4)}
    last = {"final_layer.weight": torch.zeros(keypoints, 1, 1, 1)}
    return state | last | {"final_layer.bias": torch.zeros(keypoints)}


class Student(nn.Module):
    """A network whose parts were saved one by one, each as a Sequential."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        for name in ("attention_hi", "attention_lo", "body", "head", "stem"):
            width = 3 if name == "stem" else 4
            self.add_module(name, nn.Sequential(nn.Conv2d(width, 4, 1), nn.BatchNorm2d(4)))

    def forward(self, pixels):
        x = self.body(self.stem(nn.functional.avg_pool2d(pixels, 4)).relu())
        return self.head(x * self.attention_hi(x).sigmoid() + x * self.attention_lo(x).sigmoid())


STUDENT = """
from tests.checkpoints.test_parts import Student
from workbench.checkpoints.loading import load_state
from workbench.core import Codec, Skeleton
from workbench.models import TopDown


def load(checkpoint, device):
    net = Student(9)
    report = load_state(net, checkpoint)
    skeleton = Skeleton("own", tuple("abcd"), sigmas=(0.1,) * 4)
    codec = Codec("heatmap", input_size=(64, 64), output_size=(16, 16), decoder="argmax")
    return TopDown(net.to(device), skeleton, codec, device=device), report
"""


def test_two_whole_networks_are_refused_with_what_each_is(tmp_path, movenet):
    files = save(tmp_path, {"simple.pth": resnet(), "movenet.pth": movenet})
    with pytest.raises(ValueError, match=r"simple\.pth \(SimpleBaseline.*movenet\.pth \(MoveNet\)") as caught:
        open_checkpoint(files)
    assert "each is a whole network" in str(caught.value)
    assert "index.json" in str(caught.value)


def test_a_network_and_a_file_of_something_else_are_refused(tmp_path, movenet):
    other = {"features.0.weight": torch.zeros(4, 3, 3, 3)}
    with pytest.raises(ValueError, match="neither an index nor their names say so"):
        open_checkpoint(save(tmp_path, {"movenet.pth": movenet, "vgg.pth": other}))


def test_parts_that_are_named_as_modules_keep_their_files_name(tmp_path):
    theirs, model = Student(0), Student(1)
    files = save(tmp_path, {f"{n}.pth": part.state_dict() for n, part in theirs.named_children()})
    opened = open_checkpoint(files)
    assert set(opened.tensors) == set(theirs.state_dict())
    assert "in 5 parts, each under its file's name" in opened.format
    assert torch.equal(opened.read("attention_lo.0.weight"), theirs.attention_lo[0].weight)
    assert load_state(model, opened).complete
    assert torch.equal(model.body[1].bias, theirs.body[1].bias)


def test_a_student_in_five_files_opens_loads_and_evaluates_as_the_whole(workbench, tmp_path):
    theirs = Student(0)
    parts = save(tmp_path, {f"{n}.pth": part.state_dict() for n, part in theirs.named_children()})
    whole = save(tmp_path, {"whole.pth": theirs.state_dict()})
    adapter = tmp_path / "student.py"
    adapter.write_text(STUDENT)
    data = a_set(tmp_path, "abcd")

    def answer(verb, files, *words):
        _, out, err = workbench(verb, *files, *words, "--json")
        return json.loads(out) if out else err

    opened = [answer("open", files) for files in (whole, parts)]
    assert opened[0]["parameters"] == opened[1]["parameters"] > 0
    assert answer("load", parts, "--adapter", adapter)["loaded_fraction"] == 1
    shown = [answer("evaluate", files, "--adapter", adapter, *data) for files in (whole, parts, parts[::-1])]
    assert shown[0]["per_keypoint"] == shown[1]["per_keypoint"] == shown[2]["per_keypoint"]
    assert {facts["AP"] for facts in shown} == {shown[0]["AP"]}
    assert any(row["oks"] > 0 for row in shown[0]["per_keypoint"])
    # Four of the five: what is missing is said, and no figure is given for a network that is partly random.
    assert "body.0.weight" in answer("load", [*parts[:2], *parts[3:]], "--adapter", adapter)["missing"]
    assert "body.0.weight" in answer("evaluate", [*parts[:2], *parts[3:]], "--adapter", adapter, *data)


def test_parts_of_usual_modules_without_a_common_name_keep_their_files_name(tmp_path):
    parts = {"backbone": {"stem.weight": torch.zeros(2, 2)}, "head": {"final.weight": torch.zeros(3, 2)}}
    opened = open_checkpoint(save(tmp_path, {f"{n}.pth": s for n, s in parts.items()}))
    assert set(opened.tensors) == {"backbone.stem.weight", "head.final.weight"}


def test_two_equal_parts_of_named_modules_are_parts(tmp_path):
    theirs = Student(0)
    pair = {n: getattr(theirs, n).state_dict() for n in ("attention_hi", "attention_lo")}
    assert len(open_checkpoint(save(tmp_path, {f"{n}.pth": s for n, s in pair.items()})).tensors) == 14


@pytest.mark.parametrize(
    "names",
    [("epoch_1", "epoch_2"), ("best", "last"), ("run_1", "run_2"), ("a", "b"), ("model", "model_ema"),
     ("1", "2")],
)  # fmt: skip
def test_one_network_twice_is_refused(tmp_path, names):
    states = [Student(n).body.state_dict() for n in range(2)]
    files = save(tmp_path, {f"{n}.pth": s for n, s in zip(names, states, strict=True)})
    with pytest.raises(ValueError, match=rf"{names[0]}\.pth and {names[1]}\.pth both hold '0\.weight'"):
        open_checkpoint(files)


@pytest.mark.parametrize(
    "names",
    [("backbone", "head"), ("my_backbone", "my_head"), ("part1", "part2"), ("model-1-of-2", "model-2-of-2"),
     ("0", "1"), ("epoch_9-00001-of-00002", "epoch_9-00002-of-00002")],
)  # fmt: skip
def test_files_whose_names_say_that_they_are_parts(tmp_path, names):
    first, second = {"backbone.0.weight": torch.zeros(2, 2)}, {"head.weight": torch.zeros(3, 2)}
    files = save(tmp_path, {f"{n}.pth": s for n, s in zip(names, (first, second), strict=True)})
    assert list(open_checkpoint(files).tensors) == ["backbone.0.weight", "head.weight"]


@pytest.mark.parametrize("factor", [1, 2])
def test_numbered_parts_that_overlap_are_refused(tmp_path, factor):
    """Equal or not: which of the two is meant is not in the files, and they are no modules p1 and p2."""
    state = {f"backbone.{n}.weight": torch.full((2, 2), float(n)) for n in range(6)}
    names = list(state)
    files = {"p1.pth": {k: state[k] for k in names[:4]}, "p2.pth": {k: state[k] * factor for k in names[2:]}}
    with pytest.raises(ValueError, match=r"p1\.pth and p2\.pth both hold 'backbone\.2\.weight'"):
        open_checkpoint(save(tmp_path, files))


def test_tensors_that_make_a_known_network_only_together_are_parts(tmp_path, movenet):
    rest = {n: t for n, t in movenet.items() if n.startswith("backbone")}
    heads = {n: t for n, t in movenet.items() if n.startswith("header")}
    # A name such as these says nothing.
    opened = open_checkpoint(save(tmp_path, {"x.pth": rest, "y.pth": heads}))
    assert opened.identity.family == "MoveNet"
    assert len(opened.tensors) == len(movenet)


def test_an_index_says_it_whatever_the_files_hold(tmp_path):
    save(tmp_path, {"x.pth": {"a.weight": torch.zeros(2)}, "y.pth": {"b.weight": torch.zeros(2)}})
    index = {"weight_map": {"a.weight": "x.pth", "b.weight": "y.pth"}}
    (tmp_path / "own.index.json").write_text(json.dumps(index))
    assert set(open_checkpoint(tmp_path / "own.index.json").tensors) == {"a.weight", "b.weight"}
    with pytest.raises(ValueError, match="neither an index"):
        open_checkpoint([tmp_path / "x.pth", tmp_path / "y.pth"])


@pytest.mark.parametrize("verb", ["load", "predict", "evaluate", "oracle", "look overlay", "distill"])
def test_verbs_take_all_files_of_a_model(workbench, tmp_path, movenet, verb):
    """Two files that are no parts are refused by the same sentence; so both were looked at."""
    files = save(tmp_path, {"simple.pth": resnet(), "movenet.pth": movenet})
    data = ("--data", "scenes-val") if verb in ("evaluate", "oracle") else ()
    code, _, err = workbench(*verb.split(), *files, *data)
    assert code == 2
    assert "are not parts of one model" in err


def test_load_and_predict_use_the_parts_of_a_movenet(workbench, tmp_path, movenet):
    rest = {n: t for n, t in movenet.items() if n.startswith("backbone")}
    heads = {n: t for n, t in movenet.items() if n.startswith("header")}
    files = save(tmp_path, {"backbone.pth": rest, "header.pth": heads})
    code, out, err = workbench("load", *files, "--json")
    assert code == 0, err
    assert json.loads(out)["loaded_fraction"] == 1
    from workbench.data.images import write_image

    image = write_image(tmp_path / "i.png", torch.zeros(20, 20, 3, dtype=torch.uint8).numpy())
    assert workbench("predict", *files, "--image", image, "--json")[0] == 0


def test_load_says_which_tensors_of_the_file_are_not_read(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    state = net.state_dict()
    state["1.weight"] = state["1.weight"].to_sparse()
    torch.save(state, tmp_path / "a.pth")
    report = load_state(net, open_checkpoint(tmp_path / "a.pth"))
    assert report.missing == ("1.weight",)
    assert "1 sparse (sparse_coo) tensors of the file, not read (1.weight ...)" in report.summary()
    assert report.to_json()["unread"] == {"1.weight": "sparse (sparse_coo)"}
