"""What the verbs on conditioning share: which checkpoint and text, which samples of several species."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.core import Run, Sample
    from workbench.models import LoadedModel

DEMO, BASE, DEMO_LIMIT = "rtmpose-text-fusion", "rtmpose-text-base", 32
# What both of them loaded before they were trained: its last epoch.
STARTED_FROM = "rtmpose-demo"

# What reads text comes from mmengine, or was written as safetensors.
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")

Files = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(
        help="A run's folder, or checkpoints in the order of their epochs; the last is looked into. An index "
        "or a folder of parts is one."
    ),
]
Text = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--text", help="Vectors (.npz) for the neck, written by `workbench text --out`."),
]
FilmTap = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--film-tap", help="In code of your own: the tap of the layer that leaves γ and β side by side."
    ),
]
Samples = Annotated[
    int,
    typer.Option("--samples", min=1, help="How many instances, of different species as far as there are."),
]
Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", help=f"Instances for AP, spread over the set: all; {DEMO_LIMIT} with --demo."),
]


def demo_file() -> Path:
    """The last epoch of the built-in text fusion run.

    Raises:
        NotAvailable: it is not there.
    """
    from workbench.checkpoints.demo import demo_checkpoints

    return demo_checkpoints(DEMO)[-1]


def newest(files: Sequence[Path] | None) -> Path | list[Path] | None:
    """The files of one model; of a run's folder its last epoch, of a folder with an index the folder.

    Raises:
        ValueError: the folder holds no checkpoint.
    """
    if not files or len(files) > 1:
        return list(files) if files else None
    return epochs_of(files)[-1] if files[0].is_dir() else files[0]


def epochs_of(files: Sequence[Path]) -> list[Path]:
    """The files, with a run's folder standing for its checkpoints in the order of their numbers.

    An index (``*.index.json``), and a folder with one, is one epoch: a model in parts.

    Raises:
        ValueError: a folder holds no checkpoint.
    """
    from workbench.checkpoints.epochs import as_typed, name_of, training_order
    from workbench.checkpoints.shards import index_of, models_in

    found: list[Path] = []
    for file in as_typed(files):
        if not file.is_dir() or index_of(file) is not None:
            found.append(file)
            continue
        held = models_in(file, SUFFIXES)
        # best_coco_AP_epoch_180.pth repeats an epoch: it is no point of its own.
        numbered = [
            path for path in held if re.search(r"\d+$", name_of(path)) and not path.stem.startswith("best")
        ]
        if not held:
            raise ValueError(f"{file}: expected checkpoints ({', '.join(SUFFIXES)}) in this folder, got none")
        found += training_order(numbered or held)
    return found


def run_epochs(place: Path) -> list[Path]:
    """Checkpoints of a run's folder, or of the folder of one of its files, in the order of their epochs."""
    folder = place if place.is_dir() else place.resolve().parent
    if not folder.is_dir() or not any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()):
        return []
    return epochs_of([folder])


def opened(
    file: Path | list[Path] | None, text: Path | None, film_tap: str | None = None, **opening: Any
) -> LoadedModel:
    """A checkpoint whose model reads text, with other text where that is asked for.

    Raises:
        NotAvailable: the model reads no text.
        ValueError: no file, or a text of another dimension.
    """
    import dataclasses

    from workbench.inspectors.conditioning.passes import reads_text, with_film_tap
    from workbench.models import open_model
    from workbench.models.mmpose_user_text import TopDownWithText
    from workbench.models.text_fusion import TextFusion
    from workbench.text.vectors import read_text

    if file is None and opening.get("adapter") is None:
        raise ValueError("expected a checkpoint of a model with text; --demo shows the built-in one")
    loaded = open_model(file, **opening)
    reads_text(loaded.model)
    model: Any = loaded.model
    if text is not None:
        if not isinstance(model, (TextFusion, TopDownWithText)):
            raise ValueError("--text: the text of an adapter's model is put in by its own prepare")
        model = model.reading(read_text(text))
    if film_tap:
        model = with_film_tap(model, film_tap)
    return dataclasses.replace(loaded, model=model)


def looked(loaded: LoadedModel, samples: Sequence[Sample]) -> Run:
    """One pass over the samples."""
    from workbench.core.run import run

    return run(loaded.model, samples, title=loaded.title)


def keep(report: Any, facts: dict[str, Any], out: Path | None) -> list[str]:
    """Write a report where that is asked for; the line that says so."""
    from workbench.cli.looking import check_writable, write

    if out is None:
        return []
    check_writable(out)
    write(
        report,
        {"inspector": type(report).__name__, "model": facts.get("title", ""), "samples": [], **facts},
        out,
    )
    facts["written"] = str(out)
    return ["", f"written: {out}"]
