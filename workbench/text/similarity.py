"""Do the sentences tell the keypoints apart, and the species? Cosines between their vectors.

A cosine near 1 means that for the network two keypoints are the same words: left and right usually are. When
all subjects are alike, a text that names the species says next to nothing about the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import PICTURE, Report
from workbench.figures import SEQUENTIAL, new_figure
from workbench.text.vectors import TextVectors

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

NEAREST = 3
# Above this two sentences are the same to most readers of the vectors.
ALIKE = 0.9


@dataclass(frozen=True, eq=False)
class Similarity(Report):
    """Cosines between sentence vectors.

    Attributes:
        text: name of the text.
        encoder: who read it.
        of: ``keypoints`` or ``subjects``.
        names: of the rows and columns.
        sentences: of the rows; empty where nobody kept them.
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
            f"{self.text} by {self.encoder}: {alike} of {len(pairs)} pairs of {self.of} have a cosine above "
            f"{ALIKE:g} (median {np.median(pairs):.2f}); closest: {self.names[a]} and {self.names[b]}, "
            f"{self.cosines[a, b]:.2f}"
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
        import plotly.graph_objects as go

        lowest = float(self._apart().min())
        figure = new_figure(self.summary(), height=26 * len(self.names) + 190)
        figure.add_trace(
            go.Heatmap(
                z=self.cosines.astype(np.float32),
                x=list(self.names),
                y=list(self.names),
                colorscale=SEQUENTIAL,
                zmin=min(lowest, 0.5),
                zmax=1,
                colorbar={"title": {"text": "cosine"}, "thickness": 12},
                hovertemplate="%{y} and %{x}<br>cosine %{z:.3f}<extra></extra>",
            )
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
