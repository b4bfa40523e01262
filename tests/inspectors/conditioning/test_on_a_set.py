"""AP with and without each part, and under raw, refined and perfect scores, on drawn scenes."""

from __future__ import annotations

import pytest

from tests.inspectors.conditioning.networks import healthy, looked, network
from workbench.data import builtin
from workbench.evaluation import Cancelled, evaluate, predict
from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.passes import spread


@pytest.fixture(scope="module")
def pose_set():
    return builtin("scenes-val")


@pytest.fixture(scope="module")
def found(pose_set):
    return predicted(network(**healthy(fuse_in_predict=False)), pose_set, spread(pose_set, 8))


def test_the_reference_is_what_evaluate_says(pose_set, found):
    model = network(**healthy(fuse_in_predict=False))
    plain = predict(model, pose_set, indices=found.indices)
    figures = evaluate(pose_set, plain, indices=found.indices).figures
    report = ablation(found, "small")
    assert report.reference.figures["AP"] == pytest.approx(figures["AP"])
    assert (plain.keypoints == found.predictions["as it is"].keypoints).all()


def test_a_part_that_is_not_reached_changes_nothing_with_certainty(found):
    row = ablation(found).of("without neck")
    assert (row.interval.delta, row.interval.low, row.interval.high) == (0, 0, 0)
    facts = ablation(found).to_json()
    assert facts["reference"]["name"] == "as it is"
    assert {"name", "AP", "delta", "low", "high"} <= set(facts["variants"][0])


def test_perfect_scores_never_rank_worse(pose_set, found):
    report = ranking(found, pose_set)
    # The log's AP stands beside it on the page.
    measured = f"measured on {len(found.indices)} instances of {pose_set.name}"
    assert measured in report.summary()
    assert measured in ablation(found).summary()
    own = report.of("as it is", "as it is")
    assert report.of("as it is", "oracle").AP >= own.AP
    assert pytest.approx(own.AR) == report.of("as it is", "oracle").AR
    assert report.lost >= 0
    assert report.verdict in ("ranking", "localisation", "both", "neither")
    with pytest.raises(KeyError, match="no AP of keypoints"):
        report.of("as it is", "bogus")


def test_the_clinic_says_what_each_defect_costs(pose_set, found):
    model = network(**healthy(fuse_in_predict=False))
    report = clinic(looked(model), found, pose_set)
    (finding,) = report.findings
    assert finding.effect is not None
    assert report.to_json()["findings"][0]["low"] <= finding.effect.delta
    assert report.plot().data


def test_it_stops_when_told_to_and_tells_how_far_it_is(pose_set):
    calls = []
    with pytest.raises(Cancelled):
        predicted(
            network(**healthy()), pose_set, spread(pose_set, 2),
            progress=lambda done, count: calls.append((done, count)), cancelled=lambda: len(calls) == 2,
        )  # fmt: skip
    assert [done for done, _ in calls] == [0, 1]
