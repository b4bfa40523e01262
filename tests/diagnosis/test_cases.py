"""The five cases, each closed by one call: what their users must see is in the answer or one command away."""

from __future__ import annotations

import json
import traceback

import pytest

from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_run
from workbench.diagnosis import diagnose
from workbench.diagnosis.claim_causes import ClaimByGrouping
from workbench.diagnosis.codec_causes import CodecCeiling, MaskPassesNothing, masks_in
from workbench.diagnosis.config_causes import MisplacedKeys
from workbench.diagnosis.lab_causes import Rollout
from workbench.diagnosis.loading_causes import NotOpened, NotRun
from workbench.diagnosis.overfit_causes import Overfit
from workbench.diagnosis.package_causes import PackageVersions
from workbench.diagnosis.text_causes import ErrorMessage, HeadOfRecipe, Statements
from workbench.doctor import examination

# Cases 000, 001 and 003: the demo runs.


@pytest.mark.long
def test_case_000_the_fusion_run_is_explained_and_every_view_is_one_command_away():
    base = demo_run("rtmpose-text-base")
    report = diagnose(demo_run("rtmpose-text-fusion"), against=base, data="scenes-val", level="evaluate")
    found = [finding.cause for finding in report.findings]
    assert found[0] in ("scores flattened by the refiner", "untrained refiner")
    for cause in ("score does not rank the poses", "neck skipped in predict", "γ clipped and dropped",
                  "one vector for all", "AP changes alone"):  # fmt: skip
        assert cause in found
    effect = report.findings[0].effect
    assert effect is not None
    # Of all 230 instances; of 32 alone the interval begins at .03.
    assert effect.low > 0.05
    assert "230 annotated instances" in report.protocol
    assert {"open", "curves", "clinic", "film", "paths"} <= commands(report)


@pytest.mark.long
def test_case_001_the_step_that_gives_the_claimed_figure_is_named(tmp_path):
    from workbench.data import builtin, open_data
    from workbench.evaluation.ablation import grouping_variants, sweep
    from workbench.models import open_model

    whole = builtin("scenes-people-val")
    ids = list(whole.labelled_of_image)[:6]
    raw = {**whole.raw, "images": [image for image in whole.raw["images"] if image["id"] in ids]}
    raw["annotations"] = [one for one in whole.raw["annotations"] if one["image_id"] in ids]
    path, images = tmp_path / "people.json", next(iter(whole.images.values())).path.parent
    path.write_text(json.dumps(raw))
    model = open_model(demo_checkpoints("higherhrnet-demo")[-1]).model
    few = open_data(path, images)
    measured = sweep(model, few, lambda outputs: grouping_variants(model, outputs, flip=True), flip=True)
    step = min((one for one in measured.variants if one.ap > 0.01), key=lambda one: one.ap)
    report = diagnose(
        demo_run("higherhrnet-demo"),
        data=path,
        images=images,
        level="evaluate",
        claim={"AP": step.ap},
        causes=[ClaimByGrouping()],
    )
    assert report.findings, report.text()
    assert f"AP is {step.ap:.3f} on 6 images, as claimed" in report.findings[0].evidence
    assert report.findings[0].fix.startswith(
        "follow the model's own rules in this step, where the script has: "
    )
    assert {"open", "oracle", "ablate"} <= commands(report)


@pytest.mark.long
def test_case_003_the_sequence_run_is_explained_and_every_view_is_one_command_away():
    causes = [NotOpened(), Rollout()]
    report = diagnose(demo_run("cape-demo-defects"), data="scenes-val", level="forward", causes=causes)
    found = {finding.cause: finding for finding in report.findings}
    assert "teacher-forced" in found["exposure bias"].evidence
    assert "k/17" in found["exposure bias"].evidence
    assert "support not read" in found
    assert "coordinates disagree" in found
    assert {"open", "curves", "rollout"} <= commands(report)


@pytest.mark.long
def test_case_003_the_bisector_names_the_switch_beside_what_the_lab_measures():
    causes = [NotOpened(), Rollout(), Overfit()]
    # Of the 400 steps that a sequence model is given: the bisector trains it again for each of its switches.
    options = {"data": "scenes-val", "level": "train", "steps": 160}
    report = diagnose(demo_run("cape-demo-defects"), causes=causes, **options)
    found = {finding.cause: finding for finding in report.findings}
    assert next(iter(found)) == "support not read", report.text()
    first = found["support not read"]
    assert (first.confidence, report.groups["support not read"]) == ("proved", "sequence")
    assert "without 'support not read' PCK" in first.evidence
    assert "no answer moves when it is replaced" in first.evidence
    assert first.effect is not None
    assert first.effect.delta > 0.1  # two keypoints of 17
    assert "logged PCK is" in found["coordinates disagree"].evidence
    assert "it is 5 times the mean error" in found["loss in the log is scaled"].evidence
    assert "teacher-forced" in found["exposure bias"].evidence
    assert len(found) == len(report.findings)


# Case 002: an error message, a config that somebody wrote, a checkpoint, a video.


@pytest.fixture(scope="module")
def own_config(tmp_path_factory):
    """The demo's config with a key of the head in the backbone."""
    path = tmp_path_factory.mktemp("case002") / "config.py"
    text = demo_config().read_text()
    path.write_text(text.replace("backbone=dict(", "backbone=dict(\n        in_channels=768,", 1))
    return path


@pytest.fixture(scope="module")
def real_error(tmp_path_factory):
    """The traceback of the demo's own head where its maps are not flattened."""
    import torch

    from workbench.models import open_model

    head = open_model(demo_checkpoints()[-1]).model.module.head
    path = tmp_path_factory.mktemp("case002") / "error.txt"
    try:
        head.mlp(torch.zeros(1, 17, 8, 8))
    except RuntimeError:
        path.write_text(traceback.format_exc())
    return path


def commands(report):
    return {one.line.split()[1] for one in report.commands}


@pytest.fixture(scope="module")
def case_002(own_config, real_error):
    causes = [NotOpened(), MisplacedKeys(), ErrorMessage(), NotRun()]
    targets = [real_error, own_config, demo_checkpoints()[-1]]
    return diagnose(targets, data="scenes-val", level="forward", causes=causes, sample=4)


def test_case_002_says_what_the_file_is_and_what_the_two_shapes_mean(case_002):
    assert case_002.subject.startswith("epoch_40.pth is RTMPose of stem 16")
    found = {finding.cause: finding for finding in case_002.findings}
    error = found["flatten is missing before a linear layer"]
    assert "(136x8 and 64x128)" in error.evidence
    assert "136 = 17·8 and 8·8 = 64" in error.evidence
    assert "this layer is head.mlp.1.weight, [128, 64]" in error.evidence
    assert "x.flatten(2)" in error.fix


def test_case_002_names_the_key_that_does_not_belong_and_takes_it_out(case_002):
    found = {finding.cause: finding for finding in case_002.findings}
    key = found["config keys at a wrong place"]
    assert "model.backbone.in_channels: CSPNeXt takes no 'in_channels'" in key.evidence
    assert "-        in_channels=768," in key.diff.splitlines()
    assert not any(line.startswith("+ ") for line in key.diff.splitlines())


def test_case_002_tests_the_rest_with_the_checkpoints_own_config(case_002):
    assert any("the rest is tested with the checkpoint's own config" in note for note in case_002.notes)
    assert case_002.figures["AP"] > 0


def test_case_002_explains_raw_scores(case_002):
    note = next(note for note in case_002.notes if note.startswith("keypoint scores"))
    assert "above 1 is normal here" in note
    assert "smaller of the two raw SimCC peaks" in note


def test_case_002_names_the_commands_that_show_the_rest(case_002):
    assert {"open", "doctor", "audit", "probe"} <= commands(case_002)


def test_case_002_says_which_versions_matter(shared, monkeypatch):
    # Every package is imported in a process of its own by the doctor's tests.
    monkeypatch.setattr(examination, "_probe", lambda code: examination.Probe(True))
    report = diagnose([shared / "seeds" / "002.md"], level="forward", causes=[PackageVersions()])
    evidence = report.ruled_out["package versions that do not fit"]
    assert "no installed version explains the message" in evidence
    assert "mmpose 1.3.2" in evidence
    assert "mmcv 2.1.0" in evidence


def test_case_002_scores_keypoints_on_the_users_video(tmp_path):
    import numpy as np

    from workbench.data import builtin
    from workbench.data.video import VideoWriter

    pose_set = builtin("scenes-val")
    image = pose_set.sample(pose_set.labelled[0]).image
    image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
    video = tmp_path / "horse.mp4"
    with VideoWriter(video, 10) as written:
        for _ in range(4):
            written.write(image)
    report = diagnose([demo_checkpoints()[-1], video], level="forward", causes=[NotOpened()])
    assert any("keypoint scores on horse.mp4" in note for note in report.notes)
    line = next(one.line for one in report.commands if one.line.startswith("workbench predict"))
    assert f"--image {video}" in line


# Case 004: model code, a YAML config, an audit written from memory.

AUDIT = """# Audit of our reproduction against facebookresearch/sapiens

Source: `pose/configs/sapiens_pose/coco/sapiens_1b-210e_coco-1024x768.py`

- Train with a batch size of 32, weight decay of 0.05, a learning rate of 5e-4.
- 10 epochs warm-up, then cosine.
- UDP is an offset-based coordinate encoding.

**Fix required**:
```python
decoder = nn.Sequential(
    nn.ConvTranspose2d(1024, 768, kernel_size=4, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(768),
    nn.SiLU(inplace=True),
    nn.Conv2d(768, 768, kernel_size=1, bias=False),
)
```

```python
codec = dict(type='UDPHeatmap', input_size=(1024, 768), heatmap_size=(256, 192), sigma=2)
```
"""
CODE = """
import torch


class Stage2:
    def loss(self, predictions, temperature=0.5, confidence_threshold=0.7):
        with torch.no_grad():
            mean = torch.stack(predictions).mean(0)
            sharp = torch.softmax(mean.flatten(2) / temperature, dim=-1)
            confidence = sharp.max(dim=-1)[0]
            conf_mask = (confidence > confidence_threshold).float()
        return sum((p - mean).pow(2).mean() * conf_mask.mean() for p in predictions)
"""
SIZES = "model:\n  input_size: [192, 256]\n  heatmap_size: [48, 64]\ntraining:\n  learning_rate: 2.0e-4\n"


@pytest.fixture(scope="module")
def case_004(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case004")
    for name, text in (("audit.md", AUDIT), ("stage2.py", CODE), ("config.yaml", SIZES)):
        (folder / name).write_text(text)
    targets = [folder / "audit.md", folder / "config.yaml", folder / "stage2.py"]
    causes = [Statements(), HeadOfRecipe(), MaskPassesNothing(), CodecCeiling()]
    return diagnose(targets, level="forward", causes=causes)


def test_case_004_tells_right_statements_from_wrong_ones(case_004):
    found = {finding.cause: finding for finding in case_004.findings}
    said = found["statements that the published files deny"]
    counts = {number.name: number.value for number in said.numbers}
    assert counts["statements right"] >= 1
    assert counts["statements wrong"] >= 6
    assert "codec.sigma 2, published 6" in said.evidence
    assert "audit" in commands(case_004)


def test_case_004_says_why_the_head_cannot_load_the_published_weights(case_004):
    found = {finding.cause: finding for finding in case_004.findings}
    head = found["head cannot load the published weights"]
    assert "BatchNorm2d, the published file InstanceNorm2d" in head.evidence
    assert "a strict load fails" in head.evidence
    assert "+nn.InstanceNorm2d(768)," in head.diff
    assert "+nn.Conv2d(768, 768, kernel_size=1, bias=True)," in head.diff


def test_case_004_counts_the_keypoints_that_pass_the_mask(case_004):
    found = {finding.cause: finding for finding in case_004.findings}
    mask = found["consistency loss is always 0"]
    assert "stage2.py, line 11" in mask.evidence
    assert "even a perfect map reaches only 0.0023" in mask.evidence
    assert "0 of 17 keypoints" in mask.evidence


def test_case_004_measures_what_the_codec_leaves(case_004):
    sentence = case_004.ruled_out["codec ceiling"]
    assert "192x256, maps 48x64, plain Gaussian" in sentence
    assert "768x1024, maps 192x256, UDP Gaussian" in sentence
    assert any(one.line.startswith("workbench codec --input 192x256") for one in case_004.commands)


def test_case_004_from_the_audit_alone(shared):
    causes = [Statements(), HeadOfRecipe(), MaskPassesNothing()]
    report = diagnose([shared / "seeds" / "004.md"], level="files", causes=causes)
    assert [finding.cause for finding in report.findings] == [
        "statements that the published files deny",
        "head cannot load the published weights",
        "consistency loss is always 0",
    ]
    assert "46 statements right, 48 wrong" in report.findings[0].evidence


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (CODE, 1),
        ("mask = (peak > 0.5)\n", 0),
        ("p = torch.softmax(maps.flatten(2), -1)\nok = p.max(-1)[0]\nmask = conf > 0.3\n", 1),
        ("p = torch.softmax(maps, -1)\nmask = (peak > conf > 0.3)\n", 1),
        ("this is no code: conf > threshold", 0),
        # one word, one number and one call without an end, for which expressions took hours
        ("conf0" * 30_000, 0),
        (f"x = {'0' * 100_000}a\n", 0),
        ("p = " + "softmax(" * 30_000 + "\nmask = conf > 0.3\n", 1),
    ],
    ids=range(8),
)
def test_masks_are_read_from_code_that_is_never_run(code, count):
    assert len(list(masks_in(code, "a.py"))) == count


SMALL = """
cups = dict(dataset_name='cups', sigmas=[{sigmas}], keypoint_info={{
    0: dict(name='left_rim', id=0, swap='right_rim'), 1: dict(name='right_rim', id=1, swap='left_rim'),
    2: dict(name='base', id=2, swap='')}})
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1.0)
model = dict(type='TopdownPoseEstimator', head=dict(type='HeatmapHead', out_channels=3, decoder=codec))
val_dataloader = dict(dataset=dict(type='CocoDataset', metainfo=cups))
"""


@pytest.mark.parametrize(("sigmas", "cost"), [(".05, .05, .08", 0.208), (".5, .5, .5", 0.0)])
def test_the_ceiling_of_a_codec_is_that_of_the_configs_own_keypoints(tmp_path, sigmas, cost):
    """COCO's constants would accuse the same maps of .275 whatever the keypoints are."""
    (tmp_path / "cups.py").write_text(SMALL.format(sigmas=sigmas))
    report = diagnose([tmp_path / "cups.py"], level="forward", causes=[CodecCeiling()])
    assert [one.effect.delta for one in report.findings if one.effect] == (
        [pytest.approx(cost, abs=0.002)] if cost else []
    )
    said = report.findings[0].evidence if cost else report.ruled_out["codec ceiling"]
    assert "with the OKS sigmas of the config's data set" in said


def test_the_ceiling_of_a_codec_is_measured_on_the_users_own_instances(tmp_path):
    (tmp_path / "c.yaml").write_text("model:\n  input_size: [256, 256]\n  heatmap_size: [64, 64]\n")
    report = diagnose([tmp_path / "c.yaml"], level="forward", causes=[CodecCeiling()], data="scenes-val")
    said = report.ruled_out.get("codec ceiling") or report.findings[0].evidence
    assert "annotated instances" in said
