"""Kinds of mistakes in training code, each in two forms that the suite does not plant, beside healthy twins."""

# ruff: noqa: E501 - one line of planted code a line
from __future__ import annotations

import pytest

from tests.diagnosis.planted_scripts import CLEAR, EPOCHS, LOOP, MADE, STEP
from tests.diagnosis.planted_sixths import pose_yaml
from tests.diagnosis.planted_trainers import MODULE, TRAINER
from tests.diagnosis.planted_trainings import HEALTHY
from tests.diagnosis.sixth_fresh_cases import SAME_AUGMENTATION, TWO
from tests.diagnosis.test_training_code import causes_in
from workbench.core import Skeleton
from workbench.diagnosis import diagnose
from workbench.diagnosis.mirror_causes import _wrong_pairs

UNCLEARED, EVALUATING = "gradients are not cleared", "network is trained in evaluation mode"
MISSING, HALF = "optimizer misses parameters", "half precision without a loss scale"
SAME = "augmentation is the same every time"
THREE = "".join(
    f"    {name} = torch.optim.SGD(model.{part}.parameters(), lr=0.1)\n"
    for name, part in (("a", "stem"), ("b", "neck"), ("c", "head"))
)
VALIDATE = "def validate(net, images):\n    net.eval()\n    return net(images)\n\ndef train(model"
OF_HEAD = STEP + "            of_head.step()\n"
NOT_AT_START = ("    model.train()\n", "")


def each(text, *names):
    return "".join(text.replace("optimizer", name) for name in names)


# name -> cause ("" for a healthy one), text, edits.
KINDS = {
    "third of three optimizers never cleared": (UNCLEARED, HEALTHY, (MADE, THREE), (CLEAR, each(CLEAR, "a", "b")), (STEP, each(STEP, "a", "b", "c"))),
    "second optimizer cleared before the epochs alone": (UNCLEARED, HEALTHY, (MADE, TWO), (STEP, OF_HEAD), (EPOCHS, "    of_head.zero_grad()\n" + EPOCHS)),
    "both cleared by the network": ("", HEALTHY, (MADE, TWO), (CLEAR, "            model.zero_grad()\n"), (STEP, OF_HEAD)),
    "both cleared": ("", HEALTHY, (MADE, TWO), (CLEAR, CLEAR + CLEAR.replace("optimizer", "of_head")), (STEP, OF_HEAD)),
    "both cleared in a loop": ("", HEALTHY, (MADE, TWO), (CLEAR, "            for one in (optimizer, of_head):\n                one.zero_grad()\n"), (STEP, OF_HEAD)),
    "training mode in every fifth epoch": (EVALUATING, HEALTHY, NOT_AT_START, ("def train(model", VALIDATE), (LOOP, "        if epoch % 5 == 0:\n            model.train()\n" + LOOP), (STEP, STEP + "        validate(model, images)\n")),
    "training mode of a method in one epoch": (EVALUATING, TRAINER, ("        self.model.train()\n", "        if epoch == 1:\n            self.model.train()\n")),
    "validated in every fifth epoch, and back": ("", HEALTHY, (STEP, STEP + "        if epoch % 5 == 0:\n            model.eval()\n            print(model(images))\n        if epoch % 5 == 0:\n            model.train()\n")),
    "training mode where it is not on": ("", HEALTHY, NOT_AT_START, (LOOP, "        if not model.training:\n            model.train()\n" + LOOP), (STEP, STEP + "        model.eval()\n")),
    "modes by part": ("", HEALTHY, (LOOP, "        for part in ('fit', 'val'):\n            if part == 'fit':\n                model.train()\n            else:\n                model.eval()\n" + LOOP)),
    "matrices alone, by filter": (MISSING, HEALTHY, (MADE, "    optimizer = torch.optim.AdamW(filter(lambda p: p.dim() >= 2, model.parameters()), lr=5e-3)\n")),
    "large ones alone": (MISSING, HEALTHY, (MADE, "    large = [p for p in model.parameters() if p.numel() > 100]\n    optimizer = torch.optim.SGD(large, lr=0.1)\n")),
    "those that need a gradient": ("", HEALTHY, (MADE, "    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)\n")),
    "matrices and vectors in two groups": ("", HEALTHY, (MADE, "    optimizer = torch.optim.AdamW([{'params': [p for p in model.parameters() if p.ndim > 1]}, {'params': [p for p in model.parameters() if p.ndim < 2], 'weight_decay': 0}], lr=5e-3)\n")),
    "network moved to half precision": (HALF, HEALTHY, ("    model.train()\n", "    model = model.to('cuda', torch.float16)\n    model.train()\n")),
    "lightning in true half precision": (HALF, MODULE, ('precision="bf16-mixed"', 'precision="16-true"')),
    "halved once it is trained": ("", HEALTHY, (STEP, STEP + "    model.half()\n    torch.save(model, 'half.pth')\n")),
    "teacher and batch in half precision": ("", HEALTHY, (MADE, MADE + "    teacher = load('t.pth').half().eval()\n"), (LOOP, LOOP + "            batch = batch.half()\n")),
    "workers with one seed": (SAME, HEALTHY, ("shuffle=True)", "shuffle=True, worker_init_fn=lambda w: np.random.seed(0))")),
    "a generator in every sample": (SAME, SAME_AUGMENTATION, ("        np.random.seed(0)\n        if np.random.rand()", "        rng = np.random.default_rng(42)\n        if rng.random()")),
    "workers with their own seed": ("", HEALTHY, ("shuffle=True)", "shuffle=True, worker_init_fn=lambda w: np.random.seed(torch.initial_seed() % 2**32 + w))")),
    "a seed when the set is made": ("", SAME_AUGMENTATION, ("        np.random.seed(0)\n", ""), ("    def __getitem__", "    def __init__(self):\n        np.random.seed(0)\n\n    def __getitem__")),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_mistake_is_named_in_other_forms_and_its_healthy_twins_are_left_alone(name):
    cause, text, *edits = KINDS[name]
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    assert causes_in(text) == ([cause] if cause else [])


RIGHT = "0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15"


@pytest.mark.parametrize(
    ("flips", "named", "wrong"),
    [
        (", ".join(map(str, range(17))), True, 16),
        (", ".join(map(str, range(17))), False, 16),  # 17 keypoints of a person are COCO's
        (RIGHT.replace("14, 13, 16, 15", "15, 16, 13, 14"), True, 4),
        (RIGHT, True, 0),
        (RIGHT, False, 0),
    ],
)
def test_flip_indices_of_a_yaml_are_compared_with_the_names(tmp_path, flips, named, wrong):
    (path,), _ = pose_yaml(flips)(tmp_path)
    if not named:
        path.write_text(path.read_text().partition("kpt_names")[0])
    found = [f for f in diagnose(path, level="files").findings if f.severity != "remark"]
    assert [f.cause for f in found] == (["mirror pairs contradict the names"] if wrong else [])
    assert not wrong or f"{wrong} keypoints mirror to another" in found[0].evidence


@pytest.mark.parametrize(
    ("names", "mirror", "wrong"),
    [
        ("nose eye_l eye_r p_l_hip p_r_hip", (0, 2, 1, 4, 3), []),
        ("nose eye_left eye_right HipL HipR", (0, 2, 1, 4, 3), []),
        ("nose leftear rightear ear.L ear.R", (0, 2, 1, 4, 3), []),
        ("tip eye_1 eye_2 kp_3 kp_4", (0, 2, 1, 4, 3), []),  # the names tell no side
        ("nose eye_l eye_r p_l_hip p_r_hip", (0, 3, 4, 1, 2), [1, 2, 3, 4]),
        ("nose eye_l eye_r p_l_hip p_r_hip", (1, 0, 2, 4, 3), [0, 1, 2]),
        ("nose eye_l eye_r p_l_hip p_r_hip", (0, 1, 2, 3, 4), [1, 2, 3, 4]),
    ],
)
def test_sides_are_read_wherever_they_stand_in_a_name(names, mirror, wrong):
    skeleton = Skeleton("own-5", tuple(names.split()), mirror=mirror)
    assert [k for k, *_ in _wrong_pairs(skeleton)] == wrong
