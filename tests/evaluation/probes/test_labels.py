"""Labels judged by a model: their order, and single instances with exchanged sides."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.probes import discs
from workbench.evaluation.probes.labels import check_labels


@pytest.fixture(scope="module")
def samples():
    return discs.samples(20, sided=True)


@pytest.fixture(scope="module")
def model():
    return discs.model(sided=True)


def relabelled(sample, order):
    """The same picture, its labels in another order."""
    return dataclasses.replace(sample, truth=sample.truth[list(order)])


def test_labels_that_are_right_get_no_finding(model, samples):
    found = check_labels(model, samples)
    assert found.order == tuple(range(6))
    assert (found.findings, found.not_checked) == ((), {})


def test_another_order_is_recovered(model, samples):
    written = (2, 0, 1, 5, 4, 3)  # position -> keypoint
    found = check_labels(model, [relabelled(s, written) for s in samples])
    assert found.order == tuple(int(k) for k in np.argsort(written))
    (located,) = found.findings
    assert located.finding.cause == "keypoint order"
    assert str(list(found.order)) in located.finding.fix
    assert located.finding.effect.low > 0.5


def test_single_instances_with_exchanged_sides_are_named(model, samples):
    wrong = {3, 11}
    given = [relabelled(s, discs.SIX.mirror) if n in wrong else s for n, s in enumerate(samples)]
    # Two of twenty are a tenth of the pairs; a model that is wrong so often itself is not believed.
    found = check_labels(model, given + discs.samples(20, seed=5, sided=True))
    (located,) = found.findings
    assert located.finding.cause == "left/right swaps"
    assert located.instances == (4, 12)


def test_a_model_that_finds_nothing_judges_nothing(samples):
    lost = discs.model(sided=True, mean=(0, 0, 0), std=(1, 1, 1))
    found = check_labels(lost, samples)
    assert found.findings == ()
    assert "finds too little" in found.not_checked["keypoint order"]


def test_the_verb_tells_the_order_by_a_model(workbench, tmp_path):
    from workbench.checkpoints.demo import demo_checkpoints, demo_config
    from workbench.data import builtin

    animals = builtin("scenes-val")
    raw = json.loads(json.dumps(animals.raw))
    order = list(range(17))
    order[5], order[11] = 11, 5  # L_Shoulder and L_Hip
    order[2], order[4] = 4, 2  # Nose and root of tail
    for a in raw["annotations"]:
        a["keypoints"] = np.reshape(a["keypoints"], (-1, 3))[order].ravel().tolist()
    (tmp_path / "images").symlink_to(next(iter(animals.images.values())).path.parent)
    (tmp_path / "set.json").write_text(json.dumps(raw))
    words = (
        "data",
        "lint",
        tmp_path / "set.json",
        "--images",
        tmp_path / "images",
        "--model",
        demo_checkpoints()[-1],
        "--limit",
        "8",
    )
    code, out, err = workbench(*words, "--config", demo_config(), "--no-images", "--json")
    assert code == 0, err
    (finding,) = [one for one in json.loads(out)["findings"] if one["cause"] == "keypoint order"]
    assert "4 keypoints" in finding["evidence"]
    assert str(order) in finding["fix"]
