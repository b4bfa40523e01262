"""A stranger's config builds registered classes only; a config that the user names may run their own code."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.models.text_fusion_net import config as healthy
from tests.trees import tree
from workbench.models import open_model
from workbench.models.fresh import read_model
from workbench.models.mmpose.config import run_config
from workbench.models.mmpose.model import build, from_config
from workbench.models.mmpose.trust import (
    FILE_TAKING,
    MODEL,
    PIPELINE,
    TRAINING,
    OwnConfig,
    _is_known,
    _registered,
    allowed,
    changed,
    without_pretrained,
)

ROOT = Path(__file__).parents[2]
RUN = "type='os.system', command='touch @/PWNED'"
EVIL = "__import__('os').system('touch @/PWNED')\nmodel = dict(type='Sequential')\ndataset_info = dict()\n"


def model(**parts: str) -> str:
    """A small top-down model as a config's text, some of its parts replaced."""
    fields = {
        "backbone": "dict(type='ResNet', depth=18)",
        "head": "dict(type='HeatmapHead', in_channels=512, out_channels=17)",
        **parts,
    }
    return f"model = dict(type='TopdownPoseEstimator', {', '.join(f'{k}={v}' for k, v in fields.items())})\n"


HEAD = "dict(type='HeatmapHead', in_channels=512, out_channels=17, {})"
RESNET = "dict(type='ResNet', depth=18, {})"
DISTILLER = "dict(type='{}DWPoseDistiller', teacher_cfg='@/evil.py', student_cfg='@/evil.py')"
# What a config says, and the place that the refusal names.
HOSTILE = {
    "the model": (f"model = dict({RUN})\n", "model.type"),
    "backbone": (model(backbone=f"dict({RUN})"), "model.backbone.type"),
    "decoder": (model(head=HEAD.format(f"decoder=dict({RUN})")), "model.head.decoder.type"),
    "loss": (model(head=HEAD.format(f"loss=dict({RUN})")), "model.head.loss.type"),
    "init_cfg": (model(head=HEAD.format(f"init_cfg=[dict({RUN})]")), "model.head.init_cfg[0].type"),
    "norm_cfg": (model(backbone=RESNET.format(f"norm_cfg=dict({RUN})")), "backbone.norm_cfg.type"),
    "conv_cfg": (model(backbone=RESNET.format(f"conv_cfg=dict({RUN})")), "backbone.conv_cfg.type"),
    "list": (model(neck=f"[1, (dict(a=dict({RUN})),)]"), "model.neck[1][0].a.type"),
    "any key": (model(whatever=f"dict(b=dict({RUN}))"), "model.whatever.b.type"),
    "description": (
        model(head=HEAD.format(f"loss=dict(type='CombinedLoss', losses=dict(keypoint_info=dict({RUN})))")),
        "losses.keypoint_info.type",
    ),
    "described point": (model(metainfo=f"dict(keypoint_info={{0: dict({RUN})}})"), "keypoint_info.0.type"),
    "preprocessor": (model(data_preprocessor=f"dict({RUN})"), "model.data_preprocessor.type"),
    "path in a package": (
        model(backbone="dict(type='mmengine.config.Config.fromfile', a='@/evil.py')"), "model.backbone.type"
    ),
    "path in a scope": (
        model(backbone="dict(type='mmpose.apis.init_model', config='@/evil.py')"), "model.backbone.type"
    ),
    "path with a scope": (model(backbone=f"dict(_scope_='mmpose', {RUN})"), "model.backbone.type"),
    "scope": (model(backbone=RESNET.format("_scope_='evil_scope'")), "model.backbone._scope_"),
    "scope.name": (model(backbone="dict(type='evil_scope.ResNet', depth=18)"), "model.backbone.type"),
    "other config": (f"model = {DISTILLER.format('')}\n", "model.type = 'DWPoseDistiller'"),
    "other config, with its scope": (f"model = {DISTILLER.format('mmpose.')}\n", "model.type"),
    "nested distiller": (model(neck=DISTILLER.format("")), "model.neck.type"),
    "loss with metainfo": (
        model(head=HEAD.format("loss=dict(type='OKSLoss', metainfo='@/evil.py')")), "loss.metainfo"
    ),
    "metainfo of a file": (model(metainfo="dict(from_file='@/evil.py')"), "model.metainfo.from_file"),
    "layers": (model(backbone="dict(type='RegNet', arch=dict(depth=9000000))"), "arch.depth = 9000000"),
    "type that is a number": (model(backbone="dict(type=5)"), "model.backbone.type is a int"),
    "huge number": (model(backbone="dict(type='ResNet', depth=10**12)"), "model.backbone.depth"),
}  # fmt: skip


def written(folder: Path, text: str, beside: bool = False) -> Path:
    """A checkpoint with a config in it or beside it, and what a hostile config would run."""
    folder.mkdir(exist_ok=True, parents=True)
    text = text.replace("@", str(folder))
    meta = {"epoch": 1, "mmengine_version": "0.10.7", **({} if beside else {"cfg": text})}
    weights = {"backbone.weight": torch.zeros(4, 3, 3, 3)}
    torch.save({"state_dict": weights, "meta": meta, "message_hub": {}}, folder / "epoch_1.pth")
    if beside:
        (folder / "config.py").write_text(text)
        return folder / "epoch_1.pth"
    (folder / "evil_scope").mkdir(exist_ok=True)
    (folder / "evil_scope/__init__.py").write_text("")
    (folder / "evil_scope/registry.py").write_text(EVIL.replace("@", str(folder)))
    (folder / "evil.py").write_text(EVIL.replace("@", str(folder)))
    return folder / "epoch_1.pth"


@pytest.mark.parametrize("name", list(HOSTILE))
def test_nothing_that_a_config_in_a_checkpoint_names_is_run(name, tmp_path, monkeypatch):
    text, place = HOSTILE[name]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^config: ") as caught:
        open_model(written(tmp_path, text))
    assert place in str(caught.value)
    assert not (tmp_path / "PWNED").exists()
    assert "evil_scope" not in sys.modules


def test_nothing_that_a_config_beside_a_checkpoint_or_below_the_served_folder_names_is_run(tmp_path):
    text = model(backbone=f"dict({RUN})")
    with pytest.raises(ValueError, match=r"model\.backbone\.type = 'os\.system' is refused"):
        open_model(written(tmp_path, text, beside=True))
    with pytest.raises(ValueError, match=r"model\.backbone\.type = 'os\.system' is refused"):
        read_model(tmp_path / "config.py")
    with pytest.raises(ValueError, match=r"model\.backbone\.type = 'os\.system' is refused"):
        open_model(tmp_path / "epoch_1.pth", config=tmp_path / "config.py", run_config=False)
    assert not (tmp_path / "PWNED").exists()


VERBS = (
    *[f"{verb} FILE" for verb in ("load", "clinic", "group", "rollout", "film", "paths", "distill")],
    *[f"{verb} FILE --data scenes-val" for verb in ("evaluate", "oracle", "look heatmap_grid")],
    *[f"{verb} FILE --data scenes-val" for verb in ("ablate grouping", "experiment no-refiner")],
    *("compare FILES --data scenes-val", "predict FILE --image IMAGE"),
)


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_that_opens_a_checkpoint_refuses_in_one_sentence(words, tmp_path, workbench):
    file = written(tmp_path, HOSTILE["decoder"][0])
    (tmp_path / "epoch_2.pth").write_bytes(file.read_bytes())
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    words = words.replace("FILES", f"{file} {tmp_path}/epoch_2.pth").replace("FILE", str(file))
    code, out, err = workbench(*words.replace("IMAGE", f"{tmp_path}/a.png").split())
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "model.head.decoder.type = 'os.system' is refused" in err
    assert not (tmp_path / "PWNED").exists()


def test_the_app_opens_a_hostile_root_and_says_what_is_refused(tmp_path):
    from apps.server.registry import Registry
    from apps.server.settings import Settings

    for name in ("the model", "nested distiller"):
        written(tmp_path / name.replace(" ", "-"), HOSTILE[name][0])
    registry = Registry(Settings(root=tmp_path, port=0))
    for run in registry.runs():
        if run.folder.is_relative_to(tmp_path):
            with pytest.raises(ValueError, match="is refused"):
                registry.model(run.id, 0)
    assert not list(tmp_path.rglob("PWNED"))


def test_the_users_own_config_may_name_their_own_code_and_a_copy_of_it_may_not(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("model = dict(type='torch.nn.Linear', in_features=2, out_features=3)\n")
    own = run_config(file)
    assert isinstance(build(own), torch.nn.Linear)
    assert isinstance(build(changed(own, other=1)), torch.nn.Linear)
    with pytest.raises(
        ValueError, match=r"model\.type = 'torch\.nn\.Linear' is refused: it is the path of an import"
    ):
        build({**own})
    assert isinstance(changed({"model": 1}, model=2), dict)
    assert not isinstance(changed({"model": 1}, model=2), OwnConfig)


def test_a_class_that_somebody_registered_is_not_for_a_strangers_config():
    from mmpose.registry import MODELS

    @MODELS.register_module()
    class SomebodysBackbone(torch.nn.Module):
        pass

    try:
        assert isinstance(build(OwnConfig(model={"type": "SomebodysBackbone"})), SomebodysBackbone)
        with pytest.raises(ValueError, match="it is a class of tests"):
            build({"model": {"type": "SomebodysBackbone"}})
    finally:
        MODELS.module_dict.pop("SomebodysBackbone")


@pytest.mark.parametrize("config", [5, "ResNet", None, [], {"a": 1}, {"type": None}])
def test_a_model_that_is_no_network_is_one_sentence(config):
    with pytest.raises(ValueError, match=r"^config: "):
        build({"model": config})
    with pytest.raises(ValueError, match=r"^config: "):
        build(OwnConfig(model=config))


def test_a_model_that_builds_to_something_else_is_named():
    with pytest.raises(ValueError, match=r"type builtins\.int gives a int"):
        build(OwnConfig(model={"type": "builtins.int"}))
    own = {"type": "TopdownPoseEstimator", "backbone": {"type": "builtins.int"}, "test_cfg": {}}
    with pytest.raises(ValueError, match="its backbone gives a int"):
        build(OwnConfig(model={**own, "head": {"type": "HeatmapHead", "in_channels": 8, "out_channels": 17}}))
    with pytest.raises(ValueError, match=r"^config: .*MSRAHeatmap"):
        build({"model": {"type": "MSRAHeatmap", "input_size": (8, 8), "heatmap_size": (2, 2), "sigma": 2}})


def test_an_initialiser_is_made_of_the_config_behind_the_same_door(monkeypatch):
    def text(init):
        head = {"type": "HeatmapHead", "in_channels": 512, "out_channels": 17, "init_cfg": init}
        return {
            "model": {
                "type": "TopdownPoseEstimator",
                "backbone": {"type": "ResNet", "depth": 18},
                "head": head,
            }
        }

    wrong = {"type": "Constant", "val": "x", "layer": "Conv2d"}
    with pytest.raises(ValueError, match="the model cannot be built"):
        from_config(text(wrong))
    # Were a type overlooked before, nothing is imported for it here either.
    monkeypatch.setattr("workbench.models.mmpose.model.allowed", lambda part, where: part)
    with pytest.raises(ValueError, match="the model cannot be built: RuntimeError: Failed to get"):
        from_config(text({"type": "subprocess.Popen", "args": ["true"]}))


def test_weights_from_elsewhere_are_left_out_at_any_depth_and_by_either_name():
    config = {
        "type": "ResNet", "pretrained": "a.pth",
        "init_cfg": [{"type": "Pretrained", "checkpoint": "a"}, {"type": "Kaiming", "layer": "Conv2d"}],
        "neck": {"init_cfg": {"type": "mmengine.model.PretrainedInit", "checkpoint": ""}, "pretrained": 0},
    }  # fmt: skip
    want = {
        "type": "ResNet", "pretrained": None, "init_cfg": [{"type": "Kaiming", "layer": "Conv2d"}],
        "neck": {"pretrained": 0},
    }  # fmt: skip
    assert allowed(config, "model") == want
    assert without_pretrained(config) == want


def test_a_model_of_more_parameters_or_modules_than_any_is_refused_before_they_are_made(monkeypatch):
    import workbench.models.mmpose.trust as trust

    config = healthy()
    with pytest.raises(ValueError, match="more than 1,000 parameters"):
        build(config, 1000)
    build(OwnConfig(config), 1000)  # the user's own is their own
    monkeypatch.setattr(trust, "_MODULES", 3)
    with pytest.raises(ValueError, match="more than 3 modules"):
        build(config)


def test_layers_that_a_class_lists_before_it_registers_them_count_too(monkeypatch):
    import workbench.models.mmpose.trust as trust

    many = {"conv_out_channels": [1] * 500, "conv_kernel_sizes": [1] * 500}
    head = {"type": "HeatmapHead", "in_channels": 512, "out_channels": 17, **many}
    backbone = {"type": "ResNet", "depth": 18}
    config = {"model": {"type": "TopdownPoseEstimator", "backbone": backbone, "head": head}}
    made, usual = [], trust._MODULES
    from torch import nn

    convolution = nn.Conv2d.__init__

    def counted(self, *args, **named):
        made.append(self)
        convolution(self, *args, **named)

    monkeypatch.setattr(nn.Conv2d, "__init__", counted)
    monkeypatch.setattr(trust, "_MODULES", 400)
    with pytest.raises(ValueError, match="more than 400 modules"):
        build(config)
    assert len(made) < 400 < usual


def test_tensors_that_a_class_makes_before_it_registers_one_are_bounded_too():
    """A Swin of window_size 300 added two vectors to a table of 64 GB first; a PVT listed its layers."""
    from workbench.models.mmpose import trust

    line = torch.arange(5000)
    with pytest.raises(ValueError, match="makes 25,000,000 numbers at once"), trust.bounded(10_000_000):
        line[:, None] + line[None, :]
    with pytest.raises(ValueError, match="makes 16,000,000 numbers at once"), trust.bounded(10_000_000):
        torch.ones((4000, 4000))
    with pytest.raises(ValueError, match="more than 20,000 layers"), trust.bounded():
        [float(rate) for rate in torch.linspace(0, 0.1, 30_000)]
    with trust.bounded(10):
        assert [float(rate) for rate in torch.linspace(0, 1, 3)] == [0, 0.5, 1]
        assert torch.equal(line[:2, None] * torch.ones(3), torch.tensor([[0.0, 0, 0], [1, 1, 1]]))


def test_a_model_far_larger_than_its_checkpoint_is_refused_before_it_takes_the_memory(tmp_path):
    import workbench.models.mmpose.trust as trust

    for backbone in (
        "dict(type='Conv2d', in_channels=9_000_000, out_channels=400, kernel_size=1)",  # 3.6e9: 14 GB
        "dict(type='ResNet', depth=18, stem_channels=30_000, base_channels=4_000)",
    ):
        with pytest.raises(
            ValueError, match=r"config: a model of more than 50,000,216 parameters is refused"
        ):
            open_model(written(tmp_path, model(backbone=backbone)))
    assert trust.most_parameters(1_000_000_000) == 2_050_000_000
    with pytest.raises(ValueError, match="numbers in buffers"), trust.bounded(10):
        torch.nn.Module().register_buffer("b", torch.zeros(11))


# mmpose's own that name what is not for strangers: distillers open other configs, mmcls is no longer there.
UNBUILT = ("DWPoseDistiller", "mmcls.VisionTransformer")


def checked(files) -> int:
    accepted = 0
    for file in files:
        if file.name.startswith("edpose"):
            continue  # mmengine refuses to run it
        config, refusal = run_config(file).get("model"), ""
        try:
            allowed(config, "model")
        except ValueError as refused:
            refusal = str(refused)
        assert not refusal or any(name in refusal for name in UNBUILT), (file, refusal)
        accepted += not refusal
    return accepted


def shipped(configs: Path) -> list[Path]:
    return [file for file in sorted(configs.rglob("*.py")) if "_base_" not in file.parts]


def test_configs_that_mmpose_ships_may_be_a_strangers(configs):
    assert checked(shipped(configs)[::20]) >= 18


@pytest.mark.slow
def test_all_configs_that_mmpose_ships_may_be_a_strangers(configs):
    assert checked(shipped(configs)) >= 380


def test_parts_with_a_file_of_mmposes_own_still_build(configs, tmp_path, monkeypatch):
    # Some constructors run this file by default; below the present folder it is a stranger's.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/_base_/datasets").mkdir(parents=True)
    (tmp_path / "configs/_base_/datasets/coco.py").write_text(EVIL.replace("@", str(tmp_path)))
    for name in (
        "yoloxpose/coco/yoloxpose_tiny_4xb64-300e_coco-416.py",
        "rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py",
    ):
        assert isinstance(build(dict(run_config(configs / "body_2d_keypoint" / name))), torch.nn.Module)
    assert not (tmp_path / "PWNED").exists()


# Calls by which a constructor may open a file, import, or run something by name.
_SUSPECT = re.compile(
    r"(?<![\w.])(?:open|eval|exec|compile|__import__|import_module)\(|fromfile\(|load_checkpoint|load_url"
    r"|torch\.load\(|np\.load\(|parse_pose_metainfo|from_file|get_object_from_string|subprocess|os\.system"
    r"|fileio|getattr\((?:torch|np|nn|cv2|F|mmcv)\b"
)
# Read by hand: the argument that leads to a file is taken away or replaced by `allowed`.
_READ = {
    "AmpOptimWrapper": "dtype, only given to torch.autocast",
    "OKSLoss": "metainfo",
    "PoseOKS": "metainfo",
    "PretrainedInit": "checkpoint",
    "BasePoseEstimator": "metainfo",
}


@pytest.mark.long
def test_no_class_that_is_allowed_opens_a_file_that_a_config_names(configs):
    seen: set[type] = set()
    found: dict[str, list[str]] = {}
    for registry in _registered(tuple(dict.fromkeys((*MODEL, *TRAINING, *PIPELINE)))):
        for name, kind in registry.module_dict.items():
            if name in FILE_TAKING or not _is_known(kind):
                continue
            for owner in kind.__mro__:
                ours = owner.__module__.startswith(("mmpose.", "mmcv.", "mmengine.", "workbench."))
                if ours and owner not in seen:
                    seen.add(owner)
                    if calls := _SUSPECT.findall(inspect.getsource(owner)):
                        found[owner.__name__] = calls
    assert len(seen) > 150
    assert {name: calls for name, calls in found.items() if name not in _READ} == {}


# Whoever makes an object of a config, and why they may.
_BUILDERS = {
    "workbench/models/mmpose/model.py": "the door: types are checked, or the config is the user's own",
    "workbench/models/mmpose/config.py": "run_config: the user's own config, named by the user",
    "workbench/models/mmpose_compat.py": "what makes mmengine refuse files within the door",
    "workbench/models/text_fusion/estimator.py": "within the door: part of a model that was checked",
    "workbench/training/augmentation_view.py": "pipeline steps, each checked against the allowed ones",
    "workbench/training/albumentations_steps.py": "steps of its own list, made from numbers",
    "workbench/data/detectors.py": "a detector that the user named on the command line",
}
_BUILDS = {
    *("build_from_cfg", "build_model_from_cfg", "build_runner_from_cfg", "build_pose_estimator", "from_cfg"),
    *(
        "build_backbone",
        "build_head",
        "build_neck",
        "build_loss",
        "build_posenet",
        "build_dataset",
        "fromfile",
    ),
    *("build_dataloader", "build_optim_wrapper", "init_model", "init_detector", "get_object_from_string"),
    *("MMPoseInferencer", "Pose2DInferencer", "Compose", "parse_pose_metainfo", "build_norm_layer"),
    *("build_conv_layer", "build_activation_layer", "build_dropout", "build_transforms"),
}


def registries() -> set[str]:
    from mmengine.registry import Registry
    from mmpose import registry as mmposes

    return {name for name in dir(mmposes) if isinstance(getattr(mmposes, name), Registry)}


def builds(file: Path) -> list[int]:
    """Lines of a file that make an object of a config."""
    lines, known = [], registries()
    for node in ast.walk(tree(file)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = called.value if isinstance(called, ast.Attribute) else None
        last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name in _BUILDS or (name in ("build", "get") and last in known):
            lines.append(node.lineno)
    return lines


def test_whoever_makes_an_object_of_a_config_goes_through_the_door():
    found = {}
    for folder in ("workbench", "apps", "notebooks", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text, name = file.read_text("utf-8"), file.relative_to(ROOT).as_posix()
            if ("mmengine" in text or "mmpose" in text or "mmdet" in text) and name not in _BUILDERS:
                found |= {name: lines} if (lines := builds(file)) else {}
    assert found == {}


def test_the_walk_over_builders_finds_them(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "MODELS.build(x)\nmmpose.registry.TRANSFORMS.build(y)\nConfig.fromfile('a')\nfront.build(x)\n"
    )
    assert builds(file) == [1, 2, 3]


def test_a_file_cannot_ask_for_inputs_and_maps_of_gigabytes():
    from workbench.core import Codec, Sample
    from workbench.models.bottom_up.aggregation import resizing
    from workbench.models.exported import facts_of
    from workbench.models.top_down import cropped

    for fields in (
        {"kind": "heatmap", "input_size": (2_560_000, 1_920_000), "output_size": (64, 48)},
        {"kind": "heatmap", "input_size": (256, 192), "output_size": (640_000, 480_000)},
        {"kind": "simcc", "input_size": (256, 192), "output_size": (512, 1_728_000)},
    ):
        with pytest.raises(ValueError, match=r"(is|are) refused: expected"):
            Codec(**fields)
    with pytest.raises(ValueError, match="an input of 40000x40000"):
        facts_of(lambda size: pytest.fail(f"run on {size}"), None, (40_000, 40_000))
    sample = Sample(np.zeros((8, 8, 3), np.uint8), (0.0, 0.0, 8.0, 8.0))
    with pytest.raises(ValueError, match="30000x20000"):
        cropped([sample], (20_000, 30_000), 1.25, False, False, False)
    with pytest.raises(ValueError, match=r"is refused: expected at most"):
        resizing((1, 5000), 512)  # a thin image: its short side takes the input size
    assert resizing((3000, 4000), 1024).size == (1024, 1408)
