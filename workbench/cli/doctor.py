"""workbench doctor: installed versions, known conflicts, what to do; and the meaning of an error message."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from workbench.cli.options import Demo, option
from workbench.cli.output import Answer

Error = Annotated[str | None, option("--error", "An error message to explain: its last line is enough.")]

# A frequent case: a head without its flatten, mistaken for a conflict of versions.
EXAMPLE = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"

_SIGNS = {
    "broken": "BROKEN  ",
    "untested": "untested",
    "missing": "missing ",
    "handled": "handled ",
    "fine": "fine    ",
}


def command(error: Error = None, demo: Demo = False) -> Answer:
    """Check installed versions for known conflicts and the demo files, or explain an error message.

    Exit code 1 when something is broken. Example:
    `workbench doctor --error "mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"`.
    """
    if error is None and demo:
        error = EXAMPLE
    return _explained(error) if error is not None else _examined()


def _explained(error: str) -> Answer:
    from workbench.doctor import explain

    if not error.strip():
        raise ValueError("--error: expected a message, got an empty one")
    found = explain(error)
    if found is None:
        text = "this message is not known; `workbench doctor` without --error checks the installed versions"
        return Answer({"error": error, "known": False, "cause": None, "version": None, "do": None}, text)
    blame = "installed versions are the cause" if found.version else "no installed version is the cause"
    text = f"{error}\n\n{found.cause}\n{blame}.\nWhat to do: {found.do}"
    return Answer({"error": error, "known": True, **dataclasses.asdict(found)}, text)


def _examined() -> Answer:
    from workbench.checkpoints.demo import verify
    from workbench.core import NotAvailable
    from workbench.doctor import examine
    from workbench.doctor.examination import table

    found = examine()
    try:
        demo_files, missing = verify(), []
    except NotAvailable as absent:
        demo_files, missing = [], [str(absent)]
    facts = {"summary": found.summary(), **dataclasses.asdict(found), "broken": len(found.broken)}
    facts["demo_files"] = [*demo_files, *missing]
    rows = table(found)
    width = max(len(row["package"]) for row in rows)
    wide = max(len(row["version"]) for row in rows)
    lines = [found.summary(), "", f"Python {found.python} on {found.platform}; {found.device}", ""]
    lines += [f"{row['package']:{width}}  {row['version']:{wide}}  {row['for']}" for row in rows]
    lines.append("")
    for problem in found.problems:
        lines.append(f"{_SIGNS[problem.status]}  {problem.name}: {problem.found}")
        lines.append(f"          {problem.matters}" + (f"; {problem.do}" if problem.do else ""))
    lines += [f"{_SIGNS['broken']}  demo checkpoints: {one}; check them out again" for one in demo_files]
    lines += [f"{_SIGNS['missing']}  demo checkpoints: {one}" for one in missing]
    if not facts["demo_files"]:
        lines.append(f"{_SIGNS['fine']}  demo checkpoints: all files are as published")
    return Answer(facts, "\n".join(lines), exit_code=1 if found.broken or demo_files else 0)
