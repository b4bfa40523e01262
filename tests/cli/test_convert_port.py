"""`workbench convert` and `workbench port` on the command line."""

from __future__ import annotations

import json

import pytest
import torch

from tests.models.vitpose.test_opening import plus_state, saved
from tests.test_bad_input import refused
from workbench.models import open_model
from workbench.models.vitpose.export import write_demo, write_forgetful_port

ADAPTER = """
import torch
from workbench.models.vitpose.export import random_vitpose
from workbench.models.vitpose.model import new_vitpose
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    network = random_vitpose()
    network.backbone.layers[1].ffn.layers[0][1] = torch.nn.GELU(approximate="tanh")
    return new_vitpose(network, SKELETONS["coco-17"])
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("original"))


def test_convert_writes_a_file_that_opens_under_the_other_naming(workbench, original, tmp_path):
    out = tmp_path / "model.safetensors"
    code, text, err = workbench("convert", original, "--to", "hf", "--out", out, "--json")
    assert code == 0, err
    facts = json.loads(text)
    assert (facts["source"], facts["target"], facts["max_abs"]) == ("mmpose-1", "hf", 0)
    assert facts["files"] == [str(out), str(tmp_path / "config.json")]
    assert facts["config"]["backbone_config"]["num_attention_heads"] == 2
    assert open_model(tmp_path).loaded_fraction == 1.0
    code, text, _ = workbench("convert", tmp_path, "--to", "mmpose-0", "--out", tmp_path / "old.pth")
    assert code == 0
    assert "Hugging Face names -> ViTPose 0.x names, 67 tensors read and 55 written; outputs are" in text


def test_convert_says_where_a_config_json_would_be_written(workbench, original, tmp_path):
    code, out, _ = workbench("convert", original, "--to", "hf", "--out", tmp_path / "a.safetensors")
    assert code == 0
    assert "written beside a file called model.safetensors" in out
    code, out, _ = workbench("convert", original, "--to", "hf", "--out", tmp_path / "b.PTH", "--no-check")
    assert "outputs were not compared" in out


def test_mistakes_with_convert_are_one_sentence(workbench, original, tmp_path):
    out = tmp_path / "out.pth"
    refused(workbench("convert"), "no checkpoint", "--demo")
    refused(workbench("convert", original), "--to hf, mmpose-1 or mmpose-0, and --out")
    refused(workbench("convert", original, "--to", "huggingface", "--out", out), "nearest: hf")
    refused(
        workbench("convert", original, "--to", "hf", "--out", tmp_path / "out.onnx"), ".safetensors", ".pth"
    )
    refused(workbench("convert", original, "--to", "hf", "--out", original), "this is the file that is read")
    refused(workbench("convert", tmp_path / "absent.pth", "--to", "hf", "--out", out), "absent.pth")
    refused(
        workbench("convert", original, "--to", "hf", "--out", out, "--assume", "padding=1.1"),
        "--assume padding: a conversion needs expert, heads and input alone",
    )
    plus = saved(tmp_path, plus_state(), "plus.pth")
    refused(workbench("convert", plus, "--to", "mmpose-1", "--out", out), "--assume expert=coco|aic")
    assert not out.exists()
    code, text, _ = workbench("convert", plus, "--to", "mmpose-1", "--out", out, "--expert", "ap10k")
    assert code == 0
    assert "expert and head of AP-10K; outputs are equal" in text


def test_drop_leaves_a_named_tensor_out(workbench, original, tmp_path):
    state = torch.load(original, weights_only=True)["state_dict"] | {"cls_token": torch.zeros(1, 1, 128)}
    path, out = saved(tmp_path, state), tmp_path / "out.pth"
    refused(workbench("convert", path, "--to", "hf", "--out", out), "cls_token; name each with --drop")
    code, text, _ = workbench("convert", path, "--to", "hf", "--out", out, "--drop", "cls_token")
    assert code == 0
    assert "dropped   cls_token, as --drop says" in text


def test_port_names_the_first_place_and_ends_with_1(workbench, original, tmp_path):
    port = write_forgetful_port(tmp_path)
    code, out, err = workbench("port", original, port, "--json")
    assert code == 1, err
    facts = json.loads(out)
    assert facts["first_difference"] == "backbone.layers.0.ln1"
    assert facts["agreeing"] == ["input", "backbone.patch_embed.projection"]
    assert {"name", "max_abs", "relative"} <= facts["taps"][0].keys()
    assert facts["differing_weights"][0][0] == "backbone.pos_embed"
    code, out, _ = workbench("port", original, original)
    assert code == 0
    assert "agree at all" in out


def test_port_takes_an_adapter_a_map_and_writes_a_report(workbench, original, tmp_path):
    adapter, places, out = tmp_path / "mine.py", tmp_path / "map.toml", tmp_path / "port.html"
    adapter.write_text(ADAPTER)
    code, text, err = workbench("port", original, adapter, "--json", "--out", out)
    assert code == 1, err
    assert json.loads(text)["first_difference"] == "backbone.layers.1.ffn.layers.0.1"
    assert "port" in out.read_text()
    places.write_text('"backbone.layers.0" = "backbone.layers.0"\n"backbone" = "backbone"\n')
    code, text, _ = workbench("port", original, adapter, "--map", places, "--json")
    facts = json.loads(text)
    assert [tap["name"] for tap in facts["taps"]] == [
        "input",
        "backbone.layers.0",
        "backbone",
        "output heatmaps",
    ]
    assert (code, facts["first_difference"]) == (1, "backbone")


def test_mistakes_with_port_are_one_sentence(workbench, original, tmp_path):
    refused(workbench("port"), "two models are needed")
    refused(workbench("port", original), "two models are needed")
    refused(workbench("port", original, tmp_path / "absent.pth"), "absent.pth")
    places = tmp_path / "map.json"
    places.write_text('{"backbone.layers.7": "backbone"}')
    answer = workbench("port", original, original, "--map", places)
    refused(answer, "A has no tap 'backbone.layers.7'; nearest: backbone.layers")
    refused(workbench("port", original, original, "--map", tmp_path / "no.toml"), "no such file or folder")
    refused(workbench("port", original, original, "--tolerance", "0"), "a tolerance above 0")
    refused(workbench("port", original, original, "--out", tmp_path / "a.png"), "a name ending in")
    refused(workbench("port", original, original, "--family-b", "movenett"), "nearest: movenet")
