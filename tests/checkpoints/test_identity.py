"""Names and shapes tell the family; the evidence names tensors, and false claims are contradicted."""

from __future__ import annotations

import ast

import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.demo import demo_checkpoints
from workbench.checkpoints.identity import identify_shapes


@pytest.fixture(scope="module")
def reference(shared):
    def read(name):
        lines = (shared / "reference" / name).read_text().splitlines()
        return {line.split("\t")[0]: ast.literal_eval(line.split("\t")[1]) for line in lines}

    return read


def test_rtmpose_m_is_told_with_its_input_size(reference):
    shapes = reference("rtmpose_m_ap10k_keys.txt")
    found = identify_shapes(shapes)
    assert (found.family, found.variant, found.keypoints, found.input_size) == (
        "RTMPose",
        "m",
        17,
        (256, 256),
    )
    assert any("CSPNeXt-m" in sentence for sentence in found.evidence)
    assert "0.722" in found.expected
    assert found.contradictions == ()


def test_a_flatten_that_does_not_fit_the_bins_is_a_contradiction(reference):
    shapes = reference("rtmpose_m_ap10k_keys.txt") | {"head.mlp.1.weight": (256, 48)}
    found = identify_shapes(shapes)
    assert found.input_size is None
    assert "64 cells" in found.contradictions[0]


def test_a_smaller_rtmpose_that_stops_at_stride_16_contradicts_nothing(reference):
    shapes = reference("rtmpose_m_ap10k_keys.txt") | {
        "head.cls_x.weight": (256, 256),
        "head.cls_y.weight": (256, 256),
        "backbone.stem.2.conv.weight": (16, 8, 3, 3),
    }
    found = identify_shapes(shapes)  # 128 / 16 = 8, and 8 x 8 = 64 as head.mlp.1 takes
    assert (found.input_size, found.contradictions) == ((128, 128), ())
    assert any("no published size" in sentence for sentence in found.evidence)


def test_text_fusion_and_refiner_are_told_from_plain_rtmpose(reference):
    shapes = reference("rtmpose_m_ap10k_keys.txt") | {
        "neck.global_mlp.0.weight": (1536, 384),
        "neck.global_mlp.0.bias": (1536,),
        "neck.local_mlp.0.weight": (768, 384),
        "neck.film_gate": (),
        "head.refiner.encoder.0.weight": (256, 512),
        "head.final_layer.weight": (26, 768, 7, 7),
    }
    found = identify_shapes(shapes)
    assert (found.family, found.variant, found.keypoints) == (
        "RTMPose with text fusion",
        "m, film, refiner",
        26,
    )
    assert "text of 384 numbers" in found.evidence[0]
    attention = {
        k: v for k, v in shapes.items() if not k.startswith(("neck.global", "neck.local", "neck.film"))
    }
    found = identify_shapes(attention | {"neck.cross_attn.in_proj_weight": (2304, 768)})
    assert found.variant == "m, attention, refiner"


@pytest.mark.parametrize(
    ("file", "variant", "expected"), [("w32_512", "w32", "67.1"), ("w48_640", "w48", "69.9")]
)
def test_higherhrnet_tells_its_width_and_what_to_expect(reference, file, variant, expected):
    shapes = reference(f"higherhrnet_{file}_keys.txt")
    found = identify_shapes(shapes)
    assert (found.family, found.variant, found.keypoints) == ("HigherHRNet (official names)", variant, 17)
    assert expected in found.expected
    assert any("not one 17-dimensional embedding" in sentence for sentence in found.evidence)
    old = {
        ("keypoint_head." if k.startswith(("final", "deconv")) else "backbone.") + k: v
        for k, v in shapes.items()
    }
    found = identify_shapes(old)
    assert (found.family, found.variant) == ("HigherHRNet (mmpose 0.x names)", variant)


def test_a_file_name_that_lies_is_contradicted(reference, tmp_path):
    state = {k: torch.tensor(0.0).expand(v) for k, v in reference("higherhrnet_w48_640_keys.txt").items()}
    torch.save({f"1.{k}": v for k, v in state.items()}, tmp_path / "pose_higher_hrnet_w32_512.pth.tar")
    checkpoint = open_checkpoint(tmp_path / "pose_higher_hrnet_w32_512.pth.tar")
    assert checkpoint.prefix == "1."
    assert checkpoint.identity.variant == "w48"
    assert checkpoint.identity.contradictions == ("the file name says w32, the tensors say w48",)


def test_a_config_that_lies_is_contradicted(reference, tmp_path):
    state = {k: torch.tensor(0.0).expand(v) for k, v in reference("rtmpose_m_ap10k_keys.txt").items()}
    config = (
        "model = dict(backbone=dict(widen_factor=0.5), head=dict(out_channels=26, input_size=(192, 256)))"
    )
    torch.save(
        {"meta": {"mmengine_version": "0.10.7", "cfg": config}, "state_dict": state}, tmp_path / "a.pth"
    )
    assert open_checkpoint(tmp_path / "a.pth").identity.contradictions == (
        "the config in the file says 26 keypoints, the tensors say 17",
        "the config in the file says input 192x256 (w x h), the tensors say 256x256",
        "the config in the file says widen_factor 0.5, the tensors have 0.75",
    )


def test_the_real_movenet_is_told(shared):
    found = open_checkpoint(shared / "data/weights/movenet_mbv3.pth").identity
    assert (found.family, found.keypoints) == ("MoveNet", 17)
    assert "17, 1, 34, 34 channels" in found.evidence[0]


def vit(naming: str, width: int, depth: int, patches: int, **more) -> dict[str, tuple[int, ...]]:
    """Shapes of a vision transformer, as far as identities look."""
    names = {
        "0.x": (
            "backbone.blocks.{}.norm1.weight",
            "backbone.pos_embed",
            "backbone.patch_embed.proj.weight",
            1,
        ),
        "1.x": (
            "backbone.layers.{}.ln1.weight",
            "backbone.pos_embed",
            "backbone.patch_embed.projection.weight",
            0,
        ),
        "hf": (
            "backbone.encoder.layer.{}.layernorm_before.weight",
            "backbone.embeddings.position_embeddings",
            "backbone.embeddings.patch_embeddings.projection.weight",
            1,
        ),
    }[naming]
    block, position, patch, extra = names
    shapes = {block.format(i): (width,) for i in range(depth)}
    return shapes | {position: (1, patches + extra, width), patch: (width, 3, 16, 16)} | more


CLASSIC = {"deconv_layers.0.weight": (768, 256, 4, 4), "final_layer.weight": (17, 256, 1, 1)}


@pytest.mark.parametrize(
    ("naming", "prefix", "family"),
    [
        ("0.x", "keypoint_head.", "ViTPose (ViTPose 0.x names)"),
        ("1.x", "head.", "ViTPose (mmpretrain names)"),
    ],
)
def test_vitpose_is_told_under_both_namings(naming, prefix, family):
    found = identify_shapes(vit(naming, 768, 12, 192, **{prefix + k: v for k, v in CLASSIC.items()}))
    assert (found.family, found.variant, found.keypoints, found.input_size) == (family, "B", 17, (256, 192))
    assert "75.8" in found.expected


def test_hugging_face_vitpose_and_experts_are_told():
    shapes = vit("hf", 384, 12, 192, **{"head.conv.weight": (17, 384, 3, 3)})
    found = identify_shapes(shapes)
    assert (found.family, found.variant) == ("ViTPose (Hugging Face names)", "S")
    assert found.expected == ""  # the published figures are those of the classic decoder
    experts = {f"backbone.blocks.0.mlp.experts.{i}.weight": (192, 1536) for i in range(6)}
    found = identify_shapes(vit("0.x", 384, 12, 192, **experts))
    assert found.family == "ViTPose+ (ViTPose 0.x names)"
    assert found.facts["experts"] == 6


@pytest.mark.parametrize(
    ("size", "width", "depth"), [("0.3b", 1024, 24), ("0.6b", 1280, 32), ("1b", 1536, 40), ("2b", 1920, 48)]
)
def test_sapiens_is_told_from_vitpose_of_the_same_width(size, width, depth):
    head = {"head.conv_layers.0.weight": (768, 768, 1, 1), "head.final_layer.weight": (17, 768, 1, 1)}
    found = identify_shapes(vit("1.x", width, depth, 3072, **head))
    assert (found.family, found.variant, found.input_size) == ("Sapiens", size, (1024, 768))
    found = identify_shapes(
        vit("1.x", width, depth, 3072, **head, **{"head.conv_layers.1.running_mean": (768,)})
    )
    assert "InstanceNorm without tensors" in found.contradictions[0]
    if depth < 40:
        assert identify_shapes(
            vit("1.x", width, depth, 192, **{"head.final_layer.weight": (17, 256, 1, 1)})
        ).family.startswith("ViTPose")


def test_category_agnostic_networks_are_told():
    shapes = {
        "base_model.decoder.layers.0.x": (1,),
        "support_encoder.mlp.0.weight": (256, 2),
        "support_cross_attention_layers.0.w": (1,),
    }
    found = identify_shapes(shapes)
    assert found.family == "CAPE, autoregressive"
    assert "never uses" in found.evidence[-1]
    shapes = {
        "tokens.rows.weight": (581, 48), "decoder.pointer.weight": (48, 48), "decoder.position": (80, 48),
        "decoder.layers.0.norm_own.weight": (48,), "support_encoder.points.0.weight": (48, 2),
    }  # fmt: skip
    found = identify_shapes(shapes)
    assert found.family == "cape"
    assert "up to 80 steps" in found.evidence[-1]
    shapes = {"backbone.layer1.0.conv1.weight": (1,), "keypoint_head.transformer.proposal_generator.w": (1,)}
    assert identify_shapes(shapes).family == "CapeFormer"


def test_what_fits_nothing_is_unknown_and_says_what_was_seen():
    found = identify_shapes({"encoder.a": (3,), "decoder.b": (2, 2)})
    assert found.family == "unknown"
    assert "2 tensors under encoder, decoder; the last is decoder.b 2x2" in found.evidence[0]


@pytest.mark.parametrize(
    ("config", "family", "variant", "keypoints"),
    [
        ("animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py", "RTMPose", "m", 17),
        ("body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_aic-coco-256x192.py", "RTMPose", "s", 17),
        (
            "wholebody_2d_keypoint/rtmpose/cocktail14/rtmw-m_8xb1024-270e_cocktail14-256x192.py",
            "RTMW",
            "m",
            133,
        ),
        ("body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py", "RTMO", "", 17),
        (
            "body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py",
            "HRNet (mmpose 1.x names)",
            "w32",
            17,
        ),
        (
            "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
            "SimpleBaseline ResNet (mmpose 1.x names)",
            "50",
            17,
        ),
        ("body_2d_keypoint/simcc/coco/simcc_res50_8xb32-140e_coco-384x288.py", "SimCC", "ResNet-50", 17),
        (
            "body_2d_keypoint/associative_embedding/coco/ae_hrnet-w32_8xb24-300e_coco-512x512.py",
            "associative embedding (mmpose)",
            "HRNet-w32",
            17,
        ),
        (
            "body_2d_keypoint/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512.py",
            "DEKR (mmpose)",
            "HRNet-w32",
            17,
        ),
    ],
    ids=lambda v: v.rpartition("/")[2] if isinstance(v, str) and v.endswith(".py") else "",
)
def test_networks_that_mmpose_builds_are_told(config, family, variant, keypoints):
    pytest.importorskip("mmengine")
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    mmpose = pytest.importorskip("mmpose")
    from pathlib import Path

    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmpose.registry import MODELS
    from mmpose.utils import register_all_modules

    register_all_modules()
    init_default_scope("mmpose")
    settings = Config.fromfile(Path(mmpose.__file__).parent / ".mim/configs" / config)
    settings.model.backbone.pop("init_cfg", None)
    with torch.device("cpu"):
        model = MODELS.build(settings.model)
    found = identify_shapes({name: tuple(t.shape) for name, t in model.state_dict().items()})
    assert (found.family, found.variant, found.keypoints) == (family, variant, keypoints)


MOVENET = {
    f"{part}.{end}": torch.zeros(shape)
    for part, shape in {
        "backbone.conv1.0": (24, 3, 3, 3),
        "header.header_heatmaps.1": (17, 96, 1, 1),
        "header.header_centers.1": (1, 96, 1, 1),
        "header.header_regs.1": (34, 96, 1, 1),
        "header.header_offsets.1": (34, 96, 1, 1),
    }.items()
    for end in ("weight", "bias")
}


def middle(name, wrapper):
    first, rest = name.split(".", 1)
    return f"{first}.{wrapper}.{rest}"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda n: middle(n, "_orig_mod"),
        lambda n: n.replace("header.", "header._checkpoint_wrapped_module."),
        lambda n: f"_fsdp_wrapped_module.{n}",
        lambda n: f"_forward_module._orig_mod.model.{n}",
        lambda n: middle(n, "_orig_mod") if n.startswith("backbone") else n,
    ],
)
def test_a_family_is_told_behind_the_names_of_wrappers(tmp_path, wrapped):
    state = {wrapped(name): tensor for name, tensor in MOVENET.items()}
    torch.save(state | {"n_averaged": torch.tensor(5)}, tmp_path / "a.pth")
    assert open_checkpoint(tmp_path / "a.pth").identity.family == "MoveNet"


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "module._forward_module"])
def test_a_head_whose_parts_are_wrapped_is_no_unknown_head(tmp_path, wrapper):
    plain = torch.load(demo_checkpoints()[-1], weights_only=False)["state_dict"]
    wrapped = {middle(name, wrapper) if name.startswith("head") else name: t for name, t in plain.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pth")
    opened, own = (
        open_checkpoint(tmp_path / "a.pth").identity,
        open_checkpoint(demo_checkpoints()[-1]).identity,
    )
    assert (opened.family, opened.variant, opened.evidence) == (own.family, own.variant, own.evidence)
    assert opened.family == "RTMPose"


def test_the_counter_of_an_average_hides_no_prefix(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in MOVENET.items()}
    torch.save(state | {"n_averaged": torch.tensor(5)}, tmp_path / "swa.pth")
    opened = open_checkpoint(tmp_path / "swa.pth")
    assert (opened.prefix, opened.identity.family) == ("module.", "MoveNet")


@pytest.mark.parametrize(("rows", "says"), [(576, "has 576 of 768 rows"), (768, "has all 768 rows")])
def test_experts_are_left_over_only_where_fc2_is_whole(rows, says):
    experts = {f"backbone.blocks.0.mlp.experts.{i}.weight": (192, 3072) for i in range(6)}
    narrow = {"backbone.blocks.0.mlp.fc2.weight": (rows, 3072)}
    found = identify_shapes(vit("0.x", 768, 12, 192, **experts, **narrow))
    assert any(says in sentence for sentence in found.evidence)
    assert any("left over" in sentence for sentence in found.evidence) == (rows == 768)


def resnet(layer: str, outputs: int) -> dict[str, tuple[int, ...]]:
    """Names of a ResNet-18 and of a linear layer behind it."""
    start = "backbone." if layer.startswith("head.") else ""
    names = {f"{start}conv1.weight": (64, 3, 7, 7), f"{start}bn1.weight": (64,)}
    for i, width in enumerate((64, 128, 256, 512), start=1):
        for block, part in ((0, 1), (0, 2), (1, 1), (1, 2)):
            names[f"{start}layer{i}.{block}.conv{part}.weight"] = (width, width, 3, 3)
    return {**names, layer: (outputs, 512)}


@pytest.mark.parametrize(
    ("layer", "outputs", "family", "says"),
    [
        ("fc.weight", 34, "linear outputs over", "coordinates of 17 keypoints (x, y), or 34 classes"),
        ("fc.weight", 42, "linear outputs over", "21 keypoints (x, y) or of 14 keypoints (x, y, vis"),
        ("fc.weight", 1000, "classifier", "1000 classes, weights of a classifier"),
        ("head.fc.weight", 1000, "classifier", "1000 classes, weights of a classifier"),
        ("fc.weight", 11, "classifier", "11 classes, weights of a classifier"),
    ],
)
def test_a_linear_layer_is_a_classifier_only_where_it_cannot_be_coordinates(layer, outputs, family, says):
    found = identify_shapes(resnet(layer, outputs))
    assert found.family == family
    assert says in found.evidence[-1]


def test_a_vision_transformer_with_coordinates_is_not_called_a_classifier():
    names = {"patch_embed.proj.weight": (192, 3, 16, 16), "pos_embed": (1, 197, 192)}
    names |= {f"blocks.{i}.norm1.weight": (192,) for i in range(12)}
    assert "no pose network" not in identify_shapes(names | {"head.weight": (34, 192)}).evidence[-1]
    assert "17 keypoints (x, y)" in identify_shapes(names | {"head.weight": (34, 192)}).evidence[-1]
    assert "1000 classes" in identify_shapes(names | {"head.weight": (1000, 192)}).evidence[-1]


@pytest.mark.parametrize(
    ("names", "family", "keypoints"),
    [
        (
            {
                "backbone.body.layer1.0.conv1.weight": (64, 64, 1, 1),
                "roi_heads.keypoint_predictor.kps_score_lowres.weight": (512, 17, 4, 4),
            },
            "Keypoint R-CNN (torchvision)",
            17,
        ),
        ({"roi_heads.keypoint_head.score_lowres.weight": (512, 12, 4, 4)}, "Keypoint R-CNN (Detectron2)", 12),
        (
            {"22.cv4.0.2.weight": (51, 51, 1, 1), "22.dfl.conv.weight": (1, 16, 1, 1)},
            "YOLO pose (ultralytics names)",
            17,
        ),
        (
            {"23.cv4.0.2.weight": (10, 16, 1, 1), "23.dfl.conv.weight": (1, 16, 1, 1)},
            "YOLO pose (ultralytics names)",
            5,
        ),
    ],
)
def test_detectors_with_keypoints_are_named(names, family, keypoints):
    found = identify_shapes(names)
    assert (found.family, found.keypoints) == (family, keypoints)
    assert "--adapter" in found.evidence[-1]
