"""Options and files that the conditioning verbs share: checkpoints, text, film tap, samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import Adapter, Config, Data, Device, ImageOptions, Images, Remap, argument, option
from workbench.core.capabilities import TakesText
from workbench.core.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.core import Run, Sample
    from workbench.data import PoseSet
    from workbench.models import LoadedModel

DEMO, BASE, DEMO_LIMIT = "rtmpose-text-fusion", "rtmpose-text-base", 32
# What both of them loaded before they were trained: its last epoch.
STARTED_FROM = "rtmpose-demo"

Files = Annotated[
    list[Path] | None,
    argument(
        "A run's folder, or checkpoints in the order of their epochs; the last one is examined. An index "
        "or a folder of parts is one."
    ),
]
Text = Annotated[
    Path | None, option("--text", "Vectors (.npz) for the neck, written by `workbench text --out`.")
]
FilmTap = Annotated[
    str | None,
    option(
        "--film-tap",
        "The tap of the layer that outputs γ and β side by side, for a network that does not "
        "declare it (`workbench paths` lists the taps).",
    ),
]
Samples = Annotated[int, option("--samples", "Number of instances, of different species if possible.", min=1)]
Limit = Annotated[
    int | None,
    option(
        "--limit",
        f"Number of instances for AP, spread over the set; all by default, {DEMO_LIMIT} with --demo.",
    ),
]


@dataclass(frozen=True)
class ConditionedOptions:
    """Which network with a condition, with which text, on which data."""

    config: Config = None
    adapter: Adapter = None
    remap: Remap = False
    film_tap: FilmTap = None
    text: Text = None
    data: Data = None
    images: Images = None
    pictures: ImageOptions = field(default_factory=ImageOptions)
    device: Device = "cpu"

    def open(self, file: Path | list[Path] | None) -> LoadedModel:
        """The model of a checkpoint; see `opened`."""
        how = {"config": self.config, "adapter": self.adapter, "remap": self.remap, "device": self.device}
        return opened(file, self.text, self.film_tap, **how)

    def pose_set(self) -> PoseSet:
        """The data set; drawn scenes where none is named."""
        from workbench.data.opening import open_data

        return open_data(self.data or "scenes-val", self.images, reading=self.pictures.reading)


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
    # A conditioned network has named weights; an export beside it is none.
    from workbench.checkpoints.checkpoint_files import (
        WEIGHT_ENDINGS,
        as_typed,
        index_of,
        models_in,
        numbered_epochs,
        training_order,
    )

    found: list[Path] = []
    for file in as_typed(files):
        if not file.is_dir() or index_of(file) is not None:
            found.append(file)
            continue
        models = models_in(file, WEIGHT_ENDINGS)
        if not models:
            raise ValueError(
                f"{file}: expected checkpoints ({', '.join(WEIGHT_ENDINGS)}) in this folder, got none"
            )
        found += numbered_epochs(models) or training_order(models)
    return found


def run_epochs(place: Path) -> list[Path]:
    """Checkpoints of a run's folder, or of the folder of one of its files, in the order of their epochs."""
    from workbench.checkpoints.checkpoint_files import WEIGHT_ENDINGS, models_in

    folder = place if place.is_dir() else place.resolve().parent
    return epochs_of([folder]) if folder.is_dir() and models_in(folder, WEIGHT_ENDINGS) else []


def opened(
    file: Path | list[Path] | None, text: Path | None, film_tap: str | None = None, **opening: Any
) -> LoadedModel:
    """A checkpoint of a conditioned model.

    Args:
        file: of the checkpoint; None where the adapter needs none.
        text: vectors to use in place of the model's own.
        film_tap: the layer that outputs γ and β.
        opening: options of workbench.models.open_model.

    Raises:
        NotAvailable: the model declares no condition.
        ValueError: no file, or a text of another dimension.
        KeyError: no such tap.
    """
    from workbench.inspectors.conditioning.passes import conditioning_of
    from workbench.models import open_model
    from workbench.models.conditioning import with_film_tap
    from workbench.text.vectors import read_text

    if file is None and opening.get("adapter") is None:
        raise ValueError("expected a checkpoint of a conditioned model; --demo shows the built-in one")
    loaded = open_model(file, **opening)
    model: Any = with_film_tap(loaded.model, film_tap) if film_tap else loaded.model
    conditioning_of(model, needed=False)
    if text is not None:
        if not isinstance(model, TakesText):
            raise ValueError("--text: this model takes no other text; an adapter puts in its own in prepare")
        model = model.reading(read_text(text))
    return dataclasses.replace(loaded, model=model)


def one_pass(loaded: LoadedModel, samples: Sequence[Sample]) -> Run:
    """One pass over the samples."""
    return run(loaded.model, samples, title=loaded.title)
