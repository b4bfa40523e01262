"""`workbench diff A B`: what changed between two checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.options import Demo, HtmlOut, argument, option
from workbench.cli.output import Answer, check_file, written

if TYPE_CHECKING:
    from workbench.checkpoints.difference import CheckpointDifference

First = Annotated[Path | None, argument("The first checkpoint, the base of relative changes.")]
Second = Annotated[Path | None, argument("The second checkpoint.")]
Averaged = Annotated[
    bool | None,
    option("--ema/--raw", "Compare averaged or raw weights; by default what each trainer would load."),
]
Top = Annotated[int, option("--top", "Number of tensors to list.", min=0)]


def command(
    a: First = None,
    b: Second = None,
    demo: Demo = False,
    ema: Averaged = None,
    out: HtmlOut = None,
    top: Top = 10,
) -> Answer:
    """Per tensor relative L2, cosine and largest change, grouped by module; --out FILE.html draws it."""
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.difference import compare_checkpoints

    if demo:
        from workbench.checkpoints.demo import demo_checkpoints

        files = demo_checkpoints()
        a, b = files[0], files[-1]
    if a is None or b is None:
        raise ValueError("two checkpoints are needed: workbench diff A B, or --demo for the built-in ones")
    check_file(out, ".html")
    found = compare_checkpoints(open_checkpoint(a), open_checkpoint(b), ema=ema)
    return written(Answer(found.to_json(), as_text(found, top)), out, found)


def as_text(found: CheckpointDifference, top: int) -> str:
    """The summary, the modules and the tensors that changed most."""
    lines = [found.summary(), ""]
    moved = sorted(found.modules.items(), key=lambda m: -m[1] if m[1] == m[1] else float("-inf"))
    if moved:
        width = max(len(name) for name, _ in moved)
        lines += [
            "relative L2 by module",
            *(f"  {name:<{width}}  {_number(change)}" for name, change in moved),
            "",
        ]
    rows = [row for row in found.table() if row["relative L2"] != 0][:top]
    if rows:
        width = max(len(row["tensor"]) for row in rows)
        lines.append(f"{'tensor':<{width}}  rel. L2    cosine     largest    at")
        lines += [
            f"{row['tensor']:<{width}}  {_number(row['relative L2']):<9}  {_number(row['cosine']):<9}  "
            f"{_number(row['largest change']):<9}  [{row['at']}]"
            for row in rows
        ]
    return "\n".join(lines).rstrip()


def _number(value: float) -> str:
    return f"{value:.4g}"
