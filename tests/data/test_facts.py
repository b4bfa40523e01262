from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.core import Skeleton
from workbench.core.report import plain
from workbench.data import builtin, data_facts, read_coco
from workbench.data.pose_set import ImageRecord, Instance, PoseSet


def instance(number=1, truth=((5, 5, 2), (6, 6, 1)), box=(1.0, 1.0, 9.0, 9.0), area=50.0, crowd=False):
    array = np.array(truth, float)
    return Instance(number, 1, 1, box, array, area, crowd, int((array[:, 2] > 0).sum()))


def facts(*instances, raw=None):
    skeleton = Skeleton("own-2", ("a", "b"))
    images = {i: ImageRecord(i, Path("absent.png"), 20, 10) for i in (1, 2)}
    return data_facts(PoseSet("set", skeleton, instances, images, {1: "newt", 2: "frog"}, raw or {}))


def test_counts_by_hand():
    nan = float("nan")
    found = facts(
        instance(1),
        instance(2, truth=((5, 5, 2), (25, 6, 2)), area=nan),
        instance(3, truth=((0, 0, 0), (0, 0, 0))),
        instance(4, truth=((1, 1, 2), (0, 0, 0)), box=(3.0, 3.0, 3.0, 9.0)),
        instance(5, truth=((1, 2, 2), (0, 0, 0)), box=(nan, nan, nan, nan)),
        instance(6, crowd=True, truth=((0, 0, 0), (0, 0, 0))),
        instance(7),
        raw={"annotations": [{"id": 1, "num_keypoints": 1}, {"id": 2, "num_keypoints": 2}]},
    )
    assert (found.instances, found.labelled, found.crowds, found.empty) == (7, 3, 1, 1)
    assert (found.without_box, found.without_size, found.without_area) == (1, 1, 1)
    assert (found.duplicates, found.miscounted, found.outside) == (1, 1, 1)
    assert found.categories == {"newt": 7}
    assert (found.images, found.annotated_images, len(found.absent_images)) == (2, 1, 2)
    assert found.visible == pytest.approx([1, 1 / 3])
    assert found.hidden == pytest.approx([0, 2 / 3])
    assert found.unlabelled == pytest.approx([0, 0])
    assert not found.mirror
    assert not found.sigmas
    assert len(found.findings) == 10
    assert found.summary() == (
        "set: 3 of 7 instances can be scored, own-2, 1 of 2 images annotated; findings: 10."
    )


def test_an_empty_set_has_facts_too():
    found = facts()
    assert found.labelled == 0
    assert np.isnan(found.visible).all()
    assert found.findings[0] == "no instance can be scored"
    assert found.findings[1].startswith("2 of 2 images are missing, the first is ")


def test_the_report_keeps_the_contract_of_reports():
    found = data_facts(builtin("astronaut"))
    assert "\n" not in found.summary()
    assert len(found.table()) == 17
    assert found.table()[0] == {"keypoint": "nose", "visible": 1.0, "hidden": 0.0, "unlabelled": 0.0}
    figure = found.plot()
    assert sum(np.asarray(trace.x) for trace in figure.data) == pytest.approx(np.ones(17))
    assert figure.layout.xaxis.title.text
    assert plain(found.to_json())["skeleton"] == "coco-17"
    assert found.findings == ()


def test_what_is_particular_about_crowdpose_is_told(shared):
    found = data_facts(read_coco(shared / "data/crowdpose/test_crowdpose.json"))
    assert found.without_area == 4
    assert any("no area" in finding for finding in found.findings)
