"""workbench data: contents and problems of a keypoint data set; the built-in sets as folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from workbench.cli.options import Demo, Images
from workbench.cli.output import Answer, check_room

DataName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="A COCO-format keypoint json, or a built-in set; a list of those when left out."),
]
Category = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--category", help="Id or name of the one category to read."),
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="A new folder, for the set as images and one COCO json."),
]


def command(
    name: DataName = None,
    images: Images = None,
    category: Category = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Count the contents of a data set and list its problems; without a name, list the built-in sets."""
    if name is None and not demo:
        return _listed()
    from workbench.data.facts import data_facts
    from workbench.data.opening import export, open_data

    if out is not None:
        check_room(out / "annotations.json")
    pose_set = open_data(name or "scenes-val", images, category, _progress)
    report = data_facts(pose_set, images=True)
    facts: dict[str, Any] = dict(report.to_json())
    lines = [report.summary(), f"source: {report.source}", ""]
    width = max(map(len, report.keypoints))
    lines += [f"{'keypoint':{width}}  visible  hidden  unlabelled"]
    for row in report.table():
        shares = f"{row['visible']:7.1%}  {row['hidden']:6.1%}  {row['unlabelled']:10.1%}"
        lines.append(f"{row['keypoint']:{width}}  {shares}")
    if len(report.categories) > 1:
        lines += ["", "categories: " + ", ".join(f"{k} {n}" for k, n in report.categories.items())]
    lines += ["", *(f"finding: {finding}" for finding in report.findings)]
    if out is not None:
        facts["written"] = str(export(pose_set, out))
        lines.append(f"written: {facts['written']}")
    return Answer(facts, "\n".join(lines))


def _listed() -> Answer:
    from workbench.data import DESCRIPTIONS

    width = max(map(len, DESCRIPTIONS))
    text = "\n".join(f"{name:{width}}  {line}" for name, line in DESCRIPTIONS.items())
    return Answer({"builtin": dict(DESCRIPTIONS)}, text)


def _progress(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        typer.echo(f"\rdrawing scenes: {done} of {total}", err=True, nl=done == total)
