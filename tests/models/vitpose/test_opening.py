"""Files under every naming open as the same network; what cannot be is refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.models.vitpose.test_network import CONFIGS
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.identity import Identity
from workbench.checkpoints.loading import LoadReport
from workbench.core import NotAvailable, Sample
from workbench.core.capabilities import HasAttention
from workbench.core.run import run
from workbench.models import open_model
from workbench.models.families import explained
from workbench.models.vitpose.export import random_vitpose, write_demo
from workbench.models.vitpose.network import CLASSIC, Architecture, HeadShape, ViTPose

NAMINGS = {"mmpose-1": "mmpretrain names", "mmpose-0": "ViTPose 0.x names", "hf": "Hugging Face names"}


def sample() -> Sample:
    image = np.random.default_rng(0).integers(0, 255, (150, 120, 3), dtype=np.uint8)
    return Sample(image, (10.0, 12.0, 100.0, 140.0))


def heatmaps(model) -> np.ndarray:
    return run(model, [sample()]).heatmaps


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same random network under each naming."""
    return {naming: write_demo(tmp_path_factory.mktemp(naming), naming) for naming in NAMINGS}


@pytest.mark.parametrize("naming", list(NAMINGS))
def test_a_file_of_any_naming_opens_without_a_config_as_the_same_network(files, naming):
    loaded = open_model(files[naming])
    assert (loaded.family, loaded.loaded_fraction) == ("vitpose", 1.0)
    assert loaded.load is not None
    assert (loaded.load.missing, loaded.load.unexpected) == ((), ())
    assert isinstance(loaded.model, HasAttention)
    assert loaded.model.attention.heads == 2
    identity = loaded.checkpoint.identity
    assert (identity.naming, identity.record) == (naming, "vitpose")
    assert NAMINGS[naming] in identity.family
    if naming != "mmpose-1":
        assert f"{NAMINGS[naming]} -> mmpose 1.x names" in loaded.load.summary()
    reference = open_model(files["mmpose-1"]).model
    # ViTPose 0.x and transformers add the row of a class token, here zero: bit for bit the same.
    assert np.array_equal(heatmaps(loaded.model), heatmaps(reference))


def test_the_verbs_tell_the_naming(files, workbench):
    for naming, file in files.items():
        for verb in ("open", "load"):
            code, out, err = workbench(verb, file, "--json")
            assert (code, json.loads(out)["naming"]) == (0, naming), err
        code, out, _ = workbench("load", file)
        assert NAMINGS[naming] in out


def test_a_file_of_the_workbench_remembers_what_weights_do_not_tell(files):
    model = open_model(files["mmpose-1"]).model
    assert model.note == ""
    assert model.skeleton.name == "coco-17"
    assert (model.codec.udp, model.codec.decoder, model.codec.sigma) == (True, "udp", (2.0, 2.0))
    assert (model.codec.input_size, model.codec.output_size) == ((128, 96), (32, 24))


def state_of(network: ViTPose) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def saved(tmp_path, state, name="own.pth"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


def test_what_was_assumed_for_a_bare_state_dict_is_said(tmp_path):
    loaded = open_model(saved(tmp_path, state_of(random_vitpose())))
    for part in (
        "2 attention heads assumed",
        "taken for coco-17",
        "UDP heatmaps assumed",
        "box padding 1.25",
    ):
        assert part in loaded.note


def test_the_number_of_heads_may_be_stated(tmp_path):
    path = saved(tmp_path, state_of(random_vitpose()))
    four = open_model(path, assume=["heads=4"])
    assert four.model.attention.heads == 4
    assert "attention heads assumed" not in four.note
    assert np.abs(heatmaps(four.model) - heatmaps(open_model(path).model)).max() > 1e-4
    with pytest.raises(ValueError, match="7 attention heads do not divide a width of 128"):
        open_model(path, assume=["heads=7"])


@pytest.mark.parametrize(
    ("width", "layers", "heads"), [(384, 12, 12), (768, 12, 12), (1024, 24, 16), (1280, 32, 16)]
)
def test_the_published_sizes_have_the_published_number_of_heads(width, layers, heads):
    from workbench.models.vitpose.model import _HEADS

    assert _HEADS[width, layers] == heads


def test_wrapped_names_are_unwrapped(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in state_of(random_vitpose()).items()}
    loaded = open_model(saved(tmp_path, {"state_dict": state, "meta": {}}))
    assert loaded.loaded_fraction == 1.0


def test_the_row_of_a_class_token_is_added_to_all_positions(tmp_path):
    network = random_vitpose()
    file = write_demo(tmp_path, "mmpose-0")
    state = torch.load(file, weights_only=True)["state_dict"]
    row = torch.randn(1, 1, 128, generator=torch.Generator().manual_seed(5))
    state["backbone.pos_embed"][:, :1] = row
    loaded = open_model(saved(tmp_path, state))
    with torch.no_grad():
        network.backbone.pos_embed.add_(row)
        pixels = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(6))
        torch.testing.assert_close(loaded.model.module(pixels), network(pixels), rtol=0, atol=1e-6)


# Input size.


def test_another_input_size_is_refused_unless_the_positions_may_be_resampled(files):
    for file in files.values():
        with pytest.raises(
            ValueError, match=r"belongs to an input of 96x128 px .* pass --resample-pos-embed"
        ):
            open_model(file, assume=["input=192x256"])
    model = open_model(files["mmpose-0"], assume=["input=192x256"], resample_pos_embed=True).model
    assert heatmaps(model).shape == (1, 17, 64, 48)
    before = open_model(files["mmpose-0"]).model.module.backbone.pos_embed
    maps = before.detach().reshape(1, 8, 6, 128).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(maps, size=(16, 12), mode="bicubic", align_corners=False)
    found = model.module.backbone.pos_embed.detach()
    torch.testing.assert_close(found, wanted.flatten(2).transpose(1, 2))


def test_every_verb_that_opens_a_model_may_resample(files, workbench):
    larger = (files["mmpose-0"], "--assume", "input=192x256")
    assert "pass --resample-pos-embed" in workbench("look", "weights", *larger)[2]
    assert workbench("look", "weights", *larger, "--resample-pos-embed")[0] == 0


def test_resampling_is_refused_where_there_are_no_positions(tmp_path, shared):
    with pytest.raises(ValueError, match="only vision transformers have one; this is movenet"):
        open_model(shared / "data/weights/movenet_mbv3.pth", resample_pos_embed=True)


def test_positions_of_an_odd_number_need_the_input_size(tmp_path):
    network = ViTPose(Architecture(64, 1, 1, 64, image=(112, 160)), HeadShape(3, CLASSIC))
    path = saved(tmp_path, state_of(network))
    with pytest.raises(ValueError, match=r"70 patches, which no input of 4:3 .* --assume input=WxH"):
        open_model(path)
    assert open_model(path, assume=["input=160x112"]).model.input_size == (112, 160)


# ViTPose+.


def plus_state(heads: bool = True) -> dict[str, torch.Tensor]:
    """ViTPose+ under 0.x names: six experts of 32 rows, heads of six data sets."""
    from workbench.checkpoints.vit_names import replacements

    rules = replacements("mmpose-1", "mmpose-0")
    from workbench.checkpoints.remap import renamed

    state = {}
    for name, tensor in state_of(random_vitpose()).items():
        new = renamed(name, rules)
        new = new.replace("head.", "keypoint_head.") if new.startswith("head.") else new
        state[new] = tensor
    state["backbone.pos_embed"] = torch.cat(
        [torch.zeros_like(state["backbone.pos_embed"][:, :1]), state["backbone.pos_embed"]], 1
    )
    generator = torch.Generator().manual_seed(9)
    for n in range(3):
        for end in ("weight", "bias"):
            name = f"backbone.blocks.{n}.mlp.fc2.{end}"
            whole = state[name]
            state[name] = whole[:-32].clone()
            for e in range(6):
                noise = torch.randn(whole[-32:].shape, generator=generator) * 0.1
                state[f"backbone.blocks.{n}.mlp.experts.{e}.{end}"] = whole[-32:] + e * noise
    for n, keypoints in enumerate((14, 16, 17, 17, 133) if heads else ()):
        other = random_vitpose(head=HeadShape(keypoints, CLASSIC), seed=n + 20).head.state_dict()
        state |= {f"associate_keypoint_heads.{n}.{name}": tensor for name, tensor in other.items()}
    return state


@pytest.mark.parametrize(
    ("expert", "number", "skeleton"),
    [
        ("coco", 0, "coco-17"), ("aic", 1, "aic-14"), ("mpii", 2, "mpii-16"), ("ap10k", 3, "ap10k-17"),
        ("apt36k", 4, "ap10k-17"), ("wholebody", 5, "coco-wholebody-133"),
    ],
)  # fmt: skip
def test_vitpose_plus_opens_with_the_expert_and_head_of_its_data_set(tmp_path, expert, number, skeleton):
    state = plus_state()
    loaded = open_model(saved(tmp_path, state), assume=[f"expert={expert}"])
    assert (loaded.loaded_fraction, loaded.model.skeleton.name) == (1.0, skeleton)
    layer = loaded.model.module.backbone.layers[1].ffn.layers[1]
    parts = [state[f"backbone.blocks.1.mlp.{part}.weight"] for part in ("fc2", f"experts.{number}")]
    assert torch.equal(layer.weight, torch.cat(parts))
    head = "keypoint_head" if number == 0 else f"associate_keypoint_heads.{number - 1}"
    assert torch.equal(loaded.model.module.head.final_layer.weight, state[f"{head}.final_layer.weight"])


def test_vitpose_plus_opens_as_cocos_by_default_and_says_so(tmp_path):
    loaded = open_model(saved(tmp_path, plus_state()))
    assert loaded.model.skeleton.name == "coco-17"
    assert "expert of COCO taken (--assume expert=ap10k for another)" in loaded.note
    with pytest.raises(ValueError, match="expert 9: the file has the experts 0, 1, 2, 3, 4, 5"):
        open_model(tmp_path / "own.pth", assume=["expert=9"])
    with pytest.raises(ValueError, match="the file has no experts, so it is no ViTPose"):
        open_model(saved(tmp_path, state_of(random_vitpose()), "b.pth"), assume=["expert=coco"])


def test_a_split_file_whose_experts_are_left_over_opens(tmp_path):
    """ViTPose's tools/model_split.py joins fc2 and one expert, and leaves the experts in the file."""
    state = plus_state(heads=False)
    for n in range(3):
        for end in ("weight", "bias"):
            name = f"backbone.blocks.{n}.mlp.fc2.{end}"
            state[name] = torch.cat([state[name], state[f"backbone.blocks.{n}.mlp.experts.3.{end}"]])
    loaded = open_model(saved(tmp_path, state))
    assert loaded.loaded_fraction == 1.0
    assert torch.equal(
        loaded.model.module.backbone.layers[2].ffn.layers[1].weight, state["backbone.blocks.2.mlp.fc2.weight"]
    )


# Sapiens.


def test_sapiens_opens_with_its_head_and_pretrained_ones_are_no_pose_network(tmp_path):
    head = HeadShape(17, ((64, 4), (64, 4)), ((64, 1), (64, 1)), norm="instance")
    network = random_vitpose(head=head)
    path = saved(tmp_path, state_of(network))
    loaded = open_model(path)
    assert loaded.loaded_fraction == 1.0
    assert loaded.model.codec.sigma == (6.0, 6.0)
    pixels = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        assert torch.equal(loaded.model.module(pixels), network(pixels))
    clean = {
        n.removeprefix("backbone."): t for n, t in state_of(network).items() if n.startswith("backbone.")
    }
    path = saved(tmp_path, clean, "sapiens_0.3b_epoch_1600_clean.pth")
    identity = open_checkpoint(path).identity
    assert (identity.naming, identity.keypoints) == ("mmpose-1", None)
    with pytest.raises(NotAvailable, match=r"no heatmap head .* pretrained weights and no pose network"):
        open_model(path)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_scripted_sapiens_is_opened_as_a_program(tmp_path):
    head = HeadShape(17, ((64, 4), (64, 4)), ((64, 1), (64, 1)), norm="instance")
    network = random_vitpose(head=head)
    traced = torch.jit.trace(network, torch.zeros(1, 3, 128, 96))
    path = tmp_path / "sapiens_torchscript.pt2"
    torch.jit.save(traced, str(path))
    with pytest.raises(NotAvailable, match="pass --family torchscript"):
        open_model(path)
    loaded = open_model(path, family="torchscript")
    assert (loaded.model.input_size, loaded.model.codec.decoder) == ((128, 96), "udp")
    assert "as ViTPose" in loaded.note
    direct = open_model(saved(tmp_path, state_of(network)))
    np.testing.assert_allclose(heatmaps(loaded.model), heatmaps(direct.model), atol=1e-5)


def test_why_sapiens_weights_do_not_fill_a_head_with_batch_normalisation():
    identity = Identity("Sapiens", "1b", keypoints=17, record="vitpose")

    def lacking(*missing):
        return LoadReport("a.pth", 0.9, 3, 3 + len(missing), 9, missing=missing)

    why = explained(identity, lacking("head.deconv_layers.1.running_mean", "head.conv_layers.1.bias"))
    assert "InstanceNorm without tensors and SiLU" in why
    assert "arch 'sapiens_1b'" in why
    assert explained(identity, lacking("backbone.layers.0.ln1.weight")) == ""
    assert explained(identity, lacking()) == ""
    vitpose = Identity("ViTPose", keypoints=17, record="vitpose")
    assert explained(vitpose, lacking("head.final_layer.bias")) == ""


def written(config, path):
    path.write_text("\n".join(f"{key} = {part!r}" for key, part in dict(config).items()))
    return path


def test_a_config_of_another_input_size_needs_resampling(tmp_path, files, workbench):
    stock = CONFIGS["classic"][1]
    model = {**stock["model"], "backbone": {**stock["model"]["backbone"], "img_size": (256, 192)}}
    config = written({**stock, "model": model}, tmp_path / "larger.py")
    for file, remap in ((files["mmpose-1"], ()), (files["mmpose-0"], ("--remap",))):
        code, out, err = workbench("load", file, "--config", config, *remap, "--json")
        assert code == 1, err
        assert "another size; --resample-pos-embed" in json.loads(out)["why"]
        code, out, err = workbench("load", file, "--config", config, *remap, "--resample-pos-embed", "--json")
        assert code == 0, err
    loaded = open_model(files["mmpose-1"], config=config, resample_pos_embed=True)
    plain = open_model(files["mmpose-1"], assume=["input=192x256"], resample_pos_embed=True)
    one, other = (m.model.module.backbone.pos_embed for m in (loaded, plain))
    assert torch.equal(one, other)
    assert isinstance(loaded.model, HasAttention)


def test_a_network_of_a_config_crops_at_its_own_size_unless_resampling_is_asked_for(tmp_path, files):
    """img_size says 128x96, the codec 256x192: mmpretrain resamples silently in each pass."""
    stock = CONFIGS["classic"][1]
    codec = {**stock["codec"], "input_size": (192, 256), "heatmap_size": (48, 64)}
    model = {**stock["model"], "head": {**stock["model"]["head"], "decoder": codec}}
    steps = [stock["val_pipeline"][0], {**stock["val_pipeline"][1], "input_size": (192, 256)}]
    config = written({"model": model, "codec": codec, "val_pipeline": steps}, tmp_path / "odd.py")
    loaded = open_model(files["mmpose-1"], config=config)
    with pytest.raises(ValueError, match=r"the input has 192x256 px \(12x16\); ask for it to be resampled"):
        heatmaps(loaded.model)
    loaded = open_model(files["mmpose-1"], config=config, resample_pos_embed=True)
    assert heatmaps(loaded.model).shape == (1, 17, 64, 48)


def test_pretrained_weights_in_a_pose_config_are_told(tmp_path, workbench):
    """open-mmlab/mmpose #2780: MAE weights loaded into a pose config give wrong heatmaps."""
    state = {n: t for n, t in state_of(random_vitpose()).items() if n.startswith("backbone.")}
    path, config = saved(tmp_path, state), written(CONFIGS["classic"][1], tmp_path / "pose.py")
    code, out, err = workbench("load", path, "--config", config, "--json")
    assert code == 1, err
    assert "a pretrained backbone without a head" in json.loads(out)["why"]
    code, _, err = workbench("predict", path, "--config", config)
    assert code == 2
    assert "train the head first, or open a pose checkpoint" in err


def test_a_config_of_sapiens_inside_a_checkpoint_is_read_and_builds_its_head(tmp_path):
    head, config = CONFIGS["sapiens"]
    network = random_vitpose(head=head)
    text = "\n".join(f"{key} = {part!r}" for key, part in dict(config).items())
    meta = {"cfg": text, "mmengine_version": "0.10.7", "epoch": 3}
    loaded = open_model(saved(tmp_path, {"meta": meta, "state_dict": network.state_dict()}))
    assert (loaded.family, loaded.loaded_fraction) == ("mmpose", 1.0)
    pixels = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        given = loaded.model.module(pixels, None, mode="tensor")
    torch.testing.assert_close(given, network(pixels).detach(), rtol=0, atol=1e-6)


# Hostile and damaged files.


def test_a_missing_tensor_is_named(tmp_path):
    state = state_of(random_vitpose())
    del state["backbone.layers.1.attn.qkv.weight"]
    with pytest.raises(ValueError, match=r"1 missing \(backbone.layers.1.attn.qkv.weight"):
        open_model(saved(tmp_path, state))
    partial = open_model(tmp_path / "own.pth", allow_partial=True)
    assert 0.8 < partial.loaded_fraction < 1


@pytest.mark.parametrize(
    ("name", "shape", "match"),
    [
        ("backbone.layers.0.ffn.layers.0.0.weight", (256,), "with 2 axes, which tells the size"),
        ("backbone.pos_embed", (48, 128), "expected backbone.pos_embed with 3 axes"),
        ("head.final_layer.weight", (17, 256), "no heatmap head|with 4 axes"),
        ("head.deconv_layers.3.weight", (256, 256, 7, 7), "kernel 2, 3 or 4 is expected, got 7"),
        ("backbone.layers.2.ln1.weight", (64,), "of another shape"),
        ("backbone.patch_embed.projection.weight", (128, 3, 0, 0), "with 4 axes"),
    ],
)
def test_wrong_shapes_are_told_in_one_sentence(tmp_path, workbench, name, shape, match):
    import re

    state = state_of(random_vitpose())
    state[name] = torch.zeros(shape)
    path = saved(tmp_path, state)
    code, out, err = workbench("load", path, "--json")
    message = err if code == 2 else out
    assert code in (1, 2)
    assert re.search(match, message) or code == 1, message
    assert "Traceback" not in err


def test_a_huge_network_on_paper_is_refused_before_its_memory_is_used(tmp_path):
    one = torch.zeros(1)  # views of one number: a file of some hundred bytes
    state = {
        "backbone.patch_embed.projection.weight": one.expand(60_000, 3, 16, 16),
        "backbone.pos_embed": one.expand(1, 48, 60_000),
        "backbone.layers.0.ln1.weight": one.expand(60_000),
        "backbone.layers.0.ffn.layers.0.0.weight": one.expand(240_000, 60_000),
        "head.final_layer.weight": one.expand(17, 60_000, 1, 1),
    }
    with pytest.raises(ValueError, match="is refused"):
        open_model(saved(tmp_path, state))


def shards(folder, change=None):
    """A Hugging Face folder in two parts with its index and config."""
    from safetensors.torch import load_file, save_file

    file = write_demo(folder, "hf")
    state = load_file(file)
    file.unlink()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, tensors in parts.items():
        save_file({name: state[name] for name in tensors}, folder / part)
    weight_map = {name: part for part, tensors in parts.items() for name in tensors}
    if change:
        change(weight_map)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_a_sharded_hugging_face_folder_opens_with_its_config(tmp_path, files):
    loaded = open_model(shards(tmp_path))
    assert loaded.loaded_fraction == 1.0
    assert loaded.model.attention.heads == 2
    assert loaded.model.module.backbone.architecture.eps == 1e-6
    assert np.array_equal(heatmaps(loaded.model), heatmaps(open_model(files["mmpose-1"]).model))


def test_a_missing_shard_is_named(tmp_path):
    folder = shards(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"names model-00002-of-00002.safetensors, which is missing"):
        open_model(folder)


def test_an_index_that_leaves_its_folder_is_refused(tmp_path):
    outside = tmp_path / "outside.safetensors"
    (tmp_path / "model").mkdir()
    folder = shards(
        tmp_path / "model", lambda index: index.update({"head.conv.bias": "../outside.safetensors"})
    )
    outside.write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    with pytest.raises(ValueError, match="outside its folder; refused"):
        open_model(folder)


def test_keypoint_names_of_a_hugging_face_config_are_used(tmp_path):
    folder = shards(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["5"] == "left_shoulder"
    model = open_model(folder).model
    assert (model.skeleton.name, len(model.skeleton.sigmas)) == ("coco-17", 17)
    assert "keypoints" not in model.note
    config["id2label"] = {str(k): f"tip {k}" for k in range(17)}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_model(folder).model.skeleton.keypoints[3] == "tip 3"
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "taken for coco-17" in open_model(folder).note


ODD_CONFIGS = (
    "{",
    "[]",
    '{"model_type": "vitpose", "id2label": {"a": "b"}}',
    '{"model_type": "vitpose", "backbone_config": {"num_attention_heads": "many"}}',
    '{"model_type": "vitpose", "backbone_config": {"image_size": [1]}}',
    '{"model_type": "vitpose", "backbone_config": {"num_attention_heads": 1e400}}',
    '{"model_type": "vitpose", "backbone_config": 7}',
)


@pytest.mark.parametrize("text", ODD_CONFIGS)
def test_an_odd_config_json_is_one_sentence(tmp_path, workbench, text):
    folder = shards(tmp_path)
    (folder / "config.json").write_text(text)
    code, _, err = workbench("load", folder, "--json")
    assert code in (0, 2)
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 1


def test_a_config_of_mmpose_0_inside_a_file_does_not_stop_it(tmp_path):
    file = write_demo(tmp_path, "mmpose-0")
    state = torch.load(file, weights_only=True)["state_dict"]
    config = "model = dict(type='TopDown', backbone=dict(type='ViT', img_size=(256, 192)))\n"
    path = saved(tmp_path, {"meta": {"mmpose_version": "0.24.0", "config": config}, "state_dict": state})
    loaded = open_model(path)
    assert (loaded.family, loaded.loaded_fraction) == ("vitpose", 1.0)
