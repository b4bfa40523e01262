"""The network: names and sizes of the published ones, mmpose's heads over it, attention, positions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from workbench.checkpoints.identity import identify_shapes
from workbench.checkpoints.vit_names import grid_of_positions, has_class_position, resampled
from workbench.core import DecodeOptions, Sample
from workbench.core.capabilities import HasAttention
from workbench.core.hooks import recording, replacing
from workbench.models.mmpose.model import build, model_of
from workbench.models.mmpose.trust import OwnConfig
from workbench.models.vitpose.export import TINY, random_vitpose
from workbench.models.vitpose.model import new_vitpose
from workbench.models.vitpose.network import ARCHITECTURES, CLASSIC, Architecture, HeadShape, ViT, ViTPose
from workbench.skeletons import SKELETONS

SIMPLE = HeadShape(17, kernel=3, enlarged=4)
SAPIENS = HeadShape(17, ((64, 4), (64, 4)), ((64, 1), (64, 1)), norm="instance")
# Size -> width, layers, heads. Source: the stock configs of mmpose 1.3.2 and of sapiens@3e829ac.
PUBLISHED = {
    "ViTPose S": (384, 12, 12), "ViTPose B": (768, 12, 12), "ViTPose L": (1024, 24, 16),
    "ViTPose H": (1280, 32, 16), "Sapiens 0.3b": (1024, 24, 16), "Sapiens 0.6b": (1280, 32, 16),
    "Sapiens 1b": (1536, 40, 24), "Sapiens 2b": (1920, 48, 32),
}  # fmt: skip
SHAPES = {"channels": 768, "K": 17}


def on_meta(architecture: Architecture, head: HeadShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes, without memory for the weights."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in ViTPose(architecture, head).state_dict().items()}


def backbone_names(width: int, layers: int, patches: int) -> dict[str, tuple[int, ...]]:
    """Facts about mmpretrain's ViT, written out."""
    names = {
        "backbone.patch_embed.projection.weight": (width, 3, 16, 16),
        "backbone.patch_embed.projection.bias": (width,),
        "backbone.pos_embed": (1, patches, width),
        "backbone.ln1.weight": (width,),
        "backbone.ln1.bias": (width,),
    }
    for n in range(layers):
        rows = {"ln1": (width,), "ln2": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width),
                "ffn.layers.0.0": (4 * width, width), "ffn.layers.1": (width, 4 * width)}  # fmt: skip
        for part, shape in rows.items():
            names[f"backbone.layers.{n}.{part}.weight"] = shape
            names[f"backbone.layers.{n}.{part}.bias"] = shape[:1]
    return names


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_published_sizes_have_the_published_tensors(name):
    width, layers, heads = PUBLISHED[name]
    sapiens = name.startswith("Sapiens")
    image, patches = ((1024, 768), 3072) if sapiens else ((256, 192), 192)
    architecture = Architecture(width, layers, heads, 4 * width, image=image)
    assert architecture.grid[0] * architecture.grid[1] == patches
    head = HeadShape(17, ((768, 4), (768, 4)), ((768, 1), (768, 1)), norm="instance")
    found = on_meta(architecture, head if sapiens else HeadShape(17, CLASSIC))
    if sapiens:
        wanted = {f"head.deconv_layers.{n}.weight": (width if n == 0 else 768, 768, 4, 4) for n in (0, 3)}
        wanted |= {f"head.conv_layers.{n}.weight": (768, 768, 1, 1) for n in (0, 3)}
        wanted |= {f"head.conv_layers.{n}.bias": (768,) for n in (0, 3)}
        wanted |= {"head.final_layer.weight": (17, 768, 1, 1), "head.final_layer.bias": (17,)}
    else:
        wanted = {f"head.deconv_layers.{n}.weight": (width if n == 0 else 256, 256, 4, 4) for n in (0, 3)}
        ends = ("weight", "bias", "running_mean", "running_var")
        wanted |= {f"head.deconv_layers.{n}.{end}": (256,) for n in (1, 4) for end in ends}
        wanted |= {f"head.deconv_layers.{n}.num_batches_tracked": () for n in (1, 4)}
        wanted |= {"head.final_layer.weight": (17, 256, 1, 1), "head.final_layer.bias": (17,)}
    assert found == {**backbone_names(width, layers, patches), **wanted}
    identity = identify_shapes(found)
    assert (str(identity), identity.record) == (
        name.replace("ViTPose", "ViTPose (mmpretrain names)"),
        "vitpose",
    )
    assert (identity.keypoints, identity.input_size, identity.naming) == (17, image, "mmpose-1")


def test_the_simple_decoder_has_one_convolution():
    found = on_meta(Architecture(768, 12, 12, 3072), SIMPLE)
    assert {name: s for name, s in found.items() if name.startswith("head.")} == {
        "head.final_layer.weight": (17, 768, 3, 3),
        "head.final_layer.bias": (17,),
    }


def config_of(head: dict, neck: dict | None = None, arch: object = None, **backbone: object) -> OwnConfig:
    """A stock ViTPose config in small."""
    codec = {"type": "UDPHeatmap", "input_size": (96, 128), "heatmap_size": (24, 32), "sigma": 2}
    arch = arch or {
        "embed_dims": TINY.width, "num_layers": TINY.layers, "num_heads": TINY.heads,
        "feedforward_channels": TINY.hidden,
    }  # fmt: skip
    vit = {
        "type": "mmpretrain.VisionTransformer", "arch": arch, "img_size": (128, 96), "patch_size": 16,
        "qkv_bias": True, "with_cls_token": False, "out_type": "featmap",
        "patch_cfg": {"padding": 2}, **backbone,
    }  # fmt: skip
    normal = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    whole = {
        "type": "HeatmapHead", "in_channels": TINY.width, "out_channels": 17,
        "loss": {"type": "KeypointMSELoss", "use_target_weight": True}, "decoder": codec, **head,
    }  # fmt: skip
    model = {
        "type": "TopdownPoseEstimator", "data_preprocessor": {"type": "PoseDataPreprocessor", **normal},
        "backbone": vit, "head": whole, "test_cfg": {"flip_test": True, "shift_heatmap": False},
    }  # fmt: skip
    pipeline = [
        {"type": "GetBBoxCenterScale"},
        {"type": "TopdownAffine", "input_size": codec["input_size"], "use_udp": True},
    ]
    return OwnConfig(
        {"model": {**model, **({"neck": neck} if neck else {})}, "codec": codec, "val_pipeline": pipeline}
    )


CONFIGS = {
    "classic": (
        HeadShape(17, CLASSIC),
        config_of({"deconv_out_channels": (256, 256), "deconv_kernel_sizes": (4, 4)}),
    ),
    "simple": (
        SIMPLE,
        config_of(
            {
                "deconv_out_channels": [],
                "deconv_kernel_sizes": [],
                "final_layer": {"kernel_size": 3, "padding": 1},
            },
            {"type": "FeatureMapProcessor", "scale_factor": 4.0, "apply_relu": True},
        ),
    ),
    "sapiens": (
        SAPIENS,
        config_of(
            {
                "deconv_out_channels": (64, 64),
                "deconv_kernel_sizes": (4, 4),
                "use_silu": True,
                "conv_out_channels": (64, 64),
                "conv_kernel_sizes": (1, 1),
            }
        ),
    ),
}


def pixels(count: int = 2, image: tuple[int, int] = TINY.image) -> torch.Tensor:
    return torch.randn(count, 3, *image, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_mmposes_network_of_the_same_weights_gives_the_same_heatmaps(kind):
    head, config = CONFIGS[kind]
    ours = random_vitpose(head=head)
    theirs = build(config).eval()
    wanted = {name: tuple(t.shape) for name, t in theirs.state_dict().items()}
    assert wanted == {name: tuple(t.shape) for name, t in ours.state_dict().items()}
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        given = theirs(pixels(), None, mode="tensor")
        assert given.abs().max() > 0.1  # the head's weights matter
        torch.testing.assert_close(ours(pixels()), given, rtol=0, atol=1e-5)


def test_mmposes_keypoints_are_ours_without_a_config():
    head, config = CONFIGS["classic"]
    network = random_vitpose(head=head)
    theirs = build(config).eval()
    theirs.load_state_dict(network.state_dict())
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    sample = Sample(image, (5.0, 8.0, 60.0, 80.0))
    results = []
    for model in (new_vitpose(network, SKELETONS["coco-17"]), model_of(theirs, config, None)):
        batch = model.prepare([sample])
        with torch.no_grad():
            outputs = model.forward(batch).detach()
        results.append((batch.pixels, model.decode(outputs, batch, DecodeOptions())[0].keypoints))
    assert torch.equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-3)


def test_sapiens_configs_build_their_own_head_and_stock_ones_mmposes():
    head = {
        "deconv_out_channels": (64, 64), "deconv_kernel_sizes": (4, 4),
        "conv_out_channels": (64, 64), "conv_kernel_sizes": (1, 1),
    }  # fmt: skip
    kinds = {}
    for name, config in {
        "named": {"arch": "sapiens_0.3b"},
        "stock": {},
        "use_silu off": {"arch": "sapiens_0.3b", "use_silu": False},
    }.items():
        fields = {**head, **({"use_silu": False} if "use_silu" in config else {})}
        with torch.device("meta"):
            module = build(config_of(fields, arch=config.get("arch")))
        kinds[name] = {type(m) for m in module.head.modules()} & {
            nn.InstanceNorm2d, nn.SiLU, nn.BatchNorm2d, nn.ReLU,
        }  # fmt: skip
    assert kinds["named"] == {nn.InstanceNorm2d, nn.SiLU}
    assert kinds["stock"] == kinds["use_silu off"] == {nn.BatchNorm2d, nn.ReLU}
    assert ARCHITECTURES["sapiens_0.3b"] == (1024, 24, 16, 4096)


# Attention.


def test_attention_weights_are_recorded_and_sum_to_one():
    model = new_vitpose(random_vitpose(), SKELETONS["coco-17"])
    assert isinstance(model, HasAttention)
    attention = model.attention
    assert (attention.heads, attention.grid, attention.before) == (2, (8, 6), 0)
    assert attention.weights == tuple(f"backbone.layers.{n}.attn.weights" for n in range(TINY.layers))
    with torch.no_grad(), recording(model.module, attention.taps, attention.weights) as found:
        model.module(pixels())
    assert list(found) == list(attention.weights)
    for weights in found.values():
        assert weights.shape == (2, 2, 48, 48)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 48))


def test_recording_the_weights_changes_no_output():
    model = new_vitpose(random_vitpose(), SKELETONS["coco-17"])
    with torch.no_grad():
        before = model.module(pixels())
        with recording(model.module, model.attention.taps, model.attention.weights):
            during = model.module(pixels())
        after = model.module(pixels())
    torch.testing.assert_close(during, before, rtol=0, atol=1e-5)
    assert torch.equal(after, before)


def test_weights_by_hand():
    # One head of one channel: logits are products, and softmax of (0, ln 3) is (1/4, 3/4).
    layer = random_vitpose().backbone.layers[0].attn.weights
    query = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1)
    key = torch.tensor([0.0, np.log(3.0)]).float().view(1, 1, 2, 1)
    torch.testing.assert_close(layer(query, key)[0, 0], torch.tensor([[0.25, 0.75], [0.5, 0.5]]))


def test_replacing_the_weights_changes_what_the_layer_gives():
    model = new_vitpose(random_vitpose(), SKELETONS["coco-17"])
    name = model.attention.weights[-1]
    with torch.no_grad():
        before = model.module(pixels())
        with replacing(model.module, model.attention.taps, {name: lambda w: torch.full_like(w, 1 / 48)}):
            uniform = model.module(pixels())
    assert (uniform - before).abs().max() > 1e-3


def test_gradients_reach_the_weights():
    model = new_vitpose(random_vitpose(), SKELETONS["coco-17"])
    attention = model.attention
    with recording(model.module, attention.taps, attention.weights, gradients=True) as found:
        heatmaps = model.module(pixels(1))
    gradient = torch.autograd.grad(heatmaps[0, 5].max(), found[attention.weights[-1]])[0]
    assert gradient.shape == (1, 2, 48, 48)
    assert gradient.abs().max() > 0


# Positions.


def test_an_input_of_another_size_is_refused_unless_resampling_is_allowed():
    network = random_vitpose()
    with pytest.raises(
        ValueError, match=r"96x128 px \(w x h, 6x8 patches\), the input has 144x192 px \(9x12\)"
    ):
        network(pixels(1, (192, 144)))
    network.backbone.resample = True
    with torch.no_grad():
        assert network(pixels(1, (192, 144))).shape == (1, 17, 48, 36)


def test_positions_are_resampled_bicubic_as_upstream():
    positions = torch.randn(1, 48, 5, generator=torch.Generator().manual_seed(0))
    maps = positions.reshape(1, 8, 6, 5).permute(0, 3, 1, 2)
    wanted = functional.interpolate(maps, size=(12, 9), mode="bicubic", align_corners=False)
    wanted = wanted.permute(0, 2, 3, 1).reshape(1, 108, 5)
    assert torch.equal(resampled(positions, (8, 6), (12, 9)), wanted)
    constant = torch.ones(1, 48, 3)
    torch.testing.assert_close(resampled(constant, (8, 6), (16, 12)), torch.ones(1, 192, 3))


@pytest.mark.parametrize(
    ("count", "naming", "row"),
    [
        (192, "mmpose-1", False), (193, "mmpose-1", True), (193, "mmpose-0", True), (193, "hf", True),
        (192, "mmpose-0", False), (197, "mmpose-0", True), (3072, "mmpose-1", False), (13, "hf", True),
        (49, "mmpose-1", False), (49, "mmpose-0", True), (0, "hf", False), (71, "hf", True),
    ],
)  # fmt: skip
def test_the_row_of_a_class_token_is_told_by_number_and_naming(count, naming, row):
    assert has_class_position(count, naming) is row


def test_grids_of_positions():
    assert [grid_of_positions(n) for n in (192, 432, 3072, 196, 48)] == [
        (16, 12), (24, 18), (64, 48), (14, 14), (8, 6),
    ]  # fmt: skip
    assert [grid_of_positions(n) for n in (0, -5, 193, 70)] == [None] * 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"heads": 5}, "a multiple of the heads"),
        ({"layers": 0}, "expected positive numbers"),
        ({"image": (4, 4)}, "smaller than a patch"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(TINY, **change)


def test_a_deconvolution_of_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel 2, 3 or 4 is expected, got 5"):
        ViTPose(TINY, HeadShape(17, ((16, 5),)))


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_every_known_deconvolution_doubles_the_map(kernel):
    network = ViTPose(TINY, HeadShape(3, ((8, kernel),))).eval()
    with torch.no_grad():
        assert network(pixels(1)).shape == (1, 3, 16, 12)


def test_stochastic_depth_acts_in_training_alone():
    network = ViT(dataclasses.replace(TINY, drop_path=0.9))
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network.train()(pixels(4)), network(pixels(4)))
        assert torch.equal(network.eval()(pixels(4)), network(pixels(4)))
