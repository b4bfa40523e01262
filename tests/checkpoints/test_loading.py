"""The gate counts what fits, refuses what does not, and renames only when asked."""

from __future__ import annotations

import collections

import pytest
import torch
from torch import nn

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.loading import load_state


def saved(tmp_path, state, name="a.pth"):
    torch.save(state, tmp_path / name)
    return open_checkpoint(tmp_path / name)


def other(net: nn.Module) -> nn.Module:
    """The same network with other values."""
    return type(net)(collections.OrderedDict((n, m) for n, m in _fresh(net)))


def _fresh(net):
    import copy

    for name, child in net.named_children():
        new = copy.deepcopy(child)
        with torch.no_grad():
            for tensor in new.state_dict().values():
                tensor.zero_()
        yield name, new


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_a_whole_checkpoint_loads_wholly(tmp_path, net):
    model = other(net)
    report = load_state(model, saved(tmp_path, net.state_dict()))
    assert equal(model, net)
    assert report.complete
    assert report.summary() == "9 of 9 tensors, 100.0 % of 205 parameters loaded"
    report.require_complete()
    assert report.plot().data[0].x.tolist() == [100, 100, 100]
    in_order = dict.fromkeys(".".join(name.split(".")[:-1]) for name, _ in net.named_parameters())
    assert list(report.modules) == list(in_order)


def test_missing_unexpected_and_other_shapes_are_listed_and_refused(tmp_path, net):
    state = net.state_dict()
    del state["backbone.0.bias"]
    state["head.weight"] = torch.zeros(26, 4, 1, 1)
    state["refiner.weight"] = torch.zeros(3)
    report = load_state(other(net), saved(tmp_path, state))
    assert report.missing == ("backbone.0.bias",)
    assert report.unexpected == ("refiner.weight",)
    assert [(m.name, m.file, m.model) for m in report.mismatched] == [
        ("head.weight", (26, 4, 1, 1), (17, 4, 1, 1))
    ]
    assert report.loaded_fraction == pytest.approx((205 - 4 - 68) / 205)
    assert not report.complete
    with pytest.raises(ValueError, match=r"does not fill the model.*64.9 % of 205"):
        report.require_complete()
    report.require_complete(allow_partial=True)
    assert {row["finding"] for row in report.table()} == {"missing", "other shape", "unexpected"}
    assert report.to_json()["mismatched"][0]["file"] == [26, 4, 1, 1]


def test_counters_of_batch_normalisation_do_not_count(tmp_path, net):
    state = net.state_dict()
    del state["backbone.1.num_batches_tracked"]
    report = load_state(other(net), saved(tmp_path, state))
    assert report.counters == ("backbone.1.num_batches_tracked",)
    assert report.complete
    assert (report.loaded, report.tensors) == (8, 8)


def test_nothing_but_a_little_missing_is_never_called_all(tmp_path):
    net = nn.ModuleDict({"a": nn.Linear(100, 100, bias=False), "b": nn.Linear(1, 2, bias=False)})
    state = net.state_dict()
    del state["b.weight"]
    assert "99.98 % of" in load_state(net, saved(tmp_path, state)).summary()


@pytest.mark.parametrize("prefix", ["module.", "model.", "1.", "module._orig_mod.", "student."])
def test_prefixes_are_proposed_and_applied_only_when_asked(tmp_path, net, prefix):
    checkpoint = saved(tmp_path, {prefix + k: v for k, v in net.state_dict().items()})
    model = other(net)
    report = load_state(model, checkpoint)
    assert report.loaded_fraction == 0
    assert not any(t.any() for t in model.state_dict().values())
    assert sum(rule.fixes for rule in report.remap) == 9
    assert "apply with --remap" in report.summary()
    report = load_state(model, checkpoint, remap=True)
    assert report.complete
    assert report.applied
    assert equal(model, net)


def test_a_backbone_alone_finds_its_place(tmp_path, net):
    report = load_state(other(net), saved(tmp_path, net.backbone.state_dict()))
    assert [(r.text, r.fixes) for r in report.remap] == [("x -> backbone.x", 7)]


def test_old_mmpose_heads_get_their_new_name_after_the_wrapper_is_gone(tmp_path, net):
    state = {"module." + k.replace("head.", "keypoint_head."): v for k, v in net.state_dict().items()}
    model = other(net)
    report = load_state(model, saved(tmp_path, state), remap=True)
    assert [r.text for r in report.remap] == ["module.x -> x", "keypoint_head.x -> head.x"]
    assert equal(model, net)


def test_names_that_would_collide_are_refused(tmp_path, net):
    state = {"module." + k: v for k, v in net.state_dict().items()} | {"head.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"'module.head.weight' and 'head.weight' would both become"):
        load_state(other(net), saved(tmp_path, state), remap=True)


def test_either_of_averaged_and_raw_weights_can_be_loaded(tmp_path, net):
    raw = {f"module.{k}": v + 1 for k, v in net.state_dict().items()}
    state = {
        "meta": {"mmengine_version": "0.10.7"},
        "state_dict": net.state_dict(),
        "ema_state_dict": raw,
        "message_hub": {},
    }
    checkpoint = saved(tmp_path, state)
    model = other(net)
    assert load_state(model, checkpoint).ema == "averaged (EMA) weights"
    assert equal(model, net)
    assert load_state(model, checkpoint, ema=False).ema == "raw weights"
    assert torch.equal(model.head.bias, net.head.bias + 1)


class Block(nn.Module):
    """A transformer block under the names of ViTPose 0.x, mmpretrain or Hugging Face."""

    def __init__(self, style: str, width: int) -> None:
        super().__init__()
        linear = nn.Linear
        if style == "0.x":
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = nn.ModuleDict({"qkv": linear(width, 3 * width), "proj": linear(width, width)})
            self.mlp = nn.ModuleDict({"fc1": linear(width, 4 * width), "fc2": linear(4 * width, width)})
        else:
            self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn = nn.ModuleDict({"qkv": linear(width, 3 * width), "proj": linear(width, width)})
            hidden = nn.Sequential(nn.Sequential(linear(width, 4 * width)), linear(4 * width, width))
            self.ffn = nn.ModuleDict({"layers": hidden})


def vit(style: str, width: int = 8, depth: int = 2, tokens: int = 12) -> nn.Module:
    backbone = nn.Module()
    old = style == "0.x"
    backbone.pos_embed = nn.Parameter(torch.randn(1, tokens + old, width))
    backbone.patch_embed = nn.ModuleDict({"proj" if old else "projection": nn.Conv2d(3, width, 4)})
    blocks = nn.ModuleList(Block(style, width) for _ in range(depth))
    setattr(backbone, "blocks" if old else "layers", blocks)
    setattr(backbone, "last_norm" if old else "ln1", nn.LayerNorm(width))
    head = nn.ModuleDict({"final_layer": nn.Conv2d(width, 17, 1)})
    return nn.ModuleDict({"backbone": backbone, "keypoint_head" if old else "head": head})


def test_vitpose_of_either_code_base_fits_the_other(tmp_path):
    torch.manual_seed(0)
    old, new = vit("0.x"), vit("1.x")
    report = load_state(new, saved(tmp_path, old.state_dict()), remap=True)
    assert report.complete, report.summary()
    position = old.backbone.pos_embed
    # As ViTPose adds it: x + pos[:, 1:] + pos[:, :1].
    assert torch.equal(new.backbone.pos_embed, position[:, 1:] + position[:, :1])
    assert torch.equal(new.backbone.layers[1].ffn.layers[0][0].weight, old.backbone.blocks[1].mlp.fc1.weight)
    assert torch.equal(new.backbone.ln1.bias, old.backbone.last_norm.bias)
    again = vit("0.x")
    assert load_state(again, saved(tmp_path, new.state_dict(), "b.pth"), remap=True).complete
    position = again.backbone.pos_embed
    assert torch.equal(position[:, 1:] + position[:, :1], new.backbone.pos_embed)


def test_hugging_face_vitpose_has_query_key_and_value_joined(tmp_path):
    from workbench.models.mmpose_compat import hide_broken_torchvision

    hide_broken_torchvision()  # transformers stumbles over a torchvision that does not fit
    transformers = pytest.importorskip("transformers")
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[32, 24],
        patch_size=[8, 8],
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    theirs = transformers.VitPoseForPoseEstimation(
        transformers.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=True)
    )
    torch.manual_seed(0)
    model = vit("1.x", tokens=12)
    model.head["final_layer"] = nn.Conv2d(8, 17, 3)
    model.backbone.patch_embed["projection"] = nn.Conv2d(3, 8, 8)
    report = load_state(model, saved(tmp_path, theirs.state_dict()), remap=True)
    assert report.complete, report.summary()
    state = theirs.state_dict()
    parts = [
        state[f"backbone.encoder.layer.1.attention.attention.{p}.weight"] for p in ("query", "key", "value")
    ]
    assert torch.equal(model.backbone.layers[1].attn["qkv"].weight, torch.cat(parts))


def test_types_are_converted_as_torch_does(tmp_path, net):
    model = other(net)
    load_state(
        model,
        saved(tmp_path, {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}),
    )
    assert torch.equal(model.head.weight, net.head.weight.half().float())


def in_the_middle(name, wrapper):
    first, rest = name.split(".", 1)
    return f"{first}.{wrapper}.{rest}"


WRAPPED = {
    "torch.compile of the parts": lambda n: in_the_middle(n, "_orig_mod"),
    "activation checkpointing of one layer": lambda n: n.replace(
        "backbone.0", "backbone.0._checkpoint_wrapped_module"
    ),
    "FSDP outside and of a part": lambda n: (
        "_fsdp_wrapped_module." + in_the_middle(n, "_fsdp_wrapped_module")
    ),
    "Fabric, compiled, in a Lightning module": lambda n: f"_forward_module._orig_mod.model.{n}",
    "DataParallel of the parts": lambda n: in_the_middle(n, "module"),
    "two wrappers that nobody knows": lambda n: f"lit.pose.{n}",
    "compiled inside a wrapper that nobody knows": lambda n: f"lit.{in_the_middle(n, '_orig_mod')}",
    "a part's network below its own attribute": lambda n: n.replace("backbone.", "backbone.model."),
    "parts within parts, in DataParallel": lambda n: f"module.{in_the_middle(n, 'net')}",
    "parts of other names": lambda n: n.replace("backbone.", "encoder.").replace("head.", "decoder."),
    "parts of other names in a Lightning module": lambda n: (
        "lit." + n.replace("backbone.", "encoder.").replace("head.", "decoder.")
    ),
    "only the backbone compiled": lambda n: in_the_middle(n, "_orig_mod") if n.startswith("backbone") else n,
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
def test_names_of_wrappers_anywhere_are_taken_out(tmp_path, net, wrapped):
    checkpoint = saved(tmp_path, {wrapped(k): v for k, v in net.state_dict().items()})
    model = other(net)
    assert sum(rule.fixes for rule in load_state(model, checkpoint).remap) >= 2
    report = load_state(model, checkpoint, remap=True)
    assert report.complete, report.summary()
    assert equal(model, net)


def test_names_with_other_separators_are_paired_by_name_before_shape(tmp_path):
    def part(channels):
        return nn.Sequential(nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4))

    def model(first):
        parts = {first: nn.Sequential(part(3), part(4)), "ctx": part(4), "head": nn.Conv2d(4, 2, 1)}
        return nn.Sequential(collections.OrderedDict(parts))

    trained, own = model("encoder"), model("enc")
    # Block 1 of the encoder has the shapes of ctx: net::encoder/1 -> ctx would load wrong weights.
    state = {f"net::{n}".replace("encoder.", "encoder/"): t for n, t in trained.state_dict().items()}
    report = load_state(own, saved(tmp_path, state), remap=True)
    assert report.complete
    assert equal(own, trained)
    assert [r.text for r in report.remap] == ["separators ::, /, : -> .", "net.x -> x", "encoder.x -> enc.x"]
    state["net:encoder/0.0.weight"] = state["net::encoder/0.0.weight"]  # one name after the change
    assert not load_state(model("enc"), saved(tmp_path, state)).complete


def test_layers_of_another_network_that_fit_by_chance_are_no_renaming(tmp_path):
    """A MobileNet's point-wise convolutions have the shapes of some of a CSPNeXt's."""
    model = nn.Sequential(*[nn.Sequential(nn.Conv2d(3 + n, 4, 1), nn.BatchNorm2d(4)) for n in range(12)])
    theirs = nn.ModuleDict({f"block{n}": nn.Linear(7, 5 + n) for n in range(60)})
    state = {f"model.{k}": v for k, v in theirs.state_dict().items()} | {
        "model.conv.weight": torch.zeros(4, 3, 1, 1), "model.conv.bias": torch.zeros(4),
    }  # fmt: skip
    named = nn.ModuleDict({"stage": nn.ModuleDict({"conv": model[0][0]}), "rest": model[1:]})
    report = load_state(named, saved(tmp_path, state))
    assert report.remap == ()


def test_a_model_that_is_wrapped_itself_takes_plain_names(tmp_path, net):
    """The other way round: the user's model is compiled in parts, the file is not."""
    compiled = nn.ModuleDict({n: nn.ModuleDict({"_orig_mod": m}) for n, m in other(net).named_children()})
    report = load_state(compiled, saved(tmp_path, net.state_dict()), remap=True)
    assert report.complete, report.summary()
    assert torch.equal(compiled["head"]["_orig_mod"].weight, net.head.weight)


def test_the_average_of_swa_utils_loads_and_its_counter_is_no_weight(tmp_path, net):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    checkpoint = saved(tmp_path, averaged.state_dict())
    assert checkpoint.prefix == "module."
    model = other(net)
    assert load_state(model, checkpoint, remap=True).complete
    assert equal(model, net)


def official(kind: str) -> nn.Module:
    """A HRNet, SimpleBaseline or HigherHRNet in miniature, under mmpose's names."""
    last = "final_layers" if kind == "HigherHRNet" else "final_layer"
    layers = ("conv1", "conv2", "layer1", "transition1", "stage2") if "HRNet" in kind else ("conv1", "layer4")
    backbone = nn.ModuleDict({name: nn.Conv2d(2, 2 + n, 1) for n, name in enumerate(layers)})
    head = nn.ModuleDict({last: nn.Sequential(nn.Conv2d(4, 17, 1), nn.Conv2d(3, 17, 1))})
    if kind != "HRNet":
        head["deconv_layers"] = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3))
    return nn.ModuleDict({"backbone": backbone, "head": head})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "lit.net."])
@pytest.mark.parametrize("kind", ["HRNet", "SimpleBaseline", "HigherHRNet"])
def test_official_names_fit_mmpose_and_back(tmp_path, kind, prefix):
    model, source = official(kind), official(kind)
    flat = {prefix + name.split(".", 1)[1]: tensor for name, tensor in source.state_dict().items()}
    report = load_state(model, saved(tmp_path, flat), remap=True)
    assert report.complete, report.summary()
    assert equal(model, source)
    assert len(report.remap) <= 2, [rule.text for rule in report.remap]
    theirs = nn.ModuleDict({**official(kind)["backbone"], **official(kind)["head"]})
    back = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    assert load_state(theirs, saved(tmp_path, back, "b.pth"), remap=True).complete


def plus(width=8, part=2, experts=6, heads=0):
    """A ViTPose+ file of ViTPose 0.x: fc2 lacks `part` rows, which each data set's expert has."""
    state = dict(vit("0.x", width).state_dict())
    for i in range(2):
        for end in ("weight", "bias"):
            whole = state[f"backbone.blocks.{i}.mlp.fc2.{end}"]
            state[f"backbone.blocks.{i}.mlp.fc2.{end}"] = whole[:-part].clone()
            for e in range(experts):
                state[f"backbone.blocks.{i}.mlp.experts.{e}.{end}"] = whole[-part:] + e
    for n, keypoints in enumerate((14, 16, 17, 17, 133)[:heads]):
        state[f"associate_keypoint_heads.{n}.final_layer.weight"] = torch.full(
            (keypoints, width, 1, 1), n + 1.0
        )
        state[f"associate_keypoint_heads.{n}.final_layer.bias"] = torch.full((keypoints,), n + 1.0)
    return state


@pytest.mark.parametrize("style", ["0.x", "1.x"])
def test_vitpose_plus_joins_fc2_and_the_expert_of_its_data_set(tmp_path, style):
    state = plus()
    model = vit(style)
    report = load_state(model, saved(tmp_path, state), remap=True)
    assert report.complete, report.summary()
    assert "experts.0 (COCO)" in report.summary()
    assert "AP-10K (expert=3)" in report.summary()
    layer = (
        model.backbone.blocks[1].mlp["fc2"] if style == "0.x" else model.backbone.layers[1].ffn["layers"][1]
    )
    names = ("fc2", "experts.0")
    assert torch.equal(layer.weight, torch.cat([state[f"backbone.blocks.1.mlp.{n}.weight"] for n in names]))


@pytest.mark.parametrize(("keypoints", "expert", "stated"), [(14, 1, None), (133, 5, None), (17, 3, 3)])
def test_the_expert_brings_the_head_of_its_data_set(tmp_path, keypoints, expert, stated):
    state = plus(heads=5)
    model = vit("0.x")
    model.keypoint_head["final_layer"] = nn.Conv2d(8, keypoints, 1)
    report = load_state(model, saved(tmp_path, state), remap=True, expert=stated)
    assert report.complete, report.summary()
    assert model.keypoint_head["final_layer"].bias[0].item() == expert
    fc2 = model.backbone.blocks[0].mlp["fc2"].bias
    assert torch.equal(fc2[-2:], state[f"backbone.blocks.0.mlp.experts.{expert}.bias"])


def test_an_expert_that_the_file_lacks_is_told(tmp_path):
    with pytest.raises(ValueError, match="expert 9: the file has the experts 0, 1, 2, 3, 4, 5"):
        load_state(vit("0.x"), saved(tmp_path, plus()), remap=True, expert=9)
    with pytest.raises(ValueError, match="expert 3: the file has no experts"):
        load_state(vit("0.x"), saved(tmp_path, vit("0.x").state_dict(), "b.pth"), remap=True, expert=3)


def test_parametrized_weights_are_not_renamed_and_it_is_said_why(tmp_path):
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm, weight_norm

    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.loading import load_state

    net = nn.Sequential(
        spectral_norm(nn.Conv2d(3, 4, 1)), weight_norm(nn.Conv2d(4, 5, 1)), nn.Conv2d(5, 6, 1)
    )
    torch.save(net.state_dict(), tmp_path / "net.pth")
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1))
    report = load_state(plain, open_checkpoint(tmp_path / "net.pth"), remap=True)
    assert report.missing == ("0.weight", "1.weight")
    assert report.why.startswith("2 of the missing tensors are parametrized in the file")
    assert report.why in report.summary()
    assert load_state(net, open_checkpoint(tmp_path / "net.pth")).why == ""


def test_weights_that_older_functions_split_are_explained_too(tmp_path):
    from torch.nn.utils import prune

    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 5, 1))
    prune.random_unstructured(net[1], "weight", 0.5)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1))
    report = load_state(plain, saved(tmp_path, net.state_dict()))
    assert report.missing == ("0.weight", "1.weight")
    assert report.why.startswith(
        "2 of the missing tensors are parametrized in the file (*_g and *_v, *_orig)"
    )


def test_trained_copies_beside_the_modules_as_they_were_are_said(tmp_path):
    net = nn.Sequential(nn.Linear(4, 5))
    state = {**net.state_dict(), "0.modules_to_save.default.weight": torch.ones(5, 4)}
    report = load_state(net, saved(tmp_path, state))
    assert report.unexpected == ("0.modules_to_save.default.weight",)
    assert "trained copies of modules (modules_to_save of peft)" in report.summary()
    assert "modules_to_save" not in load_state(net, saved(tmp_path, net.state_dict())).summary()


def test_low_rank_corrections_beside_the_weights_are_said(tmp_path):
    net = nn.Sequential(nn.Linear(4, 5))
    state = {**net.state_dict(), "0.lora_A.weight": torch.zeros(2, 4), "0.lora_B.weight": torch.zeros(5, 2)}
    report = load_state(net, saved(tmp_path, state))
    assert report.complete
    assert report.unexpected == ("0.lora_A.weight", "0.lora_B.weight")
    assert "low-rank corrections (LoRA)" in report.summary()


@pytest.mark.parametrize(
    ("coded", "kind"),
    [
        (lambda w: {"0.weight": (w * 10).to(torch.int8), "0.SCB": torch.ones(5)}, "int8 (for float weights)"),
        (lambda w: {"0.weight": torch.complex(w, w)}, "complex64 (for real weights)"),
        (
            lambda w: {"0.weight": w.to(torch.float8_e4m3fn), "0.weight_scale_inv": torch.ones(1)},
            "float8_e4m3fn (with a scale beside it)",
        ),
    ],
)
def test_numbers_that_are_not_the_weights_are_not_loaded_as_them(tmp_path, coded, kind):
    net = nn.Sequential(nn.Linear(4, 5))
    before = net[0].weight.clone()
    report = load_state(net, saved(tmp_path, {**net.state_dict(), **coded(net[0].weight.detach() + 1)}))
    assert report.missing == ("0.weight",)
    assert report.unread == {"0.weight": kind}
    assert not report.complete
    assert "save the weights as float32" in report.summary()
    assert torch.equal(net[0].weight, before)


def test_small_floats_without_a_scale_and_whole_numbers_for_buffers_load(tmp_path):
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    state = {**net.state_dict(), "0.weight": net[0].weight.to(torch.float8_e5m2)}
    state["1.running_mean"] = torch.arange(5)
    report = load_state(net, saved(tmp_path, state))
    assert report.complete
    assert not report.unread
    assert net[1].running_mean.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("old", ["head._checkpoint_wrapped_module._orig_mod.", "keypoint_head."])
def test_a_few_last_tensors_are_renamed_where_that_fills_the_model(tmp_path, old):
    net = nn.Module()
    net.backbone = nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(20)))
    net.head = nn.Sequential(nn.Conv2d(2, 3, 1))
    state = {name.replace("head.", old): value for name, value in net.state_dict().items()}
    report = load_state(net, saved(tmp_path, state), remap=True)
    assert report.complete, report.summary()
    net.neck = nn.Linear(7, 7)
    # The model is not filled: two tensors of 42 may fit by chance.
    assert load_state(net, saved(tmp_path, state, "b.pth"), remap=True).remap == ()
