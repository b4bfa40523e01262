"""mmpose's own inference is the oracle: same pixels, same keypoints, same scores."""

import numpy as np
import pytest
import torch

from workbench.core import NotAvailable, Sample
from workbench.core.run import run
from workbench.decoding.newton import blurred
from workbench.models import open_model
from workbench.models.mmpose.config import codec_of, run_config
from workbench.models.mmpose.model import OnlyWeights, build, model_of

COCO = "body_2d_keypoint/topdown_heatmap/coco"
INTEGRAL = "body_2d_keypoint/integral_regression/coco"
FAMILIES = {
    "simcc": "animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py",
    "resnet": f"{COCO}/td-hm_res50_8xb64-210e_coco-256x192.py",
    "dark": f"{COCO}/td-hm_res50_dark-8xb64-210e_coco-256x192.py",
    "udp": f"{COCO}/td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192.py",
    "vitpose": f"{COCO}/td-hm_ViTPose-small_8xb64-210e_coco-256x192.py",
    "stages": f"{COCO}/td-hm_mspn50_8xb32-210e_coco-256x192.py",
    "combined": f"{COCO}/td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192.py",
    "regression": "body_2d_keypoint/topdown_regression/coco/td-reg_res50_8xb64-210e_coco-256x192.py",
    "integral": f"{INTEGRAL}/ipr_res50_8xb64-210e_coco-256x256.py",
    "integral, debiased": f"{INTEGRAL}/ipr_res50_debias-8xb64-210e_coco-256x256.py",
    "dsnt": f"{INTEGRAL}/ipr_res50_dsnt-8xb64-210e_coco-256x256.py",
    "visibility": f"{COCO}/td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge.py",
    "likelihood": "body_2d_keypoint/topdown_regression/coco/td-reg_res50_rle-8xb64-210e_coco-256x192.py",
}
BOXES = np.array([[100, 50, 300, 400], [20.5, 30.25, 90, 60], [-30, -20, 700, 500]], float)


def photograph():
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)


def opened(configs, name):
    """A network with loud weights in its head: fresh ones leave maps that are flat."""
    config = run_config(configs / FAMILIES[name])
    model = config["model"]
    if model["backbone"]["type"] == "ResNet":
        # A smaller backbone: it is heads that are compared here.
        model["backbone"]["depth"] = 18
        model["head"].get("pose_cfg", model["head"])["in_channels"] = 512
    if name == "combined":
        model["backbone"] = {"type": "ResNet", "depth": 18}
        model["head"] |= {"in_channels": 512, "deconv_out_channels": (64, 64, 64)}
    torch.manual_seed(0)
    module = build(config).eval()
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if "head" in path and parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.05)
    return module, config, model_of(module, config, None)


# Of each keypoint, as mmpose's last answer has it.
VISIBLE: list[np.ndarray] = []


def by_mmpose(module, config, image, flip):
    from mmengine.config import Config
    from mmpose.apis import inference_topdown
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.registry import DATASETS

    module.cfg = Config(config)
    dataset = config["test_dataloader"]["dataset"]["type"]
    module.dataset_meta = parse_pose_metainfo(DATASETS.get(dataset).METAINFO)
    module.test_cfg["flip_test"] = flip
    found = [r.pred_instances for r in inference_topdown(module, image[..., ::-1].copy(), BOXES)]
    VISIBLE[:] = [np.concatenate([f.keypoints_visible for f in found])]
    return np.concatenate([f.keypoints for f in found]), np.concatenate([f.keypoint_scores for f in found])


RARE = ("integral, debiased", "dark")
# Networks that take 4 to 7 s to open: CI runs them.
LARGE = ("udp", "combined", "dsnt", "integral")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.slow if name in RARE else pytest.mark.long if name in LARGE else ()
        )
        for name in FAMILIES
    ],
)
def test_keypoints_and_scores_equal_mmposes_inference(configs, name):
    module, config, model = opened(configs, name)
    image = photograph()
    # The flip test of every kind of output; those of the others are heatmaps once more.
    for flip in (False, True) if name not in ("vitpose", "stages", "dark") else (False,):
        done = run(model, [Sample(image, tuple(box)) for box in BOXES], flip=flip)
        keypoints, scores = by_mmpose(module, config, image, flip=flip)
        said = np.isfinite(done.keypoints).all(-1)
        assert said.mean() > 0.3
        # mmpose answers in float32. Where its Hessian is nearly singular DARK throws a keypoint millions of
        # px away, and the last bit of a heatmap, which depends on the processor, says how far.
        inside = said & (np.abs(keypoints).max(-1) < 1e4)
        assert inside.sum() >= 0.9 * said.sum()
        np.testing.assert_allclose(done.keypoints[inside], keypoints[inside], rtol=1e-6, atol=1e-3)
        inside = np.ones_like(said)
        if name == "stages":
            # mmpose gives half a point for a peak of nothing, and inverts a map whose blur is below zero.
            maps = done.outputs.heatmaps.numpy()
            inside = said & np.isclose(blurred(maps, 5).max((2, 3)), maps.max((2, 3)))
            assert inside.mean() > 0.5
        np.testing.assert_allclose(done.scores[inside], scores[inside], atol=1e-6)
        assert (done.scores[~said] <= 0).all()
    if name == "visibility":
        seen = done.outputs.tokens["visibility"]
        assert seen.shape == (3, 17)
        np.testing.assert_allclose(
            seen if module.head.use_sigmoid else seen.sigmoid(), VISIBLE[-1], atol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "decoder", "sigma", "blur"),
    [("stages", "megvii", 1.1, 5), ("combined", "udp-combined", 3.5, 11), ("dark", "dark", 2, 11)],
)
def test_the_heads_codec_is_declared_so_that_every_decoder_can_read_its_output(
    configs, name, decoder, sigma, blur
):
    codec = codec_of(run_config(configs / FAMILIES[name]))
    assert (codec.decoder, codec.blur_kernel, codec.output_size) == (decoder, blur, (64, 48))
    assert codec.sigma == pytest.approx((sigma, sigma))
    assert codec.udp == (name == "combined")


@pytest.mark.parametrize("name", ["simcc", "udp"])
def test_the_network_sees_the_pixels_that_mmpose_shows_it(configs, name):
    from mmcv.transforms import Compose

    module, config, model = opened(configs, name)
    image = photograph()
    ours = model.prepare([Sample(image, tuple(box)) for box in BOXES]).pixels
    pipeline = Compose(config["test_dataloader"]["dataset"]["pipeline"])
    for n, box in enumerate(BOXES):
        given = pipeline({"img": image[..., ::-1].copy(), "bbox": box[None], "bbox_score": np.ones(1)})
        packed = {"inputs": [given["inputs"]], "data_samples": [given["data_samples"]]}
        assert torch.equal(module.data_preprocessor(packed)["inputs"][0], ours[n])


def test_taps_have_the_names_people_use(configs):
    _, _, model = opened(configs, "simcc")
    image = photograph()
    done = run(model, [Sample(image, tuple(BOXES[0]))], record=["stem", "stage4", "head.gau", "head.final"])
    shapes = {name: tuple(tensor.shape) for name, tensor in done.activations.items()}
    assert shapes["stage4"] == (1, 768, 8, 8)
    assert shapes["head.final"] == (1, 17, 8, 8)
    assert shapes["head.gau"] == (1, 17, 256)
    assert model.taps["stem"] == "backbone.stem"


def test_keypoints_are_named_by_evidence_only(configs):
    module, config, model = opened(configs, "simcc")
    assert model.skeleton.name == "ap10k-17"
    assert "taken from the config's data set, ap10k" in model.note
    bare = {key: config[key] for key in ("model", "val_pipeline")}
    nameless = model_of(module, bare, None)
    assert nameless.skeleton.keypoints[:2] == ("keypoint 0", "keypoint 1")
    assert nameless.skeleton.sigmas == ()
    assert "names the 17 keypoints" in nameless.note


def test_the_checkpoints_own_names_come_first(configs):
    module, config, _ = opened(configs, "simcc")
    names = {i: f"point {i}" for i in range(17)}
    swaps = [1, 0, *range(2, 17)]
    meta = {"dataset_name": "mine", "keypoint_id2name": names, "flip_indices": swaps, "sigmas": [0.1] * 17,
            "skeleton_links": [[0, 1]]}  # fmt: skip
    skeleton = model_of(module, config, meta).skeleton
    assert (skeleton.name, skeleton.mirror[:3], skeleton.limbs) == ("mine", (1, 0, 2), ((0, 1),))
    other = {**meta, "keypoint_id2name": {0: "a", 1: "b"}, "flip_indices": [1, 0], "sigmas": [0.1] * 2}
    assert model_of(module, config, other).skeleton.name == "ap10k-17"


def test_keys_that_do_not_belong_are_named(configs):
    """Case 002: in_channels belongs to the head; seeds put it on the backbone."""
    config = run_config(configs / FAMILIES["simcc"])
    config["model"]["backbone"]["in_channels"] = 768
    config["model"]["head"]["decoder"]["split_ratio"] = 2
    with pytest.raises(
        ValueError, match=r"model\.backbone\.in_channels: CSPNeXt takes no 'in_channels'"
    ) as caught:
        build(config)
    assert "model.head.decoder.split_ratio" in str(caught.value)
    assert "nearest: simcc_split_ratio" in str(caught.value)


def test_a_part_that_cannot_be_built_is_one_sentence(configs):
    config = run_config(configs / FAMILIES["resnet"])
    config["model"]["backbone"]["depth"] = 51
    with pytest.raises(ValueError, match=r"the model cannot be built: KeyError: .*invalid depth 51"):
        build(config)
    with pytest.raises(ValueError, match=r"model\.type = 'NoSuchEstimator' is refused: no such class"):
        build({"model": {"type": "NoSuchEstimator"}})


def test_crop_and_codec_of_different_sizes_are_refused(configs):
    module, config, _ = opened(configs, "simcc")
    pipeline = config["test_dataloader"]["dataset"]["pipeline"]
    next(step for step in pipeline if step["type"] == "TopdownAffine")["input_size"] = (192, 256)
    with pytest.raises(ValueError, match="crops 192x256 but the codec decodes 256x256"):
        model_of(module, config, None)


def test_a_bottom_up_model_without_tags_can_be_opened_and_says_why_it_is_not_run(configs):
    config = run_config(next((configs / "body_2d_keypoint/dekr/coco").glob("*hrnet-w32*.py")))
    model = model_of(build(config), config, None)
    assert isinstance(model, OnlyWeights)
    with pytest.raises(NotAvailable, match="BottomupPoseEstimator is no top-down model"):
        run(model, [Sample(photograph(), tuple(BOXES[0]))])


def test_a_config_of_ones_own_is_run_and_its_errors_are_told_by_line(tmp_path):
    (tmp_path / "own.py").write_text("a = 1\nb = a / 0\n")
    with pytest.raises(ValueError, match=r"own\.py, line \d+: ZeroDivisionError"):
        run_config(tmp_path / "own.py")
    with pytest.raises(FileNotFoundError, match="no config"):
        run_config(tmp_path / "none.py")


@pytest.fixture
def checkpoint(configs, tmp_path):
    """As mmengine's Runner writes it, the config's text inside."""
    from mmengine.config import Config

    config = Config.fromfile(configs / FAMILIES["simcc"])
    module = build(config)
    meta = {"epoch": 3, "iter": 30, "cfg": config.pretty_text, "mmengine_version": "0.10.7"}
    path = tmp_path / "my_run" / "epoch_3.pth"
    path.parent.mkdir()
    torch.save({"meta": meta, "state_dict": module.state_dict()}, path)
    return path, module


def test_a_checkpoint_with_its_config_inside_opens_by_itself(checkpoint):
    path, module = checkpoint
    loaded = open_model(path)
    assert (loaded.family, loaded.title, loaded.loaded_fraction) == ("mmpose", "my_run, epoch 3", 1.0)
    assert len(loaded.model.module.state_dict()) == 362
    assert all(
        torch.equal(a, b)
        for a, b in zip(module.state_dict().values(), loaded.model.module.state_dict().values(), strict=True)
    )
    assert len(loaded.sha256) == 64


def test_a_model_that_is_not_fully_loaded_is_refused_unless_told_otherwise(checkpoint):
    path, _ = checkpoint
    whole = torch.load(path)
    whole["state_dict"] = {k: v for k, v in whole["state_dict"].items() if not k.startswith("head.gau")}
    torch.save(whole, path)
    with pytest.raises(ValueError, match="does not fill the model"):
        open_model(path)
    partial = open_model(path, allow_partial=True)
    assert 0.9 < partial.loaded_fraction < 1


def test_a_config_that_would_run_code_is_not_run(checkpoint, tmp_path):
    path, _ = checkpoint
    whole = torch.load(path)
    proof = tmp_path / "proof"
    whole["meta"]["cfg"] = f"__import__('os').system('touch {proof}')\n" + whole["meta"]["cfg"]
    torch.save(whole, path)
    with pytest.raises(ValueError, match="config"):
        open_model(path)
    assert not proof.exists()


def test_a_config_beside_the_checkpoint_is_read_and_scripts_there_are_passed_over(checkpoint, tmp_path):
    path, _ = checkpoint
    whole = torch.load(path)
    text = whole["meta"].pop("cfg")
    torch.save(whole, path)
    proof = tmp_path / "proof"
    (path.parent / "train.py").write_text(f"import os\nos.system('touch {proof}')\n")
    with pytest.raises(NotAvailable, match="no config to build"):
        open_model(path)
    (path.parent / "rtmpose.py").write_text(f"import os\n{text}")
    with pytest.raises(NotAvailable, match=r"only read: rtmpose\.py, line 1: an import is not allowed"):
        open_model(path)
    (path.parent / "rtmpose.py").write_text(text)
    assert open_model(path).loaded_fraction == 1
    (path.parent / "other.py").write_text(text)
    with pytest.raises(NotAvailable, match=r"several lie beside it \(other\.py, rtmpose\.py\)"):
        open_model(path)
    assert not proof.exists()


def test_weights_without_a_config_say_what_to_pass(tmp_path):
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "bare.pth")
    with pytest.raises(NotAvailable, match="pass --config"):
        open_model(tmp_path / "bare.pth")


def test_wrong_arguments_are_answered(tmp_path, checkpoint):
    with pytest.raises(KeyError, match="no family 'mmpos'; nearest: mmpose"):
        open_model(checkpoint[0], family="mmpos")
    with pytest.raises(ValueError, match="device"):
        open_model(checkpoint[0], device="tpu9")
    with pytest.raises(ValueError, match="expected a checkpoint"):
        open_model(None)
    with pytest.raises(FileNotFoundError):
        open_model(tmp_path / "none.pth")
