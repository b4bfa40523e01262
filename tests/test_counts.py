"""Counts take the right noun and signed numbers no minus before zeros: one function writes each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from workbench.core.report import counted

ROOT = Path(__file__).parents[1]
NOUNS = re.compile(
    r" (labelled |annotated |judged |training |missing )?(instances|images|annotations|keypoints|people|"
    r"poses|categories|epochs|samples|tensors|pictures|detections|results|checkpoints|boxes|crops|frames)\b"
)
# What stands before the noun there is a word, or several numbers.
WORDS = {
    "WORDS[kind]", "kind", "described", "sizes", "skeleton.name", "str(K)[:20]", "str(N)[:20]", "what",
    "' and '.join(map(str, sorted(K)))", "'learned' if learned else 'other'",
    "'all' if every else 'several'", "len(nested)", "hold", "shown(base)", "'slice'",
}  # fmt: skip


def uncounted(text: str) -> list[str]:
    """Placeholders of f-strings that a noun in the plural follows, or that may write -0.000."""
    found = []
    for node in ast.walk(ast.parse(text)):
        spec = ast.unparse(node.format_spec or []) if isinstance(node, ast.FormattedValue) else ""
        if re.match(r"f'\+[\d.]*[%f]", spec):
            found.append(f"line {getattr(node, 'lineno', 0)}: {spec} is for signed_text")
        if isinstance(node, ast.Constant) and re.search(r"%\{[^}]*:\+", str(node.value)):
            found.append(f"line {node.lineno}: plotly writes -0.000; use hovertext and signed_text")
        if not isinstance(node, ast.JoinedStr):
            continue
        for one, after in zip(node.values, node.values[1:], strict=False):
            if isinstance(one, ast.FormattedValue) and isinstance(after, ast.Constant):
                if not NOUNS.match(str(after.value)):
                    continue
                value = ast.unparse(one.value)
                constant = re.fullmatch(r"_?[A-Z][A-Z_]+", value)  # a limit, far above 1
                if not constant and "counted(" not in value and value not in WORDS:
                    found.append(f"line {one.lineno}: {{{value}}}{after.value[:30]}")
    return found


@pytest.mark.parametrize("room", ["workbench", "apps"])
def test_no_sentence_counts_one_of_something_in_the_plural_or_writes_minus_zero(room):
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / room).rglob("*.py"))
        if (lines := uncounted(path.read_text("utf-8")))
    }
    assert not found, f"write counted(number, noun) or signed_text(number) of workbench.core.report: {found}"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 step"),
        (2, "2 steps"),
        ("1", "1 step"),
        ("3 of 40", "3 of 40 steps"),
        (None, "an unknown number of steps"),
    ],
)
def test_a_count_with_its_noun(count, said):
    assert counted(count, "step") == said


def test_the_search_finds_what_it_is_for():
    assert uncounted('f"{n} images"') == ["line 1: {n} images"]
    assert uncounted('(f"{len(a):,} "\n"labelled keypoints lie")')
    assert not uncounted("f\"{counted(n, 'image')}, of {MOST} images and {name} here\"")


def test_counts_take_noun_and_verb():
    assert counted(1, "instance has", "instances have") == "1 instance has"
    assert counted(0, "image") == "0 images"
    assert counted(12345, "category", "categories", spec=",") == "12,345 categories"
    assert counted(1.0, "epoch", spec="g") == "1 epoch"
