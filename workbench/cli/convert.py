"""`workbench convert FILE --to NAMING --out FILE`: a ViTPose under the names of another code base."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.options import Assume, Demo, Expert, Files, assumed, model_files, option
from workbench.cli.output import Answer, check_file

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.models.families import Converted
    from workbench.models.opening import StatedFacts

To = Annotated[
    str | None,
    option("--to", "Target names: hf (transformers), mmpose-1 (mmpose 1.x, Sapiens), mmpose-0 (ViTPose)."),
]
NewFile = Annotated[
    Path | None, option("--out", "The new file: .safetensors, or .pth, .pt, .bin for torch.save.")
]
Drop = Annotated[
    list[str] | None,
    option("--drop", "Leave out this tensor, which has no place in the network; may be repeated."),
]
Check = Annotated[
    bool | None,
    option(
        "--check/--no-check",
        "Compare the outputs of both files for one input; by default up to 700 M parameters.",
    ),
]


def command(
    files: Files = None,
    to: To = None,
    out: NewFile = None,
    assume: Assume = None,
    expert: Expert = None,
    drop: Drop = None,
    check: Check = None,
    demo: Demo = False,
) -> Answer:
    """The weights of a ViTPose or Sapiens under the names of another code base, with equal outputs."""
    from workbench.models.families import conversions
    from workbench.models.opening import stated_facts

    file, written = model_files(files), conversions()
    stated = stated_facts(assume=assumed(assume, expert))
    facts = list(dict.fromkeys(fact for one in written.values() for fact in one.facts))
    if unused := [name for name in stated.given() if name not in facts]:
        needed = f"{', '.join(facts[:-1])} and {facts[-1]}"
        raise ValueError(f"--assume {unused[0]}: a conversion needs {needed} alone")
    if demo:
        with tempfile.TemporaryDirectory(prefix="workbench-convert-") as folder:
            return _demo(Path(folder), to or next(iter(written.values())).demo_naming, out, check)
    if file is None:
        raise ValueError("no checkpoint: name a file, or try a tiny random ViTPose with --demo")
    if to is None or out is None:
        raise ValueError(
            "convert: expected --to hf, mmpose-1 or mmpose-0, and --out with the new file's name"
        )
    from workbench.checkpoints import open_checkpoint

    return _converted(open_checkpoint(file), to, out, stated, drop or [], check)


def _demo(folder: Path, to: str, out: Path | None, check: bool | None) -> Answer:
    from workbench.checkpoints import open_checkpoint
    from workbench.models.families import conversion_to
    from workbench.models.opening import StatedFacts

    file, name = conversion_to(to).demo(folder, to)
    return _converted(open_checkpoint(file), to, out or folder / name, StatedFacts(), [], check)


def _converted(
    checkpoint: Checkpoint, to: str, out: Path, stated: StatedFacts, drop: list[str], check: bool | None
) -> Answer:
    from workbench.checkpoints.safetensors_file import ENDINGS
    from workbench.core.report import plain
    from workbench.models.families import conversion_to

    conversion = conversion_to(to)
    check_file(out, *ENDINGS)
    if any(out.exists() and path.resolve() == out.resolve() for path in checkpoint.paths):
        raise ValueError(f"--out {out.name}: this is the file that is read; choose another name")
    found = conversion.convert(checkpoint, to, out, stated, drop, check)
    return Answer({"summary": found.summary(), **plain(found)}, as_text(found))


def as_text(found: Converted) -> str:
    """The summary, the files, and what is to be known about them."""
    lines = [found.summary(), *(f"  written   {file}" for file in found.files)]
    lines += [f"  note      {note}" for note in found.notes]
    lines += [f"  dropped   {name}, as --drop says" for name in found.dropped]
    lines += [f"  left out  {text} (only in {found.file})" for text in found.left]
    if found.config is not None and len(found.files) == 1:
        lines.append(
            "  config    transformers also needs a config.json (--json prints it); it is written beside a "
            "file called model.safetensors"
        )
    return "\n".join(lines)
