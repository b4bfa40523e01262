"""Names, swaps and sigmas of keypoints: those of the model's own files are used, and differences are said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from workbench.core import Codec, NotAvailable, Skeleton
from workbench.core.flip import no_mirror
from workbench.core.wrapping import Wrapper
from workbench.evaluation.protocol import judged_by
from workbench.models.mmpose.config import described_by, skeleton_of
from workbench.models.naming import named_as, numbered, with_skeleton
from workbench.skeletons import SKELETONS

AP10K = SKELETONS["ap10k-17"]
NAMES = [f"p{k}" for k in range(17)]


def meta(names=AP10K.keypoints, mirror=AP10K.mirror, sigmas=AP10K.sigmas, parsed=False, **more):
    """Metainfo as a config writes it, or as a checkpoint keeps it."""
    if parsed:
        by_id = dict(enumerate(names))
        fields = {"keypoint_id2name": by_id, "flip_indices": list(mirror), "sigmas": np.array(sigmas)}
        return {"dataset_name": "mine", **fields, **more}
    swaps = [names[j] if j != k else "" for k, j in enumerate(mirror)]
    info = {k: {"name": n, "id": k, "swap": s} for k, (n, s) in enumerate(zip(names, swaps, strict=True))}
    return {"dataset_name": "mine", "keypoint_info": info, "sigmas": list(sigmas), **more}


def config(metainfo):
    return {"test_dataloader": {"dataset": {"type": "SomeDataset", "metainfo": metainfo}}}


@pytest.mark.parametrize("parsed", [False, True])
def test_own_sigmas_and_swaps_are_used_and_differences_said(parsed):
    assert described_by(meta(parsed=parsed)) == (AP10K, "")
    larger, note = described_by(meta(sigmas=[10 * s for s in AP10K.sigmas], parsed=parsed))
    np.testing.assert_allclose(larger.sigmas, 10 * np.array(AP10K.sigmas))
    assert (larger.keypoints, larger.mirror) == (AP10K.keypoints, AP10K.mirror)
    assert note == "its sigmas are 10 times those published for ap10k-17"
    still, note = described_by(meta(mirror=range(17), parsed=parsed))
    assert still.mirror == tuple(range(17))
    assert note == "its swaps differ from those published for ap10k-17 at 14 keypoints"
    own, note = described_by(meta(NAMES, parsed=parsed))
    assert (own.name, own.mirror, own.sigmas, note) == ("mine", AP10K.mirror, AP10K.sigmas, "")
    bare, note = described_by(meta(sigmas=(), parsed=parsed))
    assert (bare, note) == (AP10K, "")


@pytest.mark.parametrize("names", [AP10K.keypoints, NAMES], ids=["published", "own"])
def test_a_swap_that_is_none_is_named_and_nothing_is_mirrored(names):
    wrong = meta(names)
    wrong["keypoint_info"][0]["swap"] = "x" + names[1]
    skeleton, note = skeleton_of(config(wrong), None, 17)
    assert skeleton.mirror == ()
    said = f"keypoint {names[0]!r} swaps with {'x' + names[1]!r}, which is no keypoint (nearest: {names[1]}"
    assert said in note
    assert "which is no keypoint" in skeleton.source
    one_way = meta(names)
    one_way["keypoint_info"][0]["swap"] = ""
    skeleton, note = skeleton_of(config(one_way), None, 17)
    assert skeleton.mirror == ()
    assert f"keypoint {names[1]!r} swaps with {names[0]!r}, which swaps with {names[0]!r}" in note


@pytest.mark.parametrize("sigmas", [[0.1] * 16, [0.0] * 17, [float("nan")] * 17, [float("inf")] * 17])
def test_sigmas_that_are_none_are_refused(sigmas):
    with pytest.raises(ValueError, match="expected 17 sigmas above 0"):
        described_by(meta(sigmas=sigmas))
    # Those of a checkpoint are called so, and stand behind a config that describes its data set.
    kept = meta(sigmas=sigmas, parsed=True)
    skeleton, note = skeleton_of(config(meta()), kept, 17)
    assert skeleton.sigmas == AP10K.sigmas
    assert "not from the checkpoint (the checkpoint's dataset_meta: expected 17 sigmas above 0" in note
    with pytest.raises(ValueError, match=r"the checkpoint's dataset_meta: expected 17 .*--config"):
        skeleton_of({}, kept, 17)
    with pytest.raises(ValueError, match="the config's metainfo of mine: expected 17 sigmas above 0"):
        skeleton_of(config(meta(sigmas=sigmas)), meta(parsed=True), 17)


PARTIAL = (
    {"classes": ("person",), "palette": [(1, 2, 3)]}, {"dataset_name": "ap10k"}, {"keypoint_id2name": {}},
    {"keypoint_info": {}}, {"sigmas": [0.1] * 17}, {},
)  # fmt: skip


@pytest.mark.parametrize("partial", PARTIAL, ids=str)
def test_metainfo_without_names_stands_before_nothing(partial):
    skeleton, note = skeleton_of(config(meta(NAMES)), partial, 17)
    assert skeleton.keypoints == tuple(NAMES)
    assert "taken from the config's data set, mine" in note
    skeleton, note = skeleton_of({}, partial, 17)
    assert numbered(skeleton)
    assert "they are numbered" in note
    assert skeleton_of(config(partial), None, 17)[0].name == "own-17"


def test_names_for_another_number_of_keypoints_are_said_and_not_called_missing():
    described = config(meta(NAMES))
    skeleton, note = skeleton_of(described, meta(parsed=True), 5)
    assert skeleton.name == "own-5"
    assert note == (
        "neither checkpoint nor config names the 5 keypoints of the output (named are 17 by the checkpoint's "
        "dataset_meta and 17 by the config's metainfo of mine): they are numbered"
    )
    assert "named are" not in skeleton_of({}, None, 5)[1]
    assert skeleton_of(described, meta(parsed=True), 0)[1].startswith("names are those in the checkpoint")


def test_a_checkpoints_own_metainfo_counts_and_what_the_config_has_otherwise_is_said():
    larger = [10 * s for s in AP10K.sigmas]
    skeleton, note = skeleton_of(config(meta(sigmas=larger)), meta(parsed=True), 17)
    assert skeleton.sigmas == AP10K.sigmas
    assert note == "sigmas are those in the checkpoint; its config's data set, mine, has others"
    assert skeleton_of(config(meta()), meta(parsed=True), 17)[1] == ""
    listed = meta(parsed=True, keypoint_id2name=list(AP10K.keypoints))
    assert skeleton_of({}, listed, 17)[0].keypoints == AP10K.keypoints


def test_a_flip_without_left_and_right_says_what_is_wrong_with_the_swaps():
    skeleton = described_by(meta(NAMES, (0, 1, 99), parsed=True))[0]
    assert "'p2' swaps with 99, which is no keypoint" in no_mirror(skeleton)
    assert no_mirror(AP10K) == ""


@dataclasses.dataclass(frozen=True)
class Model:
    """As much of a model as naming asks for."""

    skeleton: Skeleton
    codec: Codec | None = None
    note: str = "they are numbered"


@dataclasses.dataclass(frozen=True)
class Around(Wrapper):
    """A model around another."""

    model: Model


def test_a_numbered_skeleton_takes_everything_of_the_data_set():
    numbers = Skeleton("own-17", tuple(f"keypoint {k}" for k in range(17)))
    renamed = named_as(Model(numbers), AP10K, "my-set")
    assert renamed.skeleton == AP10K
    assert renamed.note == "keypoints are called ap10k-17, as in my-set"
    before = "normalisation assumed: RGB; no file names them: they are numbered; box 1.25"
    assumed = Model(numbers, note=before)
    assert named_as(assumed, AP10K, "my-set").note == (
        "normalisation assumed: RGB; box 1.25; keypoints are called ap10k-17, as in my-set"
    )
    assert named_as(Around(Model(numbers)), AP10K, "my-set").skeleton == AP10K
    for other in (Model(AP10K), Model(Skeleton("own-2", ("keypoint 0", "keypoint 1")))):
        assert named_as(other, SKELETONS["coco-17"], "a") is other
    assert named_as(Model(numbers), numbers, "a").skeleton == numbers


def test_a_skeleton_that_the_user_names_has_as_many_keypoints():
    assert with_skeleton(Model(SKELETONS["coco-17"]), AP10K, "said").skeleton == AP10K
    with pytest.raises(ValueError, match="skeleton mpii-16 has 16 keypoints, the model gives 17"):
        with_skeleton(Model(AP10K), SKELETONS["mpii-16"], "said")
    with pytest.raises(NotAvailable, match="names its keypoints itself"):
        with_skeleton(type("Own", (), {"skeleton": AP10K})(), AP10K, "said")


def test_a_set_is_judged_with_the_models_sigmas_where_the_names_are_the_same():
    from workbench.data.pose_set import PoseSet

    own = dataclasses.replace(AP10K, sigmas=(), mirror=(), name="own-17")
    wider = dataclasses.replace(AP10K, sigmas=tuple(10 * s for s in AP10K.sigmas), source="metainfo")
    for skeleton in (own, AP10K):
        judged = judged_by(PoseSet("a", skeleton, (), {}, {}), wider).skeleton
        assert (judged.sigmas, judged.mirror) == (wider.sigmas, AP10K.mirror)
        assert judged.source == "the model's own sigmas, metainfo"
    for model in (AP10K, SKELETONS["coco-17"], own):
        unchanged = PoseSet("a", AP10K, (), {}, {})
        assert judged_by(unchanged, model) is unchanged


def test_sigmas_of_the_file_come_after_a_models_own_and_before_the_published():
    from workbench.data.pose_set import PoseSet
    from workbench.skeletons import FILE_SIGMAS

    stated = dataclasses.replace(AP10K, sigmas=(0.05,) * 17, source=FILE_SIGMAS)
    pose_set = PoseSet("a", stated, (), {}, {})
    assert judged_by(pose_set, AP10K) is pose_set  # the published ones are nobody's own
    wider = dataclasses.replace(AP10K, sigmas=tuple(2 * s for s in AP10K.sigmas))
    assert judged_by(pose_set, wider).skeleton.sigmas == wider.sigmas


def test_the_command_line_takes_a_skeleton_and_names_near_ones(workbench):
    code, _, err = workbench("evaluate", "--demo", "--skeleton", "ap10k")
    assert code == 2
    assert "--skeleton ap10k: no such skeleton; nearest: ap10k-17" in err
