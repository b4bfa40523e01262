"""Sentence vectors of keypoints and species: reading, writing, and how similar they are.

A cosine near 1 means that two keypoints are the same words for the network: left and right usually are. If
all subjects are similar, a text that names the species carries next to nothing about the image.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.checkpoints.numpy_files import load_npy, load_npz
from workbench.core import Batch, NotAvailable, Sample, nearest, reason
from workbench.core.files import replacing, require_file
from workbench.core.report import PICTURE, Report, counted
from workbench.figures import SEQUENTIAL, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


_FIELDS = (
    "name", "encoder", "keypoints", "subjects", "categories", "keypoint_sentences", "subject_sentences"
)  # fmt: skip
BUILTIN = Path(__file__).parent / "builtin"
# Every name is compared with every other one.
MOST_NAMES = 2000


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Sentence vectors of a skeleton's keypoints and of the subjects (species) that may be seen.

    Attributes:
        name: what to call them: ``drawn-quadrupeds``.
        encoder: that made the vectors of the sentences.
        keypoints: names, in the skeleton's order.
        keypoint_vectors: one per keypoint.
        subjects: names.
        subject_vectors: one per subject. A single subject goes with every image.
        categories: category id of each subject, as annotation files number them; empty for a single subject.
        keypoint_sentences: sentences of the keypoint vectors; empty where they are not known.
        subject_sentences: the same of the subjects.
    """

    name: str
    encoder: str
    keypoints: tuple[str, ...]
    keypoint_vectors: Float[np.ndarray, "K D"]
    subjects: tuple[str, ...]
    subject_vectors: Float[np.ndarray, "S D2"]
    categories: tuple[int, ...] = ()
    keypoint_sentences: tuple[str, ...] = ()
    subject_sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {"keypoints": len(self.keypoint_vectors), "subjects": len(self.subject_vectors)}
        for name, count in counts.items():
            if count > MOST_NAMES:
                raise ValueError(f"text {self.name}: {count:,} {name}; at most {MOST_NAMES:,} are read")
            if len(getattr(self, name)) != count or not count:
                raise ValueError(
                    f"text {self.name}: {len(getattr(self, name))} {name} and {counted(count, 'vector')}"
                )
        if len(self.subjects) > 1 and len(self.categories) != len(self.subjects):
            raise ValueError(
                f"text {self.name}: {counted(len(self.subjects), 'subject')} and {len(self.categories)} "
                "category ids; only a single subject goes without"
            )

    def of(self, samples: Sequence[Sample]) -> Float[np.ndarray, "N D2"]:
        """The subject's vector of each sample, by its category.

        Raises:
            ValueError: a category without a description.
        """
        if len(self.subjects) == 1:
            return np.repeat(self.subject_vectors, len(samples), 0)
        row = {category: s for s, category in enumerate(self.categories)}
        for sample in samples:
            if sample.category_id not in row:
                known = ", ".join(f"{c} {n}" for c, n in zip(self.categories, self.subjects, strict=True))
                raise ValueError(
                    f"text {self.name}: no description of category {sample.category_id} "
                    f"({sample.key or 'a sample'}); it describes {known}"
                )
        return self.subject_vectors[[row[sample.category_id] for sample in samples]]

    def added_to(self, batch: Batch, samples: Sequence[Sample]) -> Batch:
        """A batch with the vectors in `extra`: ``subject`` [N, D], ``keypoints`` [N, K, D].

        Raises:
            ValueError: a category without a description.
        """
        import torch

        keypoints = torch.from_numpy(self.keypoint_vectors).expand(len(samples), -1, -1)
        extra = {"subject": torch.from_numpy(self.of(samples)), "keypoints": keypoints}
        return dataclasses.replace(batch, extra={**batch.extra, **extra})

    def for_all(self, subject: str) -> TextVectors:
        """The same text with one subject's vector for every image.

        Raises:
            KeyError: no such subject.
        """
        if subject not in self.subjects:
            raise KeyError(
                f"text {self.name}: no subject {subject!r}; nearest: {nearest(subject, self.subjects)}"
            )
        s = self.subjects.index(subject)
        return dataclasses.replace(
            self,
            subjects=(subject,),
            subject_vectors=self.subject_vectors[[s]],
            categories=(),
            subject_sentences=self.subject_sentences[s : s + 1],
        )


def write_text(text: TextVectors, path: Path) -> Path:
    """The vectors and all that belongs to them in one .npz file; its path."""
    values = {name: getattr(text, name) for name in _FIELDS}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            keypoint_vectors=text.keypoint_vectors.astype(np.float32),
            subject_vectors=text.subject_vectors.astype(np.float32),
            told=np.array(json.dumps(values)),
        )
    return path


def read_text(path: Path) -> TextVectors:
    """Vectors as `write_text` leaves them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else.
    """
    require_file(path, f"text vectors: no file {path}")
    names = ("keypoint_vectors", "subject_vectors")
    try:
        arrays_of_file = load_npz(path, ("told", *names))
        values = json.loads(str(arrays_of_file["told"]))
        arrays = {name: np.asarray(arrays_of_file[name], np.float32) for name in names}
    except (ValueError, TypeError, RecursionError) as wrong:
        raise ValueError(
            f"{path.name}: expected sentence vectors as `workbench text` writes them ({reason(wrong)})"
        ) from wrong
    return _assembled(values, arrays, path.name)


def builtin_text(name: str = "drawn-quadrupeds") -> TextVectors:
    """Vectors that come with the workbench.

    Raises:
        NotAvailable: no such text.
    """
    known = [path.stem for path in sorted(BUILTIN.glob("*.npz"))]
    if name not in known:
        raise NotAvailable(f"text {name!r}: not built in (nearest: {nearest(name, known)})")
    return read_text(BUILTIN / f"{name}.npz")


def plain_vectors(name: str, subject: Path, keypoints: Path, names: Sequence[str]) -> TextVectors:
    """The two .npy files of the published pipeline: the subject [D], the keypoints [K, D].

    The first may also hold one vector for each category [S, D]: row s belongs to category s + 1.

    Raises:
        FileNotFoundError: a file is absent.
        ValueError: they hold something else, or another number of keypoints.
    """
    arrays = []
    for path, allowed in ((subject, (1, 2)), (keypoints, (2,))):
        require_file(path, f"text vectors: no file {path}")
        try:
            found = load_npy(path)
        except ValueError as wrong:
            raise ValueError(f"{path.name}: expected an array of numbers ({reason(wrong)})") from wrong
        if found.dtype.kind not in "fiu":
            raise ValueError(f"{path.name}: expected an array of numbers, got {found.dtype}")
        if found.ndim not in allowed:
            raise ValueError(
                f"{path.name}: expected {' or '.join(map(str, allowed))} dimension(s), got {np.shape(found)}"
            )
        arrays.append(np.asarray(found, np.float32))
    if len(arrays[1]) != len(names):
        raise ValueError(
            f"{keypoints.name}: vectors of {counted(len(arrays[1]), 'keypoint')}, the model has {len(names)}"
        )
    if arrays[0].ndim == 1:
        return TextVectors(name, "unknown", tuple(names), arrays[1], (subject.stem,), arrays[0][None])
    categories = tuple(range(1, len(arrays[0]) + 1))
    subjects = tuple(f"category {c}" for c in categories)
    return TextVectors(name, "unknown", tuple(names), arrays[1], subjects, arrays[0], categories)


def _assembled(values: Any, arrays: Mapping[str, np.ndarray], file: str) -> TextVectors:
    for name, vectors in arrays.items():
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError(f"{file}: expected finite vectors [rows, numbers] as {name}")
    try:
        if len(str(values["name"])) > 200:
            raise TypeError("a name of more than 200 characters")
        return TextVectors(
            str(values["name"]),
            str(values["encoder"]),
            _names(values, "keypoints"),
            arrays["keypoint_vectors"],
            _names(values, "subjects"),
            arrays["subject_vectors"],
            tuple(_category(c) for c in values["categories"]),
            _names(values, "keypoint_sentences"),
            _names(values, "subject_sentences"),
        )
    except (TypeError, KeyError) as wrong:
        raise ValueError(f"{file}: its description cannot be read ({reason(wrong)})") from wrong


def _names(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values[key], list):
        raise TypeError(f"{key}: a list is expected")
    return tuple(map(str, values[key]))


def _category(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{repr(value)[:40]} is no category id")
    return value


# Cosines between the vectors.

NEAREST = 3
# Above this cosine two sentences are practically the same.
ALIKE = 0.9


@dataclass(frozen=True, eq=False)
class Similarity(Report):
    """Cosines between sentence vectors.

    Attributes:
        text: name of the text.
        encoder: that made the vectors.
        of: ``keypoints`` or ``subjects``.
        names: of the rows and columns.
        sentences: of the rows; empty where they are not known.
        cosines: of each pair; 1 on the diagonal.
    """

    text: str
    encoder: str
    of: str
    names: tuple[str, ...]
    sentences: tuple[str, ...]
    cosines: Float[np.ndarray, "n n"] = field(metadata=PICTURE)

    def summary(self) -> str:
        pairs = self._apart()
        a, b = self._closest()
        alike = int((pairs > ALIKE).sum())
        return (
            f"{self.text} by {self.encoder}: {alike} of {counted(len(pairs), 'pair')} of {self.of} with a "
            f"cosine above {ALIKE:g} (median {np.median(pairs):.2f}); closest: {self.names[a]} and "
            f"{self.names[b]}, {self.cosines[a, b]:.2f}"
        )

    def table(self) -> list[dict[str, Any]]:
        rows = []
        for i, name in enumerate(self.names):
            order = [j for j in np.argsort(-self.cosines[i], kind="stable") if j != i][:NEAREST]
            row: dict[str, Any] = {self.of[:-1]: name}
            for rank, j in enumerate(order, 1):
                row[f"nearest {rank}"] = f"{self.names[j]} ({self.cosines[i, j]:.2f})"
            rows.append(row | {"sentence": self.sentences[i] if self.sentences else ""})
        return rows

    def plot(self) -> Figure:
        lowest = float(self._apart().min())
        figure = new_figure(self.summary(), height=26 * len(self.names) + 190)
        figure.add_heatmap(
            z=self.cosines.astype(np.float32),
            x=list(self.names),
            y=list(self.names),
            colorscale=SEQUENTIAL,
            zmin=min(lowest, 0.5),
            zmax=1,
            colorbar={"title": {"text": "cosine"}, "thickness": 12},
            hovertemplate="%{y} and %{x}<br>cosine %{z:.3f}<extra></extra>",
        )
        figure.update_yaxes(autorange="reversed", title_text=self.of)
        figure.update_xaxes(tickangle=-60)
        return figure

    def _apart(self) -> Float[np.ndarray, " pairs"]:
        return self.cosines[np.triu_indices(len(self.names), 1)]

    def _closest(self) -> tuple[int, int]:
        off = self.cosines - 2 * np.eye(len(self.names))
        a, b = np.unravel_index(int(off.argmax()), off.shape)
        return int(a), int(b)


def similarity(text: TextVectors, of: Literal["keypoints", "subjects"] = "keypoints") -> Similarity:
    """Cosines between a text's vectors.

    Raises:
        NotAvailable: fewer than two.
        ValueError: a vector without length.
    """
    names = text.keypoints if of == "keypoints" else text.subjects
    vectors = np.asarray(text.keypoint_vectors if of == "keypoints" else text.subject_vectors, float)
    if len(names) < 2:
        raise NotAvailable(
            f"similarity: {text.name} describes {'a single' if names else 'no'} {of[:-1]}, two are needed to "
            "compare"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not lengths.all():
        raise ValueError(f"text {text.name}: a vector of its {of} is zero or not finite")
    sentences = text.keypoint_sentences if of == "keypoints" else text.subject_sentences
    return Similarity(
        text.name, text.encoder, of, names, sentences, (vectors / lengths) @ (vectors / lengths).T
    )
