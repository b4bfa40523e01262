"""The benchmark of mutated files counts what goes wrong, in processes of its own, and writes its section."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reliability
from tests.mutation import watch


def test_what_a_reader_does_wrong_is_counted(tmp_path):
    def misbehaving(path: Path):
        text = path.read_bytes()
        if text == b"traceback":
            return {}["missing"]
        if text == b"write":
            (tmp_path / "written").write_text("x")
        if text == b"memory":
            return len(bytearray(600 << 20))
        if text == b"refused":
            raise ValueError("refused")
        return text

    sample = reliability.Sample(
        "a", b"whole", misbehaving, (ValueError,), lambda given, wanted: given == wanted
    )
    counts = reliability.Counts()
    for data in (b"whole", b"other", b"refused", b"traceback", b"write", b"memory"):
        counts.add(reliability._read(sample, tmp_path / "a", data, b"whole", watch()))
    assert (counts.files, counts.accepted, counts.other_values) == (6, 4, 3)
    assert (counts.tracebacks, counts.executions, counts.memory, counts.hangs) == (1, 1, 1, 0)


def test_a_section_is_written_anew_and_the_rest_of_the_page_is_kept(tmp_path):
    page = tmp_path / "page.md"
    counts = reliability.Counts(files=20, accepted=3, compared=3, examples=["a.npz 3: a hang"], hangs=1)
    for _ in range(2):
        reliability.written(page, reliability.section({"npz": counts}, 20, 0, 60))
        text = page.read_text()
        assert text.count("| npz | 20 | 0 | 0 | 0 | 1 | 0 | 3, 0 of 3 with checksums |") == 1
        page.write_text(text if "Something" in text else f"{text}\n## Something else\n")
    assert page.read_text().endswith("## Something else\n")
    assert "- a.npz 3: a hang" in page.read_text()


@pytest.mark.slow
def test_a_run_of_one_format(tmp_path):
    words = ["mutated", "--count", "20", "--formats", "logs", "--out", str(tmp_path / "page.md")]
    assert reliability.main(words) == 0
    assert "| logs | 20 | 0 | 0 | 0 | 0 | 0 |" in (tmp_path / "page.md").read_text()


def test_the_page_of_the_project_has_every_format():
    text = reliability.PAGE.read_text()
    assert all(f"| {name} |" in text for name in reliability.FORMATS)
