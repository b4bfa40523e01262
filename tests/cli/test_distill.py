"""workbench distill: what it refuses."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "expected the teacher's checkpoint, or --demo"),
        (("--demo", "--student", "hrnet"), "--demo brings its own teacher"),
        (("--demo", "--out", "student.png"), "ending in .html"),
    ],
)
def test_what_cannot_be_taught_is_one_sentence(workbench, words, sentence):
    code, out, err = workbench("distill", *words)
    assert code == 2
    assert out == ""
    assert sentence in err


def test_a_teacher_without_heatmaps_is_refused(workbench, root):
    teacher = root / "checkpoints/rtmpose-demo/epoch_1.pth"
    words = ("--student", "higherhrnet", "--data", "scenes-val", "--steps", "1", "--epochs", "1")
    code, _, err = workbench("distill", teacher, *words)
    assert code == 2
    assert "distillation:" in err


def test_drawn_people_teach_no_animals(workbench, root):
    # Without --data drawn people are learned from: their keypoints must be the teacher's.
    words = (root / "checkpoints/rtmpose-demo/epoch_1.pth", "--student", "higherhrnet", "--steps", "1")
    code, _, err = workbench("distill", *words)
    assert code == 2
    assert "scenes-people-val order their keypoints differently" in err


def test_the_teacher_may_need_a_config_or_an_adapter(workbench, root):
    words = (root / "checkpoints/rtmpose-demo/epoch_1.pth", "--student", "higherhrnet", "--steps", "1")
    code, _, err = workbench("distill", *words, "--adapter", root / "no_such_adapter.py")
    assert code == 2
    assert "no_such_adapter.py" in err


@pytest.mark.long
def test_a_trained_student_of_ones_own_is_looked_at_without_a_step(workbench, root, tmp_path):
    import json

    runs = root / "checkpoints/higherhrnet-demo"
    first, *_, last = sorted(runs.glob("epoch_*.pth"), key=lambda p: int(p.stem.partition("_")[2]))
    words = ("--data", "scenes-people-val", "--steps", "0", "--json", "--out", tmp_path / "looked.html")
    answers = {}
    for student in (first, last):
        code, out, err = workbench("distill", last, "--student-checkpoint", student, *words)
        assert code == 0, err
        answers[student] = json.loads(out)
    assert [len(facts["epochs"]) for facts in answers.values()] == [1, 1]
    # The teacher itself reaches all of its own peaks; the first epoch's are in the background as well.
    assert answers[last]["epochs"][0]["reach"] == pytest.approx(1, abs=1e-3)
    assert answers[first]["epochs"][0]["leak"] > 2 * answers[last]["epochs"][0]["leak"]
    assert answers[last]["student_checkpoint"] == str(last)


def test_no_steps_need_a_trained_student(workbench, root):
    teacher = sorted((root / "checkpoints/higherhrnet-demo").glob("epoch_*.pth"))[0]
    code, _, err = workbench("distill", teacher, "--student", "higherhrnet", "--steps", "0")
    assert code == 2
    assert "--student-checkpoint" in err
