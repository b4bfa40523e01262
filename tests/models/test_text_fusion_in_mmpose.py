"""The family in mmpose's own hands: a config file with custom_imports, trained by mmengine's Runner."""

from __future__ import annotations

import json
import logging
import warnings

import cv2
import pytest

from tests.models.text_fusion_net import config, written
from workbench.core.run import run
from workbench.data import builtin
from workbench.models import open_model
from workbench.text.vectors import builtin_text, write_text

ITERATIONS, IMAGES = 2, 2
PASSED = ("id", "img_id", "category_id", "input_size", "input_center", "input_scale", "flip", "flip_indices",
          "raw_ann_info", "dataset_name", "ori_shape", "img_shape")  # fmt: skip


def settings(text, meta_keys):
    """A whole config of a user's: data, pipelines, schedule; the model is the small one."""
    values = config({"text_from": "each", "mlp": "linear"}, {"softmax": "none"},
                  {"use_refiner_in_training": True}, fuse_in_predict=True)  # fmt: skip
    values["model"].pop("text")
    values["model"]["test_cfg"] = {"flip_test": False}
    codec = values["model"]["head"]["decoder"]
    crop = [{"type": "LoadImage"}, {"type": "GetBBoxCenterScale"},
            {"type": "TopdownAffine", "input_size": (64, 64)}]  # fmt: skip
    last = [text, {"type": "PackPoseInputs", "meta_keys": meta_keys}]
    data = {"type": "AP10KDataset", "ann_file": "annotations.json", "data_prefix": {"img": "images/"}}
    loader = {"batch_size": 2, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": False}}
    target = {"type": "GenerateTarget", "encoder": codec}
    return values | {
        "custom_imports": {"imports": ["workbench.models.text_fusion.register"]},
        "default_scope": "mmpose",
        "train_dataloader": {**loader, "dataset": {**data, "pipeline": [*crop, target, *last]}},
        "val_dataloader": {**loader, "dataset": {**data, "test_mode": True, "pipeline": [*crop, *last]}},
        "val_evaluator": {"type": "CocoMetric", "ann_file": "annotations.json"},
        "train_cfg": {"by_epoch": True, "max_epochs": 1, "val_interval": 1},
        "val_cfg": {},
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
        "log_level": "ERROR",
        "work_dir": "work",
    }


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """A COCO file of two images in the present folder."""
    monkeypatch.chdir(tmp_path)
    pose_set = builtin("scenes-val")
    raw = json.loads(json.dumps(pose_set.raw))
    raw["images"] = raw["images"][:IMAGES]
    ids = [image["id"] for image in raw["images"]]
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in ids]
    (tmp_path / "images").mkdir()
    for image in raw["images"]:
        image["file_name"] = f"{image['id']}.png"
        i = next(i for i, one in enumerate(pose_set.instances) if one.image_id == image["id"])
        cv2.imwrite(str(tmp_path / "images" / image["file_name"]), pose_set.sample(i).image[..., ::-1])
    (tmp_path / "annotations.json").write_text(json.dumps(raw))
    return tmp_path


def trained(folder, values):
    """What Runner leaves behind for a config file on the disk."""
    from workbench.models.mmpose_compat import install

    install()
    from mmengine.config import Config
    from mmengine.runner import Runner

    file = folder / "mine.py"
    file.write_text("\n".join(f"{name} = {value!r}" for name, value in values.items()))
    level = logging.getLogger().level
    try:
        Runner.from_cfg(Config.fromfile(file)).train()
    finally:
        logging.getLogger().setLevel(level)
    return folder / "work" / "epoch_1.pth"


@pytest.mark.long
def test_a_config_with_custom_imports_trains_and_its_checkpoint_opens_with_its_text(scenes):
    write_text(builtin_text(), scenes / "text.npz")
    text = {"type": "LoadTextEmbeddings", "text": "text.npz", "required": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="text fusion")
        file = trained(scenes, settings(text, (*PASSED, "global_text", "local_text")))
    logged = next((scenes / "work").glob("*/vis_data/scalars.json")).read_text()
    assert "coco/AP" in logged
    assert open_model(file).model.text is None  # the text lies above the run's folder
    (file.parent / "text.npz").write_bytes((scenes / "text.npz").read_bytes())
    loaded = open_model(file)
    assert loaded.loaded_fraction == 1
    assert loaded.model.text.subjects == builtin_text().subjects
    pose_set = builtin("scenes-val")
    assert run(loaded.model, [pose_set.sample(0)]).keypoints.shape == (1, 17, 2)


def test_a_category_without_a_sentence_is_named():
    from workbench.models.text_fusion.register import LoadTextEmbeddings

    step = LoadTextEmbeddings.__new__(LoadTextEmbeddings)
    text = builtin_text()
    step.subject, step.keypoints, step.rows = text.subject_vectors, text.keypoint_vectors, {3: 0, 7: 1}
    assert (step.transform({"category_id": 7})["global_text"] == text.subject_vectors[1]).all()
    with pytest.raises(ValueError, match="no sentence for category 5; there are 3, 7"):
        step.transform({"category_id": 5})


def test_the_published_layout_of_26_keypoints_loads_strictly_from_the_command_line(workbench, tmp_path):
    settings = config(
        {"num_keypoints": 26, "gate": "none"}, {"num_keypoints": 26}, {"out_channels": 26}, text=""
    )
    code, out, _ = workbench("load", written(settings, tmp_path), "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["loaded_fraction"], facts["missing"], facts["unexpected"]) == (1, [], [])
