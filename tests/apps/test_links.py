"""Numbers of attempts stand in a page's address, beside the run that they are made with."""

from __future__ import annotations

import warnings

import pytest

from apps.pages.conditioning.page import ConditioningPage, ExperimentSection
from apps.pages.links import number_of_link
from apps.pages.rollout.page import Retrain, RolloutPage, Schedules


@pytest.mark.parametrize(
    ("word", "whole", "shown"),
    [
        (None, True, 60), ("", False, 60), ("7", True, 7), ("0.5", False, 0.5), ("1e-4", False, 1e-4),
        ("0.5", True, 60), ("3", True, 60), ("-1", False, 60), ("nan", False, 60), ("inf", False, 60),
        ("x" * 5000, False, 60), ("9" * 5000, True, 60),
    ],
)  # fmt: skip
def test_a_number_of_a_link_is_taken_where_it_can_be_and_else_the_usual_one(word, whole, shown):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # outside a page there is nobody to be told
        assert number_of_link("steps", word, 60, 4 if whole else 0, whole) == shown


def test_every_number_of_a_lab_page_is_filled_from_its_address(gradio_app):
    """What an attempt was started with would else be another one for whoever opens the link."""
    filled = {
        output
        for one in gradio_app.config["dependencies"]
        if any(event == "load" for _, event in one["targets"])
        for output in one["outputs"]
    }
    kinds = {one["id"]: one for one in gradio_app.config["components"]}
    for page in ("conditioning", "rollout", "diagnose"):
        here = [kinds[i] for i in gradio_app.config["page"][page]["components"]]
        left = [
            one["props"]["label"]
            for one in here
            if one["type"] == "number" and one["props"]["visible"] is True and one["id"] not in filled
        ]
        assert left == []


def test_a_lab_page_reads_the_names_that_its_sections_write():
    assert set(ConditioningPage.linked) == set(ExperimentSection.linked)
    assert set(RolloutPage.linked) == {*Schedules.linked, *Retrain.linked}
    for page in (ConditioningPage, RolloutPage):
        assert not set(page.linked) & set(page.address)
