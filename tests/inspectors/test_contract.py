"""What every inspector promises, over every toy family; what each one computes stands in its own file."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import json
import typing

import numpy as np
import pytest
import torch

from tests import toy
from workbench.cli.look import question
from workbench.core import NotAvailable
from workbench.core.inspector import Choice, Range
from workbench.core.report import Report
from workbench.inspectors import ALL, folder_of, get

# What each toy cannot answer by the inspectors of the workbench, with a word of the reason it must give.
EXPECTED = {
    ("heatmap_grid", "fields"): "heatmaps",
    ("consistency_mask", "simcc"): "heatmaps",
    ("consistency_mask", "fields"): "heatmaps",
    ("consistency_mask", "sequence"): "heatmaps",
    ("consistency_mask", "text"): "heatmaps",
    ("simcc_curves", "heatmaps"): "SimCC",
    ("simcc_curves", "seventeen"): "SimCC",
    ("simcc_curves", "fields"): "SimCC",
    ("peaks", "fields"): "neither heatmaps nor SimCC",
    ("map_likeness", "fields"): "neither heatmaps nor SimCC",
    ("target_residual", "fields"): "codec",
    ("vector_fields", "heatmaps"): "vector fields",
    ("vector_fields", "seventeen"): "vector fields",
    ("vector_fields", "simcc"): "vector fields",
    ("vector_fields", "text"): "vector fields",
    ("gradients", "fields"): "codec",
    ("heatmap_grid", "sequence"): "heatmaps",
    ("simcc_curves", "sequence"): "SimCC",
    ("peaks", "sequence"): "neither heatmaps nor SimCC",
    ("map_likeness", "sequence"): "neither heatmaps nor SimCC",
    ("target_residual", "sequence"): "codec",
    ("vector_fields", "sequence"): "vector fields",
    ("gradients", "sequence"): "codec",
    **{
        (name, family): "finds all keypoints at once"
        for name in ALL
        if folder_of(name) == "sequence"
        for family in ("heatmaps", "simcc", "fields", "seventeen", "people", "text", "transformer")
    },
    ("simcc_curves", "people"): "SimCC",
    ("target_residual", "people"): "codec",
    ("vector_fields", "people"): "vector fields",
    ("gradients", "people"): "codec",
    ("simcc_curves", "transformer"): "SimCC",
    ("vector_fields", "transformer"): "vector fields",
    **{(name, "fields"): "neither heatmaps nor SimCC" for name in ALL if folder_of(name) == "attribution"},
    **{(name, "sequence"): "neither heatmaps nor SimCC" for name in ("grad_cam", "randomised_weights")},
    **{
        ("attention", family): "attention: this model has no self-attention"
        for family in ("heatmaps", "simcc", "seventeen", "people", "text")
    },
    ("attention", "sequence"): "neither heatmaps nor SimCC",
    **{
        (name, family): "tags: this model gives"
        for name in ALL
        if folder_of(name) == "grouping"
        for family in ("heatmaps", "simcc", "fields", "seventeen", "sequence", "text", "transformer")
    },
    **{
        (name, family): "conditioning: no condition"
        for name in ALL
        if folder_of(name) == "conditioning"
        for family in toy.TOYS
        if family != "text"
    },
}


class Runs(dict):
    """Family -> run of its toy, made when first asked for: not by each worker that collects these tests."""

    def __missing__(self, family):
        return self.setdefault(family, toy.a_run(family))


RUNS = Runs()


def missing(names):
    """(name, family) of what the inspectors declare that a toy does not have."""
    return [(name, family) for name in names for family in toy.TOYS if get(name).needs.unmet_in(RUNS[family])]


# What each toy cannot answer; of inspectors of other packages, what they declare.
MISSING = {*EXPECTED, *missing(name for name in ALL if not folder_of(name))}
# The text network is costly, and to the other rooms' questions one more SimCC model; so is the transformer
# one more heatmap model.
OF_ONE_FOLDER = {"text": "conditioning", "transformer": "attribution"}
CASES = [
    (name, family)
    for name in ALL
    for family in toy.TOYS
    if (name, family) not in MISSING and folder_of(name) == OF_ONE_FOLDER.get(family, folder_of(name))
]

# Attribution makes hundreds of passes for an answer: its knobs are tried on small heatmaps, SimCC vectors,
# and those of attention on the one transformer.
LEFT_OUT = {"attribution": ("seventeen", "people", "sequence")}


@pytest.fixture(scope="module")
def runs():
    return RUNS


@dataclasses.dataclass(frozen=True)
class Answer:
    """One inspector's answer to one family.

    Attributes:
        report: as computed.
        copy: of the report, before anything was drawn.
        figure: its first drawing.
        left_alone: computing and drawing changed nothing in the run.
    """

    report: Report
    copy: Report
    figure: typing.Any
    left_alone: bool


@functools.cache
def answer_of(name: str, family: str) -> Answer:
    """Computed and drawn once: plotly takes longer for a figure than most inspectors for their answer."""
    run = RUNS[family]
    before = state(run)
    report = compute(name, run)
    untouched = copy.deepcopy(report)
    figure = report.plot()
    return Answer(report, untouched, figure, same(before, state(run)))


@pytest.fixture
def answer(name, family):
    return answer_of(name, family)


def compute(name: str, run) -> Report:
    inspector = get(name)
    return inspector.compute(run, inspector.params())


def state(run) -> list:
    """Copies of all that an inspector could spoil."""
    model = run.model
    tensors = [run.batch.pixels, *run.activations.values(), *model.module.state_dict().values()]
    outputs = [getattr(run.outputs, f.name) for f in dataclasses.fields(run.outputs)]
    gradients = [
        (p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.module.parameters()
    ]
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in model.module.modules()]
    modes = [m.training for m in model.module.modules()]
    pictures = [(s.image, s.truth) for s in run.samples]
    rest = [run.batch.to_image, torch.is_grad_enabled()]
    return copy.deepcopy([tensors, outputs, run.predictions, gradients, hooks, modes, pictures, rest])


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize(("name", "family"), CASES)
class TestEveryInspector:
    def test_reports_in_one_line_and_draws(self, answer):
        assert len(answer.report.summary().splitlines()) == 1
        assert len(answer.report.summary()) > 20
        assert answer.figure.data or answer.figure.layout.images
        assert answer.figure.layout.title.text

    def test_leaves_the_run_alone(self, answer):
        assert answer.left_alone

    def test_repeats_itself(self, name, family, answer):
        assert same(answer.report, compute(name, RUNS[family]))

    def test_drawing_leaves_the_report_alone_and_is_repeated(self, answer):
        again = answer.report.plot()
        assert same(answer.copy, answer.report)
        assert answer.figure.to_json() == again.to_json()

    def test_tells_its_facts_as_json(self, answer):
        facts = answer.report.to_json()
        text = json.dumps(facts, allow_nan=False)
        assert facts["summary"] == answer.report.summary()
        assert len(text) < 1_000_000

    def test_has_a_table_with_the_same_keys_in_every_row(self, answer):
        table = answer.report.table()
        assert table
        assert len({tuple(row) for row in table}) == 1
        json.dumps(table, allow_nan=False)

    def test_draws_arrays_not_lists(self, answer):
        for trace in answer.figure.data:
            for key in ("x", "y", "z", "customdata", "values", "u", "v"):
                value = getattr(trace, key, None)
                if isinstance(value, np.ndarray):
                    assert value.dtype in (np.float32, np.uint8) or value.dtype.kind in "OU", (
                        key,
                        value.dtype,
                    )
                else:
                    assert value is None or all(isinstance(v, str) for v in value), (trace.name, key)

    def test_names_its_axes(self, answer):
        layout = answer.figure.layout.to_plotly_json()
        for key, axis in layout.items():
            if key.startswith(("xaxis", "yaxis")) and axis.get("visible", True):
                # Rows that carry their names as ticks need no title.
                shared = axis.get("matches") or axis.get("ticktext")
                assert shared or axis.get("title", {}).get("text"), key

    def test_holds_no_model_and_no_tensor(self, answer):
        for field in dataclasses.fields(answer.report):
            value = getattr(answer.report, field.name)
            assert not isinstance(value, (torch.Tensor, torch.nn.Module)), field.name


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_shows_the_report_and_a_figure_of_17_keypoints_travels_in_1500_kilobytes(name):
    family = min((f for n, f in CASES if n == name), key=lambda f: f != "seventeen")
    answer = answer_of(name, family)
    assert len(answer.figure.to_json()) < 1_500_000
    assert len(answer.report._repr_html_()) > 1000


@pytest.mark.parametrize(("name", "family"), sorted(MISSING))
def test_what_a_family_lacks_is_said_in_one_sentence(name, family, runs):
    for asked in (get(name).report, lambda run: compute(name, run)):
        with pytest.raises(NotAvailable, match=EXPECTED.get((name, family))) as reason:
            asked(runs[family])
        assert len(str(reason.value).splitlines()) == 1


def test_what_the_inspectors_declare_is_what_the_toys_lack():
    assert set(missing(name for name in ALL if folder_of(name))) == set(EXPECTED)


@pytest.mark.parametrize("name", ALL)
def test_what_a_model_declares_never_denies_what_its_run_can_answer(name):
    needs = get(name).needs
    for run in map(RUNS.__getitem__, toy.TOYS):
        assert needs.unmet_in(run) or not needs.unmet(run.model)


@pytest.mark.parametrize("name", ALL)
def test_without_annotations_it_reports_or_says_that_it_needs_them(name):
    inspector = get(name)
    for family in toy.TOYS:
        if (name, family) not in {*CASES, *MISSING}:
            continue
        run = RUNS[family]
        bare = dataclasses.replace(
            run, samples=tuple(dataclasses.replace(s, truth=None) for s in run.samples)
        )
        if inspector.needs.truth or (name, family) in MISSING:
            with pytest.raises(NotAvailable):
                inspector.compute(bare, inspector.params())
        else:
            report = inspector.compute(bare, inspector.params())
            assert report.summary()
            assert report.plot().data


@pytest.mark.parametrize("name", ALL)
class TestEveryKnob:
    def test_has_a_default_a_sentence_and_a_widget(self, name):
        params = get(name).params
        assert params.__dataclass_params__.frozen
        hints = typing.get_type_hints(params, include_extras=True)
        for field in dataclasses.fields(params):
            assert field.default is not dataclasses.MISSING, field.name
            assert f"\n        {field.name}: " in "\n    " + inspect.cleandoc(params.__doc__).replace(
                "\n", "\n    "
            ), field.name
            kind, *notes = typing.get_args(hints[field.name]) or (hints[field.name],)
            widgets = [n for n in notes if isinstance(n, (Range, Choice))]
            literal = typing.get_origin(hints[field.name]) is typing.Literal
            assert literal or kind in (int, float, bool, str), field.name
            assert kind is not str or literal or any(isinstance(n, Choice) for n in widgets), field.name
            assert kind not in (int, float) or literal or any(isinstance(n, Range) for n in widgets), (
                field.name
            )

    def test_default_lies_within_its_range(self, name):
        params = get(name).params
        for key, hint in typing.get_type_hints(params, include_extras=True).items():
            for note in getattr(hint, "__metadata__", ()):
                if isinstance(note, Range):
                    assert note.low <= getattr(params(), key) <= note.high

    def test_offers_only_what_it_then_accepts(self, name, runs):
        inspector = get(name)
        for family in toy.TOYS:
            if (name, family) not in CASES or family in LEFT_OUT.get(folder_of(name), ()):
                continue
            for key, hint in typing.get_type_hints(inspector.params, include_extras=True).items():
                values = list(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else []
                for note in getattr(hint, "__metadata__", ()):
                    values += note.of(runs[family]) if isinstance(note, Choice) else []
                for value in values[:4]:
                    # A kind of weight that a toy has none of is a reason, not a crash.
                    with contextlib.suppress(NotAvailable):
                        inspector.compute(runs[family], inspector.params(**{key: value})).plot()

    def test_names_the_near_ones_of_a_wrong_choice(self, name, runs):
        inspector = get(name)
        for key, hint in typing.get_type_hints(inspector.params, include_extras=True).items():
            if any(isinstance(note, Choice) for note in getattr(hint, "__metadata__", ())):
                family = next(f for f in toy.TOYS if (name, f) in CASES)
                with pytest.raises(ValueError, match="bogus"):
                    inspector.compute(runs[family], inspector.params(**{key: "bogus"}))


@pytest.mark.parametrize("name", ALL)
def test_every_page_has_a_title_and_a_question(name):
    inspector = get(name)
    assert inspector.name == name
    assert inspector.title
    assert inspector.question.endswith("?")
    # The command line lists questions without importing: the file's first line must be the same.
    assert question(name) == inspector.question
    assert len(inspector.question) < 110


def test_every_inspectors_module_has_its_knobs_under_one_name():
    """Copied code and notebooks write `overlay.compute(run, overlay.Params())` for each of them."""
    for name in ALL:
        inspector = get(name)
        assert importlib.import_module(inspector.compute.__module__).Params is inspector.params
