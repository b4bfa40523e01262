"""--sigmas and --skeleton: every verb that measures a model takes them, with the figure of `evaluate`."""

from __future__ import annotations

import json

import pytest

from tests.apps import painted
from tests.evaluation.sweeps.conftest import write_run
from workbench.checkpoints.demo import demo_checkpoints, demo_config
from workbench.cli.options import DataOptions
from workbench.data import builtin
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.targets import sorted_targets
from workbench.evaluation import Predictions
from workbench.evaluation.sweeps.rules import SweepRules, SweepSource
from workbench.skeletons import SKELETONS

WIDE = "0.2"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Options for the first images of a built-in set: `few(name, count)`."""
    folder = tmp_path_factory.mktemp("few")

    def words(name, count):
        scenes = builtin(name)
        images = scenes.raw["images"][:count]
        ids = {entry["id"] for entry in images}
        raw = {
            **scenes.raw,
            "images": [{**e, "file_name": scenes.images[e["id"]].path.name} for e in images],
            "annotations": [a for a in scenes.raw["annotations"] if a["image_id"] in ids],
        }
        (folder / f"{name}.json").write_text(json.dumps(raw))
        return ["--data", folder / f"{name}.json", "--images", scenes.images[images[0]["id"]].path.parent]

    return words


@pytest.fixture
def facts_of(workbench):
    def answer(*words):
        code, out, err = workbench(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return answer


@pytest.mark.long
def test_a_bottom_up_model_has_one_ap_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints("higherhrnet-demo")[-1], *few("scenes-people-val", 3)]
    wide, narrow = (facts_of("evaluate", *words, "--sigmas", s)["AP"] for s in (WIDE, "0.1"))
    assert wide > narrow
    for sigmas, ap in ((WIDE, wide), ("0.1", narrow)):
        assert facts_of("oracle", *words, "--sigmas", sigmas)["steps"][0]["AP"] == pytest.approx(ap, abs=1e-9)
        swept = facts_of("ablate", "tags", *words, "--sigmas", sigmas)
        assert swept["reference"]["AP"] == pytest.approx(ap, abs=1e-9)


@pytest.mark.long
def test_a_top_down_model_has_one_ap_and_one_oks_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints()[-1], *few("scenes-val", 3), "--config", demo_config()]
    whole = facts_of("evaluate", *words, "--sigmas", WIDE)
    mean = sum(one["oks"] for one in whole["instances"]) / len(whole["instances"])
    assert facts_of("oracle", *words, "--sigmas", WIDE)["steps"][0]["AP"] == pytest.approx(
        whole["AP"], abs=1e-9
    )
    assert facts_of("probe", "flip", *words, "--sigmas", WIDE)["value"] == pytest.approx(mean, abs=1e-9)


@pytest.mark.long
def test_a_conditioned_model_has_one_ap_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints("rtmpose-text-fusion")[-1], *few("scenes-val", 3)]
    ap = facts_of("evaluate", *words, "--sigmas", WIDE)["AP"]
    assert facts_of("ablate", "conditioning", *words, "--sigmas", WIDE)["reference"]["AP"] == pytest.approx(
        ap
    )
    assert facts_of("clinic", *words, "--sigmas", WIDE)["ablation"]["reference"]["AP"] == pytest.approx(ap)


def numbered(words):
    """The same set in a file that gives its keypoints no names."""
    file = words[1].with_name(f"numbered-{words[1].name}")
    raw = json.loads(words[1].read_text())
    for category in raw["categories"]:
        del category["keypoints"], category["skeleton"]
    file.write_text(json.dumps(raw))
    return [words[0], file, *words[2:]]


def test_skeleton_names_the_keypoints_of_a_numbered_set_wherever_it_is_opened(workbench, few, tmp_path):
    words = numbered(few("scenes-val", 1))
    data = DataOptions(str(words[1]), words[3])
    assert data.open("any").skeleton.keypoints[:2] == ("0", "1")
    assert data.open("any", None, "ap10k-17").skeleton == SKELETONS["ap10k-17"]
    rules = SweepRules(opening={"skeleton": "ap10k-17"})
    swept = SweepSource.located(tmp_path, words[1], words[3]).open_data(rules, 17)
    assert swept.skeleton == SKELETONS["ap10k-17"]
    case = Case(sorted_targets([words[1]]), Options(skeleton="ap10k-17"))
    assert case.read_set().skeleton == SKELETONS["ap10k-17"]
    code, out, err = workbench("data", "lint", *words[1:], "--no-images", "--skeleton", "ap10k-17", "--json")
    assert json.loads(out)["skeleton"] == "ap10k-17", err
    # The AP that is left needs OKS sigmas, which come with the names.
    code, _, err = workbench("codec", *words, "--codec", "dark")
    assert code == 2
    assert "sigmas" in err
    code, _, err = workbench("codec", *words, "--codec", "dark", "--skeleton", "ap10k-17")
    assert code == 0, err


@pytest.mark.long
def test_every_verb_has_one_ap_on_a_numbered_set(facts_of, few):
    words = [demo_checkpoints()[-1], *few("scenes-val", 3), "--config", demo_config()]
    ap = facts_of("evaluate", *words)["AP"]
    words = [words[0], *numbered(words[1:]), "--skeleton", "ap10k-17"]
    assert facts_of("evaluate", *words)["AP"] == ap
    assert facts_of("oracle", *words)["steps"][0]["AP"] == ap
    assert facts_of("graft", words[0], *words, "--resamples", "10")["b"]["AP"] == ap


@pytest.mark.parametrize(
    "verb", [["oracle"], ["ablate", "grouping"], ["ablate", "conditioning"], ["probe", "input"], ["clinic"]]
)
def test_sigmas_of_another_skeleton_are_refused(workbench, few, verb):
    name = {"ablate grouping": "higherhrnet-demo", "clinic": "rtmpose-text-fusion"}.get(" ".join(verb), "")
    name = name or ("rtmpose-text-fusion" if "conditioning" in verb else "rtmpose-demo")
    config = ["--config", demo_config()] if name == "rtmpose-demo" else []
    scenes = "scenes-people-val" if name == "higherhrnet-demo" else "scenes-val"
    words = [demo_checkpoints(name)[-1], *few(scenes, 1), *config, "--sigmas", "0.1,0.2"]
    code, _, err = workbench(*verb, *words)
    assert (code, "--sigmas: expected one number above 0, or 17" in err) == (2, True), err


WITH_OWN_SIGMAS = """
import dataclasses
from tests.apps import painted

def load(checkpoint, device):
    model, report = painted.load(checkpoint, device)
    sigmas = [5.0] * 9 + [30.0] * 8
    return dataclasses.replace(model, skeleton=dataclasses.replace(painted.COCO, sigmas=sigmas)), report
"""


def test_nms_and_pose_scores_take_the_sigmas_that_count_in_every_verb(facts_of, tmp_path):
    (tmp_path / "own.py").write_text(WITH_OWN_SIGMAS)
    file = write_run(tmp_path / "run", epochs=((1, 6), (2, 3))) / "epoch_1.pth"
    data = painted.write_data(tmp_path / "data", 4)
    words = ["--data", data, "--adapter", tmp_path / "own.py"]

    def written(*given):
        facts_of("evaluate", file, *words, *given, "--out", tmp_path / "one.parquet")
        return Predictions.from_parquet(tmp_path / "one.parquet")[0]

    # The pose score `oracle` is an OKS: that of the model's sigmas, or of --sigmas.
    for sigmas in ([], ["--sigmas", "0.02"]):
        score = ["--pose-score", "oracle", *sigmas]
        one, out = written(*score), tmp_path / f"compared{len(sigmas)}"
        facts_of("compare", file.parent, *words, *score, "--out", out, "--resamples", "10")
        compared = Predictions.from_parquet(out / "epoch_1.parquet")[0]
        assert compared.score.tolist() == pytest.approx(one.score.tolist(), abs=1e-9)
        facts_of("history", file.parent, *words, *score, "--out", tmp_path / f"history{len(sigmas)}")
        history = Predictions.from_parquet(tmp_path / f"history{len(sigmas)}" / "epoch_1.parquet")[0]
        assert history.score.tolist() == pytest.approx(one.score.tolist(), abs=1e-9)
    # Two boxes of each person, read with other keypoints: the same pose by wide sigmas, two by narrow ones.
    boxes = [
        {"image_id": n, "category_id": 1, "bbox": [10, 6, 64 * size, 48 * size], "score": 1 / size}
        for n in range(1, 5)
        for size in (1.0, 1.2)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words += ["--boxes", tmp_path / "boxes.json"]
    for sigmas, count in ([], 4), (["--sigmas", "0.001"], 8):
        assert len(written(*sigmas)) == count
        out = tmp_path / f"swept{count}"
        facts_of("sweep", file.parent, *words, *sigmas, "--out", out)
        assert {len(Predictions.from_parquet(one)[0]) for one in out.rglob("epoch_1*.parquet")} == {count}


def test_compare_says_which_models_are_judged_with_the_sigmas_of_another(facts_of, tmp_path):
    per_epoch = WITH_OWN_SIGMAS.replace("8\n", "8 if checkpoint.path.stem == 'epoch_1' else [2.0] * 17\n")
    (tmp_path / "own.py").write_text(per_epoch)
    run = write_run(tmp_path / "run", epochs=((1, 6), (2, 3)))
    words = [run, "--data", painted.write_data(tmp_path / "data", 2), "--adapter", tmp_path / "own.py"]
    (note,) = facts_of("compare", *words, "--resamples", "10")["notes"]
    assert "judged with the OKS sigmas of epoch_1, 5 to 30; the figures of epoch_2 by" in note
    assert facts_of("compare", *words, "--resamples", "10", "--sigmas", "5")["notes"] == []
