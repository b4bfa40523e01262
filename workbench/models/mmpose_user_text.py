"""A top-down mmpose network whose features get text by the user's own code (custom_imports).

mmengine calls ``module(inputs, data_samples, mode="loss")`` in training and ``mode="predict"`` at inference.
Both are called here as the Runner calls them, and stopped when the head's `forward` has returned. So no loss
and no labels are needed, and what is measured is what the user's code did up to there.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Batch, NotAvailable, Outputs, Passed, Sample
from workbench.core.conditioning import Conditioning
from workbench.core.errors import errors_of_user_code
from workbench.core.files import resolved
from workbench.models.conditioning import LIBRARIES
from workbench.models.mmpose.trust import OwnConfig
from workbench.models.top_down import TopDown
from workbench.text.vectors import TextVectors, builtin_text, plain_vectors, read_text

if TYPE_CHECKING:
    from torch import Tensor, nn

_TEXT = ("subject", "keypoints")
# Under these names mmpose's data samples carry the text; those of the published LoadTextEmbeddings.
_FIELDS = {"subject": "global_text", "keypoints": "local_text"}


def own_classes(module: nn.Module) -> tuple[type, ...]:
    """Classes of the network's parts that come from no library, in the order of its parts."""
    found = dict.fromkeys(type(part) for part in module.modules())
    return tuple(kind for kind in found if kind.__module__.partition(".")[0] not in LIBRARIES)


def with_own_text(
    model: TopDown,
    config: Mapping[str, Any],
    folder: Path | None,
    convert: Callable[[Any], Outputs],
    own: Sequence[type],
) -> TopDownWithText:
    """The model with the text that its config names; without text, a TopDown like any other.

    Args:
        model: around a network that holds classes of the user's own.
        config: that the user named.
        folder: where files that it names may lie.
        convert: what the head returned, as Outputs.
        own: the user's classes; the file of the first tells errors.
    """
    try:
        text, why = text_of_config(config, folder, model.skeleton.keypoints), ""
    except (NotAvailable, FileNotFoundError) as absent:
        text, why = None, str(absent)
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(TopDown)}
    source = inspect.getsourcefile(own[0])
    return TopDownWithText(
        **fields, convert=convert, text=text, no_text=why, source=Path(source) if source else Path("config")
    )


class _HeadAnswered(BaseException):
    """The head has answered. No Exception: the user's code must not catch it."""

    def __init__(self, features: Any, returned: Any) -> None:
        super().__init__()
        self.features, self.returned = features, returned


@dataclass(frozen=True, eq=False)
class TopDownWithText(TopDown):
    """A TopDown whose network may give its features text, by code of the user's own: see Conditioned.

    Attributes:
        convert: what the head returned, as Outputs.
        text: sentence vectors; None where there are none.
        no_text: why there are none.
        film: the tap of the layer that outputs γ and β; "" where none is named.
        source: the user's file, named in errors.
    """

    convert: Callable[[Any], Outputs] = None  # type: ignore[assignment] - always given
    text: TextVectors | None = None
    no_text: str = ""
    film: str = ""
    source: Path = Path("config")

    @property
    def conditioning(self) -> Conditioning:
        """What mmpose calls the part between backbone and head (``neck``), and the layer that was named."""
        return Conditioning(
            noun="text",
            part="neck" if "neck" in self.taps else "",
            film=self.film,
            vectors=None if self.text is None else self.text.subject_vectors,
            names=() if self.text is None else self.text.subjects,
            training="your training pass",
            inference="your predict",
            unavailable="" if self.text is not None else f"text: {self.no_text}",
        )

    def with_film(self, tap: str) -> TopDownWithText:
        """The same model with this tap as the layer that outputs γ and β."""
        return dataclasses.replace(self, film=tap)

    def reading(self, text: TextVectors) -> TopDownWithText:
        """The same network with other text."""
        return dataclasses.replace(self, text=text)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops, and the text's vectors where there is text.

        Raises:
            ValueError: a box has no size, or a category has no description.
        """
        batch = super().prepare(samples)
        return batch if self.text is None else self.text.added_to(batch, samples)

    def forward(self, batch: Batch) -> Outputs:
        """In evaluation mode what the user's predict gives for the text; else as a TopDown."""
        if self.text is None or self.module.training:
            return super().forward(batch)
        return self.predict_pass(batch).outputs

    def training_pass(self, batch: Batch) -> Passed:
        """What the head answers in the user's `loss`.

        Raises:
            ValueError: the user's code raised something; with the line.
            NotAvailable: it does not call the head's forward.
        """
        return self._one_pass(batch, "loss")

    def predict_pass(self, batch: Batch) -> Passed:
        """What the head answers in the user's `predict`, without flip test.

        Raises:
            ValueError: the user's code raised something; with the line.
            NotAvailable: it does not call the head's forward.
        """
        return self._one_pass(batch, "predict")

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The data samples with text vectors edited to others of the same shape, or with none.

        Raises:
            NotAvailable: there is no text.
        """
        if self.text is None:
            raise NotAvailable(f"text: {self.no_text}")
        if edit is None:
            return dataclasses.replace(
                batch, extra={name: part for name, part in batch.extra.items() if name not in _TEXT}
            )
        edited = {name: edit(batch.extra[name]) for name in _TEXT}
        return dataclasses.replace(batch, extra={**batch.extra, **edited})

    def _one_pass(self, batch: Batch, mode: Literal["loss", "predict"]) -> Passed:
        if self.text is None:
            raise NotAvailable(f"text: {self.no_text}")
        device = next(self.module.parameters()).device
        samples = [self._data_sample(batch, n) for n in range(len(batch))]
        try:
            with errors_of_user_code(self.source), _stopping(self.module):
                self.module(batch.pixels.to(device), samples, mode=mode)
        except _HeadAnswered as answered:
            return Passed(self.convert(answered.returned), _deepest(answered.features))
        raise NotAvailable(
            f"{mode} of {type(self.module).__name__}: it does not call the forward of its head, so what the "
            "head was given is not known; an adapter with the capability Conditioned can state it"
        )

    def _data_sample(self, batch: Batch, n: int) -> Any:
        """What the user's pipeline would hand over of one sample, as far as inference needs it."""
        from mmpose.structures import PoseDataSample

        H, W = self.input_size
        centre = batch.to_image[n] @ np.array([(W - 1) / 2, (H - 1) / 2, 1.0])
        scale = np.hypot(*batch.to_image[n, :, 0]) * np.array([W, H], np.float32)
        meta: dict[str, Any] = {
            "input_size": (W, H),
            "input_center": centre.astype(np.float32),
            "input_scale": scale.astype(np.float32),
            "flip_indices": list(self.skeleton.mirror),
        }
        if batch.samples:
            sample = batch.samples[n]
            meta |= {"id": sample.annotation_id, "img_id": sample.image_id, "img_path": sample.path,
                     "category_id": sample.category_id, "ori_shape": sample.image.shape[:2]}  # fmt: skip
        found = {field: batch.extra[name] for name, field in _FIELDS.items() if name in batch.extra}
        meta |= {field: vectors[n].cpu().numpy().copy() for field, vectors in found.items()}
        return PoseDataSample(metainfo=meta)


def _deepest(features: Any) -> Any:
    """The last map of several stages."""
    return _deepest(features[-1]) if isinstance(features, (tuple, list)) and features else features


@contextmanager
def _stopping(module: Any) -> Iterator[None]:
    """The pass ends when the head's forward has answered; no mirrored pass comes before."""
    head = module.head
    forward, before = head.forward, vars(head).get("forward")

    def answering(features: Any, *more: Any, **named: Any) -> Any:
        raise _HeadAnswered(features, forward(features, *more, **named))

    test_cfg = getattr(module, "test_cfg", None)
    flip = isinstance(test_cfg, dict) and test_cfg.get("flip_test")
    rules: Any = test_cfg
    head.forward = answering
    if flip:
        rules["flip_test"] = False
    try:
        yield
    finally:
        if flip:
            rules["flip_test"] = flip
        if before is None:
            del head.forward
        else:
            head.forward = before


# The text that a config names: sentence vectors, of the built-in text or of files beside it.

_LOADER = "LoadTextEmbeddings"
# What a user puts beside a checkpoint whose config names no text that is here.
BESIDE = "text.npz"
_DATA = ("train_dataloader", "val_dataloader", "test_dataloader")


def text_of_config(config: Mapping[str, Any], folder: Path | None, keypoints: tuple[str, ...]) -> TextVectors:
    """The text that a config names, else text.npz beside the checkpoint.

    Args:
        config: the whole config.
        folder: where files that it names may lie, and text.npz when none of them does; None allows only
            built-in text.
        keypoints: names of the rows of vectors without names.

    Raises:
        NotAvailable: the config names none, or one that is not below these folders.
        FileNotFoundError: no such file.
    """
    folders = () if folder is None else (folder,)
    if folders and isinstance(config, OwnConfig):
        folders += (Path.cwd(),)
    try:
        return _text(config, folders, keypoints)
    except (NotAvailable, FileNotFoundError):
        if folder is not None and (folder / BESIDE).is_file():
            return read_text(folder / BESIDE)
        raise


def _text(config: Mapping[str, Any], folders: tuple[Path, ...], names: tuple[str, ...]) -> TextVectors:
    named = str((config.get("model") or {}).get("text") or "")
    if named.endswith(".npz"):
        return read_text(_beside(folders, named))
    if named:
        name, _, subject = named.partition("/")
        return builtin_text(name).for_all(subject) if subject else builtin_text(name)
    for step in _steps(config):
        if step.get("text"):
            return read_text(_beside(folders, str(step["text"])))
        files = [
            str(step.get(key) or f"embeddings/horse_{key[:-5]}.npy") for key in ("global_path", "local_path")
        ]
        subject, keypoints = (_beside(folders, file) for file in files)
        return plain_vectors(subject.stem, subject, keypoints, names)
    raise NotAvailable("the config names none")


def _steps(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _DATA:
        for step in ((config.get(key) or {}).get("dataset") or {}).get("pipeline") or ():
            if str(step.get("type", "")).rpartition(".")[2] == _LOADER:
                yield step


def _beside(folders: tuple[Path, ...], named: str) -> Path:
    """A file that a config may name: by a relative path, in or below one of the folders, links followed."""
    path = PurePosixPath(named)
    if path.is_absolute() or ".." in path.parts or "\0" in named:
        raise NotAvailable(f"the config names {named}, which is not below the checkpoint's folder")
    if not folders:
        raise NotAvailable(f"the config names {named}, and there is no folder to look for it in")
    for folder in folders:
        found = resolved(folder / path)
        if found.is_file() and found.is_relative_to(folder.resolve()):
            return found
    raise NotAvailable(
        f"the config names {named}, which does not lie beside the checkpoint"
        + (" or below this folder" if len(folders) > 1 else "; with --config one below this folder is read")
    )
