"""workbench report: one file that needs no other, with everything that a reader asks for."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest

from tests.evaluation.test_comparison_details import people_set, sees, true_points
from workbench.checkpoints.demo import root


@pytest.fixture
def files(request, tmp_path, written):
    """Annotations with images, two result files, and a log."""
    from workbench.data.images import write_image

    pose_set = people_set(written, count=getattr(request, "param", 6))
    folder = tmp_path / "images"
    folder.mkdir()
    for record in list(pose_set.images.values())[:5]:
        write_image(folder / record.path.name, np.full((400, 600, 3), 90, np.uint8))
    truth = true_points(pose_set)
    for name, offset in (("a", 20.0), ("b", 1.0)):
        found = sees(pose_set, truth + offset, 1.0)
        (tmp_path / f"{name}.json").write_text(json.dumps(found.to_coco()))
    rows = [{"epoch": e, "AP": 0.1 * e if e < 5 else 0.2, "loss": 1 / e} for e in range(1, 9)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path, pose_set.source


def words(files, *more):
    folder, data = files
    return ("report", folder / "a.json", folder / "b.json", "--data", data, "--images", folder / "images",
            "--resamples", 20, *more)  # fmt: skip


@pytest.mark.parametrize("files", [8], indirect=True)  # fewer give no interval
def test_the_file_holds_numbers_curves_pictures_findings_hashes_and_the_command(files, workbench):
    folder, _ = files
    out = folder / "report <b>.html"
    code, text, err = workbench(*words(files, "--out", out, "--json"))
    assert code == 0, err
    facts = json.loads(text)
    assert [row["title"] for row in facts["epochs"]] == ["a", "b"]
    assert facts["comparison"]["delta"]["AP"]["low"] > 0
    assert "best is not last" in {finding["cause"] for finding in facts["findings"]}
    kinds = [one["kind"] for one in facts["inputs"]]
    assert kinds == ["results", "results", "annotations", "log"]
    page = out.read_text()
    for one in facts["inputs"]:
        assert one["sha256"] in page
    assert page.count("<svg viewBox") == 5  # one image is missing
    assert "No picture:" in page
    assert page.count("data:image/jpeg;base64,") == 5
    assert "Protocol: " in page
    # Nothing is fetched: every address inside a tag is data, or a part of this document.
    assert not re.search(r"<script[^>]+src=|<link|@import|url\(", page.split("<script")[0])
    own = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    tags = re.findall(r"<[a-z]+ [^<>]*(?:src|href)=[\"']([^\"']*)", own)
    assert all(address.startswith(("data:", "#")) for address in tags), tags[:3]


def test_the_command_in_the_report_makes_it_again(files, workbench):
    folder, _ = files
    first, again = folder / "one.html", folder / "two.html"
    code, text, _ = workbench(*words(files, "--out", first, "--json"))
    assert code == 0
    command = shlex.split(json.loads(text)["commands"][0])
    assert command[0] == "workbench"
    code, text, err = workbench(*[str(again) if w == str(first) else w for w in command[1:]], "--json")
    assert code == 0, err

    def same(path):
        # The diagnostics run says how long it took.
        return re.sub(r"[\d.]+ s, level|one\.html|two\.html", "", path.read_text())

    assert same(first) == same(again)


def test_a_folder_of_one_checkpoint_is_a_report_too(workbench, tmp_path):
    run = root() / "rtmpose-text-base"
    code, out, err = workbench(
        "report", run, "--data", "scenes-val", "--resamples", 2, "--diagnose", "none", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["comparison"] is None
    assert list(run.glob("*.pth")) == [run / "epoch_4.pth"]


def test_one_result_file_without_a_log_is_a_report_too(files, workbench):
    folder, data = files
    (folder / "log.jsonl").unlink()
    code, text, err = workbench(
        "report", folder / "b.json", "--data", data, "--out", folder / "r.html", "--json"
    )
    assert code == 0, err
    assert json.loads(text)["comparison"] is None
    assert "No training log was found" in (folder / "r.html").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("report",), "expected a run's folder"),
        (("report", "EMPTY", "--data", "scenes-val"), "report: expected a run's folder or a file; got empty"),
        (("report", "absent.json", "--data", "scenes-val"), "absent.json"),
        (("report", "--demo", "--out", "report.pdf"), "ending in .html"),
        (
            ("report", "--demo", "--diagnose", "all"),
            "expected none, files, forward, evaluate, train, got 'all'",
        ),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(workbench, tmp_path, more, said):
    (tmp_path / "empty").mkdir()
    code, out, err = workbench(*(tmp_path / "empty" if word == "EMPTY" else word for word in more))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_errors_and_the_diagnostics_run_are_in_the_file_which_stays_below_two_megabytes(files, workbench):
    folder, _ = files
    out = folder / "r.html"
    code, text, err = workbench(*words(files, "--out", out, "--json"))
    assert code == 0, err
    facts = json.loads(text)
    assert facts["errors"]["counts"]["good"] > 0
    assert facts["diagnosis"]["level"] == "files"
    page = out.read_text()
    heads = re.findall("<h2>([^<]*)</h2>", page)
    # The log's AP falls while its loss falls: causes of that are candidates of the diagnostics run.
    of_diagnosis = ("Possible causes that what was given does not distinguish", "Worth adding")
    assert of_diagnosis[0] in heads
    assert [head for head in heads if head not in of_diagnosis] == [
        "Numbers", "Errors by kind", "Findings", "Diagnostics run", "Curves", "Worst cases",
        "How this report was made",
    ]  # fmt: skip
    assert page.count('id="plotly"') == 1
    assert len(page) < 2_000_000
    code, text, err = workbench(*words(files, "--diagnose", "none", "--json"))
    assert code == 0, err
    assert json.loads(text)["diagnosis"] is None
    assert "--diagnose none" in json.loads(text)["commands"][0]


def test_a_folder_of_epochs_is_reported_with_all_of_them(tmp_path, written, workbench):
    from tests.evaluation.test_history import write

    pose_set = people_set(written, count=3)
    run = tmp_path / "run"
    for epoch, offsets in ((1, (40, 40, 0)), (2, (0, 40, 0)), (3, (40, 0, 0)), (10, (0, 1, 40))):
        write(run, pose_set, epoch, offsets)
    out = tmp_path / "r.html"
    code, text, err = workbench(
        "report", run, "--data", pose_set.source, "--most", 2, "--resamples", 20, "--out", out, "--json"
    )
    assert code == 0, err
    facts = json.loads(text)
    assert [row["title"] for row in facts["epochs"]] == ["epoch_1", "epoch_10"]
    assert [row["epoch"] for row in facts["all_epochs"]["epochs"]] == [1, 2, 3, 10]
    assert [row["forgotten"] for row in facts["all_epochs"]["forgetting"]["events"]] == [0, 0, 1, 1]
    assert "2 of 4" in facts["notes"][0]
    assert "<h2>All epochs</h2>" in out.read_text()
