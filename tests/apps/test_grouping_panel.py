"""The grouping lab in a notebook: a knob set from a cell regroups the stored output, and AP follows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests import toy
from workbench.core.run import run
from workbench.data import read_coco
from workbench.data.images import write_image
from workbench.evaluation.predict import forward_passes
from workbench.inspectors.grouping.evaluation import evaluate_settings
from workbench.inspectors.grouping.replay import PictureParams


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """The toy's picture of two people as a set; the second one's heatmaps reach a half."""
    folder = tmp_path_factory.mktemp("crowd")
    sample = toy.samples(toy.ToyPeople(), 1)[0]
    image = np.array(sample.image)
    for channel, (x, y) in enumerate(toy.PLACES[1]):
        image[y, x, channel] = 128
    write_image(folder / "a.png", image)
    annotations = [
        {
            "id": p, "image_id": 1, "category_id": 1, "area": 64.0,
            "bbox": [places[0][0] - 2, places[0][1] - 2, 9, 9],
            "keypoints": [v for x, y in places for v in (x, y, 2)],
        }
        for p, places in enumerate(toy.PLACES, 1)
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": toy.CROWD, "height": toy.CROWD}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(toy.TWO.keypoints), "skeleton": []}],
    }
    (folder / "set.json").write_text(json.dumps(content))
    return dataclasses.replace(read_coco(folder / "set.json"), skeleton=toy.TWO)


@pytest.fixture
def panel(crowd):
    from apps.notebook.grouping_panel import GroupingPanel

    model = toy.ToyPeople()
    return GroupingPanel(run(model, [crowd.sample(0)]), list(forward_passes(model, crowd)), crowd)


def test_every_knob_of_the_lab_has_a_widget(panel):
    assert set(panel.knobs) == set(PictureParams.__dataclass_fields__) - {"instance"}
    assert panel.params == PictureParams()


def test_a_knob_set_from_a_cell_changes_people_and_ap(panel):
    assert panel.report.present == 2
    assert panel.reached.figures["AP"] == pytest.approx(1)
    panel.knobs["detection_threshold"].value = 0.6
    assert panel.report.present == 1
    assert (panel.reached.found, panel.reached.annotated) == (1, 2)
    assert panel.reached.figures["AP"] == pytest.approx(51 / 101)
    assert "AP 0.505 (-0.495)" in panel._text.value
    assert panel.figure.layout.title.text.startswith("1 person found")


def test_a_value_that_does_not_fit_is_a_sentence_and_leaves_the_picture(panel):
    panel.knobs["resolutions"].value = "coarse"
    assert "one resolution" in panel._text.value
    assert panel.report.present == 2


def test_ap_without_any_kept_output_is_one_sentence(crowd):
    with pytest.raises(ValueError, match="no outputs are stored"):
        evaluate_settings(toy.ToyPeople(), (), crowd, PictureParams())
