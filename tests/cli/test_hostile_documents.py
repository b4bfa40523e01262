"""Nothing hostile is live in a document that a verb writes: HTML, notebooks, CSV and JSON."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.apps import painted
from workbench.core.plain_text import UNSHOWN, preformatted
from workbench.figures.document import _unpacked

ROOT = Path(__file__).parents[2]
WORDS = (
    "=1+1<img src=x onerror=alert(1)><script>alert(1)</script>[a](javascript:alert(1))"
    "![b](http://evil.example/p.png)\x1b]0;t\x07\u202e\r\n# head\n$x$`c` 'q' \"d\" onload=alert(2)"
)
NAME = WORDS.replace("/", "")[:150]
ADAPTER = f"""
from dataclasses import replace
from tests.apps import painted
NAMES = tuple(f"=k{{k}}" + {WORDS!r} for k in range(17))

def load(checkpoint, device):
    model, report = painted.load(checkpoint, device)
    skeleton = replace(painted.COCO, name={WORDS!r}, keypoints=NAMES)
    return replace(model, skeleton=skeleton), report
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folder of a run, adapter and annotations that carry the words wherever a name stands."""
    top = tmp_path_factory.mktemp("hostile")
    run, adapter = top / NAME, top / "own.py"
    adapter.write_text(ADAPTER)
    for epoch, shift in ((1, 3), (2, 1)):
        painted.write_checkpoint(run / f"epoch_{epoch}.pth", epoch, shift)
    rows = [{"loss": 1 / n, f"loss{WORDS}": 0.3, WORDS: 1.0, "epoch": n, "step": n} for n in range(1, 6)]
    (run / "scalars.json").write_text("\n".join(map(json.dumps, rows)))
    (run / "config.py").write_text(
        "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=9.0), clip_grad=dict(max_norm=1e-9))"
        "  # \u202e\x07</pre><img src=x onerror=alert(1)>\ntrain_cfg = dict(max_epochs=210)\n"
    )
    data = painted.write_data(top / ("set" + NAME), 2)
    facts = json.loads(data.read_text())
    facts["categories"][0] |= {"name": WORDS, "keypoints": [f"=k{k}{WORDS}" for k in range(17)]}
    for image in facts["images"]:
        name = f"={image['id']}{NAME}.png"
        (data.parent / "images" / image["file_name"]).rename(data.parent / "images" / name)
        image["file_name"] = name
    data.write_text(json.dumps(facts))
    return run, adapter, data


class Live(HTMLParser):
    """What a browser would act on, and characters that it would obey."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        for name, value in attrs:
            address = name in ("href", "src", "srcdoc", "action", "data", "xlink:href")
            if name.startswith("on") or (address and not str(value).startswith("data:image/")):
                self.found.append((tag, name, value))
            if UNSHOWN.search((value or "").replace("\n", "")):
                self.found.append((tag, name, value))
            if name == "data-figure":
                figure = json.dumps(json.loads(_unpacked(value or "")), ensure_ascii=False)
                self.found += re.findall(r"<img|<a href|<script|(?<!\\)\\u00[01]", figure)
                self.found += UNSHOWN.findall(figure)
        if tag in ("iframe", "object", "embed", "link", "base", "form"):
            self.found.append((tag, attrs))

    def handle_data(self, data):
        if self.lasttag not in ("script", "style") and UNSHOWN.search(re.sub("[\t\n]", "", data)):
            self.found.append(data)


def live(path):
    """What is live in a document."""
    text = path.read_bytes().decode("utf-8")
    if path.suffix == ".html":
        page = Live(text)
        return page.found + ["script"] * (page.scripts - 2)  # plotly and what draws with it
    if path.suffix == ".csv":
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        formula = re.compile(r"[=@\t\r\n]|[+-](?![\d.,e+\- \[\]]*$)")
        return [cell for cell in cells if formula.match(cell) or UNSHOWN.search(cell)]
    facts = json.loads(text)
    found = UNSHOWN.findall(text.replace("\n", ""))
    for cell in facts["cells"] if path.suffix == ".ipynb" else ():
        found += UNSHOWN.findall(cell["source"].replace("\n", ""))
        if cell["cell_type"] == "code":
            ast.parse(cell["source"])
        else:
            found += re.findall(r"(?<!\\)[<\[$`]", cell["source"])
    return found


CALLS = (
    "curves RUN --out OUT.html", "curves RUN --out OUT.json", "curves RUN --out OUT.csv",
    "look peaks EPOCH --out OUT.html", "look peaks EPOCH --out OUT.json", "look peaks EPOCH --out OUT.csv",
    "errors EPOCH --out OUT.html", "graft FIRST EPOCH --out OUT.csv", "evaluate EPOCH --out OUT.json",
    "oracle EPOCH --out OUT.html", "diff FIRST,EPOCH --out OUT.html", "data lint SET --out OUT.json",
    "report RUN --resamples 20 --most 2 --out OUT.html", "sweep RUN --out OUT", "history RUN --out OUT",
    "diagnose RUN --out OUT.html", "diagnose CONFIG --out OUT.html", "audit CONFIG --out OUT.html",
    "audit CONFIG --out OUT.csv", "compare FIRST EPOCH --resamples 20 --out OUT",
)  # fmt: skip
OF_A_MODEL = ("look", "errors", "graft", "evaluate", "oracle", "report", "sweep", "history", "compare")


@pytest.mark.parametrize("call", CALLS)
def test_nothing_of_a_file_is_live_in_what_a_verb_writes(workbench, hostile, tmp_path, call):
    run, adapter, data = hostile
    paths = {"RUN": run, "FIRST": run / "epoch_1.pth", "EPOCH": run / "epoch_2.pth", "SET": data,
             "CONFIG": run / "config.py"}  # fmt: skip
    words = [paths.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in re.split("[ ,]", call)]
    if words[0] in OF_A_MODEL or (words[0] == "diagnose" and run in words):
        words += ["--adapter", adapter, "--data", data]
    code, out, err = workbench(*words)
    assert code in (0, 1), err
    assert not UNSHOWN.search((out + err).replace("\n", ""))
    assert not any(line.startswith("# head") for line in (out + err).splitlines())
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".csv", ".json", ".ipynb")]
    assert written or words[0] == "compare"
    for path in written:
        assert live(path) == [], path.name


def test_words_of_a_call_move_no_cursor(workbench):
    code, _, err = workbench("data", f"a{WORDS}", f"b{WORDS}")
    assert code == 2
    assert not UNSHOWN.search(err.rstrip("\n"))


def test_code_keeps_its_lines_and_tabs():
    assert preformatted("a\n\tb<\u202e") == "<pre>a\n\tb&lt;\\u202e</pre>"


def test_words_become_html_and_readable_json_in_one_place():
    """What escapes by itself forgets the characters that HTML and JSON let through."""
    own = {
        "workbench/core/plain_text.py", "workbench/figures/layout.py", "workbench/text/encoding.py",
        "apps/server/gradio_private.py",
    }  # fmt: skip
    for path in sorted(path for part in ("workbench", "apps") for path in (ROOT / part).rglob("*.py")):
        if path.relative_to(ROOT).as_posix() not in own:
            found = re.findall(r"html\.escape\(|write\w*\(.*ensure_ascii=False", path.read_text("utf-8"))
            assert not found, path
