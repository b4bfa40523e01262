"""Weights go from any naming to any other with equal outputs; transformers' own code is the reference."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from tests.models.vitpose.test_opening import plus_state, saved, shards, state_of
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.safetensors_file import write_weights
from workbench.core import NotAvailable
from workbench.core.run import run
from workbench.data import builtin
from workbench.models import open_model
from workbench.models.families import conversion_to
from workbench.models.opening import StatedFacts
from workbench.models.vitpose.conversion import state_as_mmpose, transformers_config, weights_of
from workbench.models.vitpose.export import TINY, convert, random_vitpose, write_demo
from workbench.models.vitpose.network import CLASSIC, Architecture, HeadShape
from workbench.models.vitpose.transformers_code import build

NAMES = ("mmpose-1", "mmpose-0", "hf")
HEADS = {"classic": HeadShape(17, CLASSIC), "simple": HeadShape(17, kernel=3, enlarged=4)}


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, *TINY.image, generator=torch.Generator().manual_seed(3))


def theirs(state: dict[str, torch.Tensor], eps: float = 1e-6, simple: bool = False, experts: int = 1):
    """Transformers' VitPose of the tiny size, strictly filled with these tensors."""
    shapes = {name: tuple(t.shape) for name, t in random_vitpose(head=HEADS["simple"]).state_dict().items()}
    if not simple:
        shapes = {name: tuple(t.shape) for name, t in random_vitpose().state_dict().items()}
    config = transformers_config(shapes, TINY.heads, TINY.image, eps)
    if experts > 1:
        config["backbone_config"] |= {"num_experts": experts, "part_features": 32}
    try:
        network = build(config).eval()
    except NotAvailable as error:
        pytest.skip(str(error))
    if state:
        network.load_state_dict(state, strict=True)
    return network


def to(naming: str, state: dict[str, torch.Tensor], tmp_path, name: str = "out.pth", **options):
    """The tensors of a state dict under another naming."""
    source = saved(tmp_path, state, f"in-{name}")
    found = convert(open_checkpoint(source), naming, tmp_path / name, **options)
    return found, open_checkpoint(tmp_path / name).state_dict()


@pytest.mark.parametrize("kind", list(HEADS))
def test_our_weights_give_the_same_heatmaps_in_transformers(tmp_path, kind):
    ours = random_vitpose(head=HEADS[kind])
    _, state = to("hf", state_of(ours), tmp_path)
    reference = theirs(state, simple=kind == "simple")
    with torch.no_grad():
        given = reference(pixels()).heatmaps
        assert given.abs().max() > 0.1
        torch.testing.assert_close(ours(pixels()), given, rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", ["mmpose-1", "mmpose-0"])
@pytest.mark.parametrize("kind", list(HEADS))
def test_transformers_weights_give_the_same_heatmaps_here(tmp_path, kind, target):
    torch.manual_seed(0)
    reference = theirs({}, simple=kind == "simple")
    with torch.no_grad():
        for name, tensor in reference.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape)
                scale = max(tensor[0].numel(), 1) ** -0.5 if tensor.ndim > 1 else 0.1
                tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise * scale)
                if tensor.ndim == 1 and name.endswith("weight"):
                    tensor.add_(1)
    assert reference.backbone.embeddings.position_embeddings[:, 0].abs().max() > 0  # the row of a class token
    _, state = to(target, reference.state_dict(), tmp_path)
    loaded = open_model(saved(tmp_path, state, "ours.pth"))
    assert loaded.loaded_fraction == 1.0
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model.module(pixels()), reference(pixels()).heatmaps, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("expert", [0, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))])
def test_a_joined_expert_gives_what_transformers_gives_for_its_data_set(tmp_path, expert):
    state = plus_state(heads=False)
    _, under_hf = to("hf", state, tmp_path)
    reference = theirs(under_hf, experts=6)
    joined = open_model(saved(tmp_path, state), assume=[f"expert={expert}"]).model.module
    index = torch.full((2,), expert)
    with torch.no_grad():
        torch.testing.assert_close(
            joined(pixels()), reference(pixels(), dataset_index=index).heatmaps, rtol=0, atol=1e-5
        )


def test_the_sizes_that_transformers_defaults_to_differ_only_in_the_norms(tmp_path):
    """Its eps is 1e-12 by default; the difference is told where the target cannot say it."""
    _, state = to("hf", state_of(random_vitpose()), tmp_path)
    torch.save(state, tmp_path / "bare.pth")
    found = convert(open_checkpoint(tmp_path / "bare.pth"), "mmpose-1", tmp_path / "back.pth")
    assert any("layer norms add 1e-12" in note for note in found.notes)
    assert found.max_abs is not None
    assert 0 <= found.max_abs < 1e-4


@pytest.mark.parametrize(
    ("source", "target", "ending"),
    [(*pair, (".safetensors", ".pth")[n % 2]) for n, pair in enumerate(itertools.permutations(NAMES, 2))],
)
def test_there_and_back_every_tensor_is_the_same(tmp_path, source, target, ending):
    first = write_demo(tmp_path, source)
    middle, last = tmp_path / f"middle{ending}", tmp_path / f"last{ending}"
    there = convert(open_checkpoint(first), target, middle)
    back = convert(open_checkpoint(middle), source, last, stated=StatedFacts(heads=2))
    assert (there.source, there.target, back.source, back.target) == (source, target, target, source)
    assert there.max_abs == 0
    before, after = open_checkpoint(first).state_dict(), open_checkpoint(last).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_half_precision_stays_half_precision(tmp_path):
    state = {n: t.half() if t.is_floating_point() else t for n, t in state_of(random_vitpose()).items()}
    _, found = to("hf", state, tmp_path, "half.safetensors")
    assert {t.dtype for n, t in found.items() if not n.endswith("tracked")} == {torch.float16}
    name = "backbone.encoder.layer.1.attention.attention.value.weight"
    assert torch.equal(found[name], state["backbone.layers.1.attn.qkv.weight"][256:])


def test_safetensors_files_are_read_by_safetensors_itself(tmp_path):
    from safetensors.torch import load_file

    _, found = to("hf", state_of(random_vitpose()), tmp_path, "model.safetensors")
    again = load_file(tmp_path / "model.safetensors")
    assert found.keys() == again.keys()
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_transformers_opens_the_folder_that_is_written(tmp_path):
    theirs({})  # skips where it cannot be used
    from transformers import VitPoseForPoseEstimation

    write_demo(tmp_path, "hf")
    network = VitPoseForPoseEstimation.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(pixels()).heatmaps, random_vitpose()(pixels()), rtol=0, atol=1e-5)


def test_the_family_transformers_runs_their_code(tmp_path):
    theirs({})
    sample = builtin("astronaut").sample(0)
    for naming in NAMES:
        folder = tmp_path / naming
        folder.mkdir()
        file = write_demo(folder, naming)
        loaded = open_model(file, family="transformers")
        assert (loaded.family, loaded.loaded_fraction) == ("transformers", 1.0)
        assert type(loaded.model.module).__name__ == "VitPoseForPoseEstimation"
        ours, given = run(open_model(file).model, [sample]), run(loaded.model, [sample])
        np.testing.assert_allclose(ours.heatmaps, given.heatmaps, atol=1e-5)
        np.testing.assert_allclose(ours.keypoints, given.keypoints, atol=1e-2)


def test_shards_are_converted_as_one_model(tmp_path):
    (tmp_path / "model").mkdir()
    found = convert(open_checkpoint(shards(tmp_path / "model")), "mmpose-1", tmp_path / "whole.pth")
    assert found.max_abs == 0
    assert open_model(tmp_path / "whole.pth", assume=["heads=2"]).loaded_fraction == 1.0


def test_a_bare_backbone_is_converted_without_its_prefix(tmp_path):
    state = state_of(random_vitpose())
    bare = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
    found, under_hf = to("hf", bare, tmp_path)
    assert found.max_abs is None
    assert "layernorm.weight" in under_hf
    _, back = to("mmpose-1", under_hf, tmp_path, "back.pth")
    assert back.keys() == bare.keys()
    assert all(torch.equal(back[name], bare[name]) for name in bare)


# ViTPose+.


def test_experts_go_to_the_namings_that_know_them_and_are_joined_for_the_one_that_does_not(tmp_path):
    state = plus_state(heads=False)
    found, under_hf = to("hf", state, tmp_path, check=True)
    assert found.max_abs == 0
    name = "backbone.encoder.layer.0.mlp.experts.5.bias"
    assert torch.equal(under_hf[name], state["backbone.blocks.0.mlp.experts.5.bias"])
    _, back = to("mmpose-0", under_hf, tmp_path, "back.pth")
    assert all(torch.equal(back[name], state[name]) for name in state)
    with pytest.raises(ValueError, match=r"mmpose 1.x has no network with experts; name the data set"):
        to("mmpose-1", state, tmp_path, "b.pth")
    found, plain = to("mmpose-1", state, tmp_path, "c.pth", stated=StatedFacts(expert=3))
    assert (found.expert, found.max_abs) == ("AP-10K", 0)
    assert any("other data sets" in note for note in found.notes)
    parts = [state[f"backbone.blocks.2.mlp.{part}.bias"] for part in ("fc2", "experts.3")]
    assert torch.equal(plain["backbone.layers.2.ffn.layers.1.bias"], torch.cat(parts))


def test_several_heads_are_refused_where_there_is_room_for_one(tmp_path):
    state = plus_state()
    with pytest.raises(ValueError, match="Hugging Face names have one head, this ViTPose\\+ has 6"):
        to("hf", state, tmp_path)
    found, _ = to("hf", state, tmp_path, "b.pth", stated=StatedFacts(expert=5))
    assert found.expert == "COCO-WholeBody"
    _, same = to("mmpose-0", state, tmp_path, "c.pth")
    assert same.keys() == state.keys()


def test_leftover_experts_are_left_out_and_that_is_said(tmp_path):
    state = plus_state(heads=False)
    for n, end in itertools.product(range(3), ("weight", "bias")):
        name = f"backbone.blocks.{n}.mlp.fc2.{end}"
        state[name] = torch.cat([state[name], state[f"backbone.blocks.{n}.mlp.experts.0.{end}"]])
    found, plain = to("mmpose-1", state, tmp_path)
    assert any("36 tensors of experts were left out" in note for note in found.notes)
    assert not any("experts" in name for name in plain)


# What is refused, and what is said to be left behind.


def sapiens() -> dict[str, torch.Tensor]:
    head = HeadShape(17, ((64, 4), (64, 4)), ((64, 1), (64, 1)), norm="instance")
    return state_of(random_vitpose(head=head))


@pytest.mark.parametrize(
    ("change", "target", "match"),
    [
        (lambda s: s | {"cls_token": torch.zeros(1, 1, 128)}, "hf",
         r"not part of a ViTPose or Sapiens network .*: cls_token; name each with --drop"),
        (lambda s: sapiens(), "hf", r"head.conv_layers.0.weight: Hugging Face names have no head"),
        (lambda s: sapiens(), "mmpose-0", r"its backbone alone can be converted"),
        (lambda s: state_of(random_vitpose(head=HeadShape(17, ((256, 4),)))), "hf", "of two deconvolutions"),
        (lambda s: state_of(random_vitpose(head=HeadShape(17, ((128, 4), (256, 4))))), "hf",
         "has 128 channels and kernel 4"),
        (lambda s: state_of(random_vitpose(head=HeadShape(17, CLASSIC, kernel=3))), "hf",
         "kernel 3; the head of transformers' VitPose with deconvolutions has 1"),
        (lambda s: {n: t for n, t in s.items() if not n.startswith("backbone.ln1")}, "hf",
         "no last layer norm"),
        (lambda s: state_of(random_vitpose(Architecture(128, 1, 2, 200, image=(128, 96)))), "hf",
         "here it is 200 of 128"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_refused_in_one_sentence(tmp_path, change, target, match):
    with pytest.raises(ValueError, match=match):
        to(target, change(state_of(random_vitpose())), tmp_path)
    assert not (tmp_path / "out.pth").exists()


def test_a_tensor_is_left_out_only_where_it_is_named(tmp_path):
    state = state_of(random_vitpose()) | {"cls_token": torch.zeros(1, 1, 128)}
    found, under_hf = to("hf", state, tmp_path, dropped=["cls_token"])
    assert found.dropped == ("cls_token",)
    assert "cls_token" not in under_hf
    with pytest.raises(ValueError, match=r"--drop backbone.pos_embed: only a tensor without a place"):
        to("hf", state, tmp_path, "b.pth", dropped=["cls_token", "backbone.pos_embed"])


def test_what_the_file_holds_besides_its_weights_is_listed(tmp_path):
    network = random_vitpose()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    meta = {
        "epoch": 3,
        "cfg": "x = 1",
        "mmengine_version": "0.10.7",
        "dataset_meta": {"dataset_name": "coco"},
    }
    path = saved(
        tmp_path, {"meta": meta, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}
    )
    found = convert(open_checkpoint(path), "mmpose-0", tmp_path / "out.pth")
    listed = "; ".join(found.left)
    assert "optimizer" in listed
    assert "training config" in listed
    assert "epoch" in listed
    assert open_checkpoint(tmp_path / "out.pth").dataset_meta == {"dataset_name": "coco"}


def test_other_networks_and_namings_are_refused(tmp_path):
    path = saved(tmp_path, {"conv1.weight": torch.zeros(3, 3, 3, 3)})
    with pytest.raises(
        NotAvailable, match="expected a ViTPose or Sapiens network under the names of mmpose-1"
    ):
        convert(open_checkpoint(path), "hf", tmp_path / "out.pth")
    with pytest.raises(ValueError, match=r"--to hff: expected one of mmpose-1, mmpose-0, hf \(nearest: hf"):
        conversion_to("hff")
    with pytest.raises(ValueError, match="expected a name ending in"):
        write_weights(tmp_path / "out.onnx", {})


def test_another_models_config_json_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="says something else; choose a folder of its own"):
        write_demo(tmp_path, "hf")
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "bert"}
    assert not (tmp_path / "model.safetensors").exists()
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to(tmp_path / "elsewhere")  # came with the folder
    write_demo(tmp_path, "hf")
    assert not (tmp_path / "elsewhere").exists()


def test_a_network_in_memory_is_brought_to_common_names(tmp_path):
    ours = random_vitpose()
    for naming in NAMES:
        state = weights_of(open_checkpoint(write_demo(tmp_path, naming, name=f"{naming}.pth")))
        assert state.naming == naming
        file_state = open_checkpoint(tmp_path / f"{naming}.pth").state_dict()
        common = state_as_mmpose(file_state)
        assert common.keys() == ours.state_dict().keys()
        assert all(torch.equal(common[name], tensor) for name, tensor in ours.state_dict().items())
    other = {"a.weight": torch.zeros(2)}
    assert state_as_mmpose(other) == other
