"""workbench rollout on the demo: case 003, and what the cured run does instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_episodes import mp100_like
from workbench.cli.rollout import repeat_command
from workbench.core import DecodeOptions
from workbench.data import builtin


@pytest.mark.long
def test_the_demo_shows_all_of_case_003_at_once(workbench):
    code, out, err = workbench("rollout", "--demo", "--bisect", 12, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["pck_forced"] == 1.0
    assert facts["gap"] > 0.5
    assert facts["pck_can_be"] == "k/17"
    assert [row["step"] for row in facts["per_step"]] == list(range(17))
    assert facts["prefix"][0]["pck"] == facts["pck_free"]
    assert facts["prefix"][-1]["pck"] == 1.0
    early, late = facts["epochs"]
    assert (early["pck_forced"], late["pck_forced"]) == (1.0, 1.0)
    assert late["pck_free"] <= early["pck_free"] < 0.5, "35 epochs more bring nothing"
    assert set(facts["support"]) == {"real", "other", "shuffled", "zero", "mean"}
    assert facts["support_verdict"] == "not read"
    wrong = {claim["what"]: claim for claim in facts["coordinates"] if not claim["agrees"]}
    assert set(wrong) == {"logged coordinate loss", "logged PCK"}
    assert wrong["logged PCK"]["expected"] == facts["pck_free"]
    assert wrong["logged PCK"]["found"] < 0.2
    # Twelve steps teach nothing, but what needs no learning to be seen is named already.
    named = {one["culprit"] for one in facts["bisection"]["evidence"]}
    assert {"support", "loss scale"} <= named
    assert [trial["without"] for trial in facts["bisection"]["trials"]][:2] == ["support", "teacher forcing"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bisector_names_the_switch_of_case_003(workbench):
    code, out, err = workbench("rollout", "--demo", "--bisect", 400, "--json")
    assert code == 0, err
    found = json.loads(out)["bisection"]
    assert found["verdict"] == "train and inference paths disagree"
    assert found["culprit"] == "teacher forcing"
    named = [one["culprit"] for one in found["evidence"]]
    assert named[:3] == ["support", "loss scale", "pck coordinates"]


def test_early_and_late_epochs_of_teacher_forcing_alone(workbench, root):
    files = [root / f"checkpoints/cape-demo/epoch_{n}.pth" for n in (10, 40)]
    code, out, err = workbench("rollout", *files, "--data", "scenes-val", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["gap"] > 0.2
    assert all(claim["agrees"] for claim in facts["coordinates"])


def test_the_cured_run_finds_them_alone_and_needs_its_support(workbench, root):
    file = root / "checkpoints/cape-demo-cured/epoch_80.pth"
    code, out, err = workbench("rollout", file, "--data", "scenes-val", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["gap"] == 0
    assert facts["support"]["real"] == 1.0
    assert facts["support"]["shuffled"] < 0.5
    assert facts["support_verdict"] == "used"
    assert facts["leak_verdict"] == "none"
    assert facts["instance"] == "000001/1", "as --instance takes it"
    assert facts["support_instance"] == "", "the instance itself"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a checkpoint"),
        (("absent.pth",), "absent.pth"),
        (("--demo", "--instance", "nothing/1"), "nearest"),
        (("--demo", "--threshold", "0"), "threshold above 0"),
        (("--demo", "--normaliser", "head"), "longer side"),
    ],
)
def test_a_mistake_is_one_sentence(workbench, words, said):
    code, out, err = workbench("rollout", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_of_categories_with_their_own_keypoints_gives_an_episode(workbench, root, tmp_path):
    data, images = mp100_like(tmp_path, 2), tmp_path / "images"
    adapter = ("--adapter", root / "tests/adapters/sequence.py", "--data", data, "--images", images)
    code, out, err = workbench("rollout", *adapter, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert len(facts["per_step"]) == 3, "the keypoints of the category, and not the model's own"
    code, out, err = workbench("rollout", *adapter, "--category", "face", "--json")
    assert code == 0, err
    assert len(json.loads(out)["per_step"]) == 68
    code, out, err = workbench("look", "prefix", *adapter, "--json")
    assert code == 0, err
    assert json.loads(out)["k"][-1] == 3
    code, out, err = workbench("rollout", *adapter, "--instance", "1/1")
    assert (code, out) == (2, "")
    assert "choose one with --category" in err


def test_predict_shows_an_example_of_a_data_set_to_the_model(workbench, root, tmp_path):
    """The same keypoints as the model gives with that example; without one it is said how to name it."""
    from workbench.core import Sample
    from workbench.core.capabilities import TakesSupport
    from workbench.data.boxes import whole_image
    from workbench.data.images import write_image
    from workbench.models import open_model

    scenes = builtin("scenes-val")
    shown = scenes.sample(scenes.labelled[0])
    other = next(i for i in scenes.labelled if scenes.instances[i].image_id != scenes.instances[0].image_id)
    image = write_image(tmp_path / "own.png", scenes.sample(other).image)
    run = root / "checkpoints/cape-demo/epoch_40.pth"
    words = ("predict", run, "--image", image, "--no-flip", "--json")
    code, out, err = workbench(*words, "--data", "scenes-val", "--support", shown.key)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["support"] == f"support {shown.key}"
    bare = open_model(run).model
    assert isinstance(bare, TakesSupport)
    model = bare.supported_by([shown], scenes.skeleton)
    pixels = scenes.sample(other).image
    batch = model.prepare([Sample(pixels, whole_image(pixels))])
    (wanted,) = model.decode(model.rollout(batch), batch, DecodeOptions())
    np.testing.assert_allclose(answer["instances"][0]["keypoints"], wanted.keypoints, atol=1e-3)
    for more, says in (
        ((), "--support IMAGE/ANNOTATION --data JSON"),
        (("--support", shown.key), "expected --data"),
        (("--data", "scenes-val"), "workbench evaluate --data"),
        (("--data", "scenes-val", "--support", "nobody"), "--support: no 'nobody' in scenes-val; nearest: "),
    ):
        code, out, err = workbench(*words, *more)
        assert (code, out, says in err) == (2, "", True), err
    code, _, err = workbench("predict", "--demo", "--data", "scenes-val", "--support", shown.key)
    assert (code, "this model takes no support example" in err) == (2, True)


@pytest.mark.long  # the network runs over whole sets: 30 s on a busy machine
def test_evaluate_shows_one_instance_to_the_model_as_the_support_of_all(workbench, root, tmp_path):
    scenes = builtin("scenes-val")
    first = next(iter(scenes.images.values()))
    people = [a for a in scenes.raw["annotations"] if a["image_id"] == first.id]
    content = {**scenes.raw, "images": [e for e in scenes.raw["images"] if e["id"] == first.id]}
    (tmp_path / "one.json").write_text(json.dumps({**content, "annotations": people}))
    data = ("--data", tmp_path / "one.json", "--images", first.path.parent, "--metric", "pck", "--json")
    run = root / "checkpoints/cape-demo/epoch_40.pth"
    key = f"{first.path.stem}/{people[0]['id']}"
    code, out, err = workbench("evaluate", run, *data, "--support", key)
    assert (code, f"support {key}," in out) == (0, True), err
    code, _, err = workbench("evaluate", run, *data, "--support", "nobody")
    assert (code, "--support: no 'nobody' in one; nearest: " in err) == (2, True)
    code, _, err = workbench("evaluate", "--demo", "--support", key)
    assert (code, "this model takes no support example" in err) == (2, True)


def test_the_command_of_a_bisection_repeats_its_options_and_quotes_names():
    given = {
        "data": "$(a).json",
        "images": None,
        "instance": "1;x/2",
        "adapter": Path("-mine.py"),
        "remap": True,
    }
    line = repeat_command([Path("--demo")], {**given, "bits": 0}, 5)
    data, rest = "--data '$(a).json' --instance '1;x/2'", "--adapter ./-mine.py --remap --bisect 5"
    assert line == f"workbench rollout ./--demo {data} {rest}"
    assert repeat_command([], {}, 5) == "workbench rollout --demo --bisect 5"
