"""A text fusion model as the workbench opens it: which way it goes, what text it reads, what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch

from tests.models.text_fusion_net import BINS, CHANNELS, config, written
from workbench.core import NotAvailable
from workbench.core.run import run
from workbench.data import builtin
from workbench.models import open_model
from workbench.models.mmpose.config import run_config
from workbench.models.mmpose.model import build
from workbench.models.text_fusion import Path, TextFusion
from workbench.models.text_fusion import family as what_if
from workbench.models.text_fusion.family import Sentences
from workbench.skeletons import SKELETONS
from workbench.text import TextVectors
from workbench.text.vectors import builtin_text, write_text

LOW = {"confidence_threshold": -1e9}  # nobody is uncertain
HIGH = {"confidence_threshold": 1e9}


@pytest.fixture(scope="module")
def samples():
    scenes = builtin("scenes-val")
    return [scenes.sample(i) for i in scenes.labelled[:3]]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> TextFusion:
    settings = config({"init": "random", "gate": "none", "text_from": "each"}, HIGH)
    model = open_model(written(settings, tmp_path_factory.mktemp("published"))).model
    assert isinstance(model, TextFusion)
    return model


def apart(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a.simcc, b.simcc, strict=True))


def test_a_checkpoint_opens_in_full_with_its_text_and_its_two_ways(published):
    assert (published.inference, published.training) == (Path(False, "inference"), Path(True, ""))
    assert published.text is not None
    assert published.text.subjects[0] == "horse"
    assert published.skeleton.name == "ap10k-17"
    assert published.note == "" or "text" not in published.note
    assert {"text.subject", "film", "raw.x", "refined.y", "neck", "backbone"} <= set(published.taps)


def test_evaluation_goes_the_way_of_inference_and_training_the_way_of_training(published, samples):
    batch = published.prepare(samples)
    model = copy.deepcopy(published)
    text = Sentences(batch.extra["subject"], batch.extra["keypoints"])
    with torch.no_grad():
        model.module.eval()
        raw = model.module.along(batch.pixels, text, Path(True, ""))
        # Dropout off and statistics fixed: what differs is the way alone.
        model.module.training = True
        taught = model.forward(batch)
    assert taught.simcc is not None
    torch.testing.assert_close(taught.simcc[0], raw[0])
    used = run(published, samples)
    assert apart(used, run(published.through(Path(False, "inference")), samples)) == 0
    assert apart(used, run(published.through(published.training), samples)) > 1e-4


def test_the_same_input_gives_the_same_output_though_the_refiner_draws_noise(published, samples):
    state = torch.random.get_rng_state()
    assert apart(run(published, samples), run(published, samples)) == 0
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_neck_that_is_skipped_leaves_no_trace_at_its_text(published, samples):
    skipped = run(published, samples, record=["neck.before", "neck"])
    with_text = run(published.through(Path(True, "")), samples, record=["film", "neck.before", "neck"])
    assert torch.equal(skipped.activation("neck"), skipped.activation("neck.before"))
    assert with_text.activation("film").shape == (3, 2 * CHANNELS)
    assert "film" not in run(published, samples, record=["film"]).activations
    torch.testing.assert_close(skipped.activation("neck"), with_text.activation("neck.before"))


def test_bypassing_is_going_without(published, samples):
    fused = published.through(Path(True, "inference"))
    for edits, way in (
        (what_if.without_neck(), Path(False, "inference")),
        (what_if.without_refiner(), Path(True, "")),
    ):
        assert apart(run(fused, samples, replace=edits), run(published.through(way), samples)) == 0


def test_other_words_matter_where_the_text_is_read_and_nowhere_else(published, samples):
    fused = published.through(Path(True, ""))
    vector = builtin_text().subject_vectors[3]
    changes = (
        what_if.zero_text(),
        what_if.noise_text(),
        what_if.other_subject(vector),
        what_if.shuffled_text(1),
    )
    for edits in changes:
        assert apart(run(published, samples), run(published, samples, replace=edits)) == 0
    for edits in changes[:3]:
        assert apart(run(fused, samples), run(fused, samples, replace=edits)) > 1e-6


def test_noise_has_the_length_of_the_sentences(published, samples):
    edits = what_if.noise_text()
    vectors = torch.from_numpy(builtin_text().keypoint_vectors)[None] * 3
    torch.testing.assert_close(edits["text.keypoints"](vectors).norm(dim=-1), vectors.norm(dim=-1))


def test_each_image_has_its_species_and_one_for_all_when_the_config_says_so(tmp_path, published, samples):
    vectors = published.prepare(samples).extra["subject"].numpy()
    assert np.array_equal(vectors, builtin_text().of(samples))
    one = open_model(written({**config(text="drawn-quadrupeds/cow")}, tmp_path)).model
    vectors = one.prepare(samples).extra["subject"].numpy()
    assert np.array_equal(vectors, np.repeat(builtin_text().subject_vectors[[2]], 3, 0))


def test_where_prediction_fuses_both_ways_are_one(tmp_path, samples):
    settings = config({"init": "random"}, head={"refiner": None}, fuse_in_predict=True)
    model = open_model(written(settings, tmp_path)).model
    assert model.inference == model.training == Path(True, "")


@pytest.mark.parametrize(
    ("head", "inference", "training"),
    [
        ({}, "inference", ""),
        ({"use_refiner_in_predict": False}, "", ""),
        ({"use_refiner_in_training": True}, "inference", "training"),
    ],
)
def test_the_refiners_switches_are_the_ways(head, inference, training):
    net = build(config(head=head))
    assert (net.path(False).refine, net.path(True).refine) == (inference, training)
    off = build(config(test_cfg={"refine_mode": "off"}))
    assert off.path(False).refine == ""


@pytest.mark.parametrize("taught", [False, True])
def test_the_refiner_learns_only_where_the_loss_sees_it(taught):
    torch.manual_seed(0)
    net = build(config({"init": "random"}, head={"use_refiner_in_training": taught})).train()
    text = Sentences(torch.randn(2, 384), torch.randn(2, 17, 384))
    x, y = net.along(torch.randn(2, 3, 64, 64), text, net.path(training=True))
    (x.square().mean() + y.square().mean()).backward()
    gradient = {
        name: sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
        for name, part in (
            ("refiner", net.head.refiner),
            ("film", net.neck.global_mlp),
            ("local", net.neck.local_mlp),
        )
    }
    assert (gradient["refiner"] > 0) == taught
    assert gradient["film"] > 0
    assert gradient["local"] == 0, "FiLM does not read the keypoints"


def data_samples(net, text=True):
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample

    found = []
    for n in range(2):
        fields = {
            "input_size": (64, 64), "input_center": np.full(2, 32.0), "input_scale": np.full(2, 64.0),
            "flip_indices": list(SKELETONS["ap10k-17"].mirror),
        }  # fmt: skip
        if text:
            fields["global_text"] = np.full(384, 0.1 + n, np.float32)
            fields["local_text"] = np.ones((17, 384), np.float32)
        sample = PoseDataSample(metainfo=fields)
        sample.gt_instances = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        labels = {f"keypoint_{axis}_labels": torch.rand(1, 17, BINS) for axis in "xy"}
        sample.gt_instance_labels = InstanceData(**labels, keypoint_weights=torch.ones(1, 17))
        found.append(sample)
    return found


def test_mmposes_own_loss_and_predict_go_the_published_ways(samples):
    torch.manual_seed(0)
    net = build(config({"init": "random", "gate": "none"}, LOW, test_cfg={"flip_test": True})).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        losses = net.loss(pixels, data_samples(net))
        assert float(losses["loss_kpt"]) > 0
        without = net.predict(pixels, data_samples(net, text=False))
        found = net.predict(pixels, data_samples(net))
        net.fuse_in_predict = True
        fused = net.predict(pixels, data_samples(net))
    scores = [r[1].pred_instances.keypoint_scores for r in (without, found, fused)]
    assert np.array_equal(scores[0], scores[1]), "prediction never sees the text"
    assert not np.array_equal(scores[1], scores[2])


def test_a_pipeline_that_loses_the_text_is_told_while_it_trains():
    net = build(config()).eval()
    with pytest.warns(UserWarning, match="carry no text, so the neck is skipped in training.*meta_keys"):
        net.loss(torch.randn(2, 3, 64, 64), data_samples(net, text=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="text fusion")
        net.loss(torch.randn(2, 3, 64, 64), data_samples(net, text=False))  # said once is enough


def test_the_published_consistency_loss_is_there_when_asked_for():
    net = build(config()).train()
    net.train_cfg = {"use_refine_loss": True}
    losses = net.loss(torch.randn(2, 3, 64, 64), data_samples(net))
    losses["loss_refine"].backward()
    assert float(losses["loss_refine"]) > 0
    assert net.head.refiner.decoder[4].weight.grad is not None
    assert net.head.cls_x.weight.grad is None, "the raw vectors are not its business"


def test_an_older_file_without_a_gate_opens_without_one(tmp_path):
    model = open_model(written(config(), tmp_path, drop=["neck.film_gate"])).model
    assert model.module.neck.gate == "none"


def test_a_checkpoint_without_the_necks_keys_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"text neck and the checkpoint no neck\.global_mlp: it belongs to"):
        open_model(written(config(), tmp_path, drop=["neck."]))


def test_text_of_another_dimension_is_refused_in_one_sentence(tmp_path, published):
    short = TextVectors("short", "other", SKELETONS["ap10k-17"].keypoints, np.ones((17, 8), np.float32),
                        ("horse",), np.ones((1, 8), np.float32))  # fmt: skip
    with pytest.raises(ValueError, match="text short: vectors of 8 numbers by other, this neck reads 384"):
        published.reading(short)
    write_text(short, tmp_path / "short.npz")
    with pytest.raises(ValueError, match="vectors of 8 numbers"):
        open_model(written(config(text="short.npz"), tmp_path))


def test_text_of_another_skeleton_is_refused(published):
    few = TextVectors("few", "other", ("a",), np.ones((1, 384)), ("horse",), np.ones((1, 384)))
    with pytest.raises(ValueError, match="sentences for 1 keypoint, the network gives 17"):
        published.reading(few)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("my-text", "'my-text': not built in"),
        ("gone.npz", "names gone.npz, which does not lie beside the checkpoint; with --config"),
        ("../gone.npz", "not below the checkpoint's folder"),
        ("/etc/gone.npz", "not below the checkpoint's folder"),
        ("", "the config names none"),
    ],
)
def test_without_its_text_a_model_is_used_as_published_and_says_what_is_missing(
    tmp_path, samples, named, message
):
    model = open_model(written(config({"init": "random"}, text=named), tmp_path)).model
    assert message in model.note
    run(model, samples)
    with pytest.raises(NotAvailable, match=r"text for the neck.*beside the checkpoint as text.npz"):
        run(model.through(model.training), samples)


def test_vectors_that_a_user_puts_beside_the_checkpoint_are_read_where_the_config_names_none(
    tmp_path, samples
):
    path = written(config({"init": "random"}, text="", fuse_in_predict=True), tmp_path)
    with pytest.raises(NotAvailable, match=r"as text\.npz"):
        run(open_model(path).model, samples)
    write_text(builtin_text(), tmp_path / "text.npz")
    model = open_model(path).model
    assert model.text.name == "drawn-quadrupeds"
    assert run(model, samples).keypoints.shape == (3, 17, 2)


def test_the_published_projects_own_config_opens_and_none_of_its_code_is_imported(
    tmp_path, samples, monkeypatch
):
    settings = config()
    for key in ("text",):
        settings["model"].pop(key)
    settings["custom_imports"] = {"imports": ["tools.text_fusion_neck"], "allow_failed_imports": False}
    load = {"type": "LoadTextEmbeddings", "global_path": "e/g.npy", "local_path": "e/l.npy"}
    settings["train_dataloader"] = {"dataset": {"pipeline": [load]}}
    path = written(settings, tmp_path)
    assert "names e/g.npy" in open_model(path).note
    (tmp_path / "e").mkdir()
    np.save(tmp_path / "e/g.npy", np.ones(384, np.float32))
    np.save(tmp_path / "e/l.npy", np.ones((17, 384), np.float32))
    model = open_model(path).model
    assert model.text is not None
    assert model.prepare(samples).extra["subject"].shape == (3, 384)
    # Paths of a config count from where its training was started; only the user's own config leads there.
    (tmp_path / "work_dirs").mkdir()
    monkeypatch.chdir(tmp_path)
    above = written(settings, tmp_path / "work_dirs")
    assert open_model(above).model.text is None
    own = tmp_path / "own.py"
    own.write_text(
        "\n".join(f"{key} = {value!r}" for key, value in settings.items() if key != "custom_imports")
    )
    assert open_model(above, config=own).model.text is not None
    # A link out of the folder is no file of the folder.
    (tmp_path / "work_dirs/e").symlink_to(tmp_path / "e")
    assert open_model(above).model.text is None


def test_26_keypoints_of_a_horse_are_a_known_skeleton():
    horse = SKELETONS["horse-26"]
    assert len(horse) == len(horse.sigmas) == 26
    for a, b in enumerate(horse.mirror):
        left, right = horse.keypoints[a], horse.keypoints[b]
        assert left == right or {left[0], right[0]} == {"l", "r"}
        assert left[1:] == right[1:] or a == b
    net = build(config({"num_keypoints": 26}, {"num_keypoints": 26}, {"out_channels": 26}))
    x, y = net.along(torch.randn(1, 3, 64, 64), None, Path(False, ""))
    assert x.shape == y.shape == (1, 26, BINS)


def test_a_users_own_code_may_register_the_published_names(tmp_path, monkeypatch):
    build(config())  # ours are registered
    from mmpose.registry import MODELS

    from workbench.models.text_fusion.neck import TextFusionNeck

    (tmp_path / "neck_of_a_user.py").write_text(
        "from mmpose.registry import MODELS\nfrom torch import nn\n"
        "@MODELS.register_module()\nclass TextFusionNeck(nn.Module):\n    pass\n"
    )
    (tmp_path / "config.py").write_text(
        "custom_imports = dict(imports=['neck_of_a_user'])\nmodel = dict(type='Any')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        run_config(tmp_path / "config.py")
        assert MODELS.module_dict["TextFusionNeck"].__module__ == "neck_of_a_user"
    finally:
        MODELS.module_dict["TextFusionNeck"] = TextFusionNeck


@pytest.mark.parametrize(
    ("refiner", "inference", "said"),
    [
        ({}, Path(False, "inference"), "one uncertain keypoint normalises"),
        ({"softmax": "uncertain"}, Path(False, "inference"), "noise differs"),
        ({"softmax": "uncertain", "noise": 0.0}, Path(False, "inference"), ""),
        ({"mask": "none"}, Path(False, "inference"), ""),
        ({}, Path(False, ""), ""),
    ],
)
def test_answers_that_depend_on_the_rest_of_the_batch_are_said_to(
    published, samples, refiner, inference, said
):
    from workbench.evaluation import protocol_of

    model = dataclasses.replace(published, top_down=copy.deepcopy(published.top_down), inference=inference)
    head = model.module.head.refiner
    with torch.no_grad():
        peaks = run(model.through(Path(False, "")), samples).outputs.simcc
    each = [np.minimum(x.max(-1), y.max(-1)).min() for x, y in zip(*peaks, strict=True)]
    head.confidence_threshold = float(np.mean(sorted(each)[:2]))  # one crop has an uncertain keypoint
    for name, value in refiner.items():
        setattr(head, name, value)
    together = run(model, samples).outputs.simcc
    alone = [run(model, [one]).outputs.simcc for one in samples]
    off = max(
        float(np.abs(one[axis][0] - together[axis][n]).max())
        for n, one in enumerate(alone)
        for axis in (0, 1)
    )
    assert (off > 1e-5) is bool(said)
    assert said in model.batch_text
    text = protocol_of(model, batch_size=8).text()
    assert ("batches of 8 (" in text) is bool(said)
