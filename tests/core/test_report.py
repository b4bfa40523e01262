"""What a report promises: plain facts, tables without nan, choices that name near ones."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from tests import toy
from workbench.core import nearest, report
from workbench.core.inspector import INSTANCE, KEYPOINT, Choice, instances, keypoint_of
from workbench.core.report import PICTURE, Report, plain, rows


@dataclass(frozen=True, eq=False)
class Small(Report):
    values: np.ndarray
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((500, 500)), metadata=PICTURE)

    def summary(self) -> str:
        return "two values, <b>one</b> unknown"

    def plot(self):
        from workbench.figures import new_figure

        return new_figure(self.summary())

    def table(self):
        return rows(name=("a", "b"), value=self.values)


def test_facts_are_plain_and_leave_pictures_out():
    facts = Small(np.array([1.5, np.nan])).to_json()
    assert facts == {"summary": "two values, <b>one</b> unknown", "values": [1.5, None]}
    json.dumps(facts, allow_nan=False)


def test_rows_hold_plain_values():
    table = Small(np.array([1.5, np.nan], np.float32)).table()
    assert table == [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]
    assert type(table[0]["value"]) is float


def test_rows_of_unequal_columns_are_a_mistake():
    with pytest.raises(ValueError):
        rows(a=[1, 2], b=[1])


def test_a_report_shows_itself_with_its_sentence_as_text():
    page = Small(np.zeros(2))._repr_html_()
    assert "&lt;b&gt;one" in page
    assert "plotly" in page


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32("inf"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ((1, {2: np.array([np.nan])}), [1, {"2": [None]}]),
        (toy.TWO, {**dataclasses.asdict(toy.TWO), "keypoints": ["left_nose", "right_tail"], "limbs": [[0, 1]],
                   "mirror": [1, 0], "sigmas": [0.1, 0.1]}),
    ],
)  # fmt: skip
def test_plain_values(value, expected):
    assert plain(value) == expected


class TestChoices:
    def test_instances_have_names_each_once(self):
        run = toy.a_run("heatmaps", n=3)
        same = dataclasses.replace(
            run, samples=(run.samples[0], run.samples[0], dataclasses.replace(run.samples[1], key=""))
        )
        assert instances(same) == ["toy/0 (0)", "toy/0 (1)", "sample 2"]

    def test_empty_means_the_first_and_wrong_ones_name_near_ones(self):
        run = toy.a_run("heatmaps")
        assert INSTANCE.index(run, "") == 0
        assert INSTANCE.index(run, "toy/1") == 1
        with pytest.raises(ValueError, match="'toy/7' in this run; nearest: toy/"):
            INSTANCE.index(run, "toy/7")

    def test_the_least_certain_keypoint_is_that_of_the_lowest_score(self):
        run = toy.a_run("seventeen")
        assert keypoint_of(run, 0, "least certain") == run.scores[0].argmin() == keypoint_of(run, 0, "")
        assert keypoint_of(run, 0, "left_ear") == 2
        assert KEYPOINT.of(run)[0] == "least certain"

    def test_nothing_on_offer_is_no_crash_when_nothing_is_asked(self):
        assert Choice(lambda _: []).index(toy.a_run("heatmaps"), "") == 0


class Shell:
    """As much of IPython's shell as a report looks at."""

    def __init__(self):
        self.execution_count, self.cell = 1, "a"

    def get_parent(self):
        return {"metadata": {"cellId": self.cell}}


def test_a_notebook_carries_plotly_once_and_again_when_its_carrier_is_run_again(monkeypatch):
    shell = Shell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(report, "_carrier", None)
    small = Small(np.array([1.0, 2.0]))

    def carries():
        return len(small._repr_html_()) > 1_000_000

    assert [carries(), carries()] == [True, False]
    shell.execution_count, shell.cell = 2, "b"
    assert not carries()
    assert "window.Plotly.newPlot" in small._repr_html_()
    assert "<b>one" not in small._repr_html_()  # text of a title cannot end the script
    shell.execution_count, shell.cell = 3, "a"
    assert [carries(), carries()] == [True, False]


def test_outside_of_a_notebook_every_report_carries_plotly():
    assert len(Small(np.array([1.0, 2.0]))._repr_html_()) > 1_000_000


def test_an_inspector_with_its_question_in_second_place_is_refused_with_what_to_do():
    from workbench.core.inspector import Inspector

    with pytest.raises(TypeError, match=r"first line of the file, or question="):
        Inspector("Brightness", "How bright is it?", dict, len)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [(-0.0004, "+.3f", "+0.000"), (-0.0006, "+.3f", "-0.001"), (-0.001, "+.0%", "+0%"),
     (-np.inf, "+.1f", "-inf"), (-1e-9, "+6.3f", "+0.000"), (-1e-3, ".0%", "0%"), (0.25, "+.2f", "+0.25"),
     (None, "+.3f", "-"), (np.nan, "+.3f", "-")],
)  # fmt: skip
def test_no_number_is_written_as_minus_nothing(value, spec, text):
    assert report.signed_text(value, spec) == text


def test_the_nearest_of_numbers_are_the_closest_values_and_of_names_the_most_similar():
    epochs = ["1", "2", "5", "10", "20", "40"]
    assert nearest("77", epochs) == "40, 20, 10"
    assert nearest("4", epochs) == "5, 2, 1"
    assert nearest("blr", ["head", "blur"]).startswith("blur")
    assert nearest("7" * 5000, epochs).startswith(("1", "2", "5", "10", "20", "40"))
    assert nearest("7", []) == "none"
