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
