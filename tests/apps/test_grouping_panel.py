"""The grouping lab in a notebook: a knob set from a cell regroups the stored output, and AP follows."""

from __future__ import annotations

import numpy as np
import pytest

from tests import toy
from workbench.core.run import run
from workbench.evaluation.predict import forward_passes
from workbench.inspectors.grouping.replay import PictureParams, evaluate_settings


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """The toy's picture of two people as a set; the second one's heatmaps reach a half."""
    folder = tmp_path_factory.mktemp("crowd")
    sample = toy.samples(toy.ToyPeople(), 1)[0]
    image = np.array(sample.image)
    for channel, (x, y) in enumerate(toy.PLACES[1]):
        image[y, x, channel] = 128
    return toy.people_set(folder, image)


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
    assert "1 person found" in panel._live.drawn


def test_a_value_that_does_not_fit_is_a_sentence_in_the_place_of_the_picture(panel):
    panel.knobs["resolutions"].value = "coarse"
    assert "one resolution" in panel._text.value
    assert panel._live.layout.display == "none"
    panel.knobs["resolutions"].value = "both"
    assert panel._live.layout.display is None
    assert "2 people found" in panel._live.drawn


def test_its_figure_brings_no_second_plotly_into_the_saved_notebook(panel):
    assert len(str(panel._live.get_state())) < 1_000_000


def test_ap_without_any_kept_output_is_one_sentence(crowd):
    with pytest.raises(ValueError, match="no outputs are stored"):
        evaluate_settings(toy.ToyPeople(), (), crowd, PictureParams())
