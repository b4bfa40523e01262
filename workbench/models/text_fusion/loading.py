"""The text of a training pipeline: vectors of a file, put into every sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from workbench.checkpoints.numpy_files import load_npy


class LoadTextEmbeddings(BaseTransform):
    """Adds `global_text` and `local_text`; PackPoseInputs must name both among its meta_keys.

    Args:
        global_path: .npy with the subject's vector [D], or one per category [S, D], row category_id - 1.
        local_path: .npy with the keypoints' vectors [K, D].
        text: instead of both, an .npz that `workbench text --out` wrote: each image gets the sentence of its
            category.
        required: False goes on without text where a file is absent, as the published code does by default.
    """

    def __init__(
        self,
        global_path: str = "embeddings/horse_global.npy",
        local_path: str = "embeddings/horse_local.npy",
        required: bool = False,
        text: str = "",
    ) -> None:
        self.rows: dict[int, int] = {}
        if text:
            self._read(Path(text))
            return
        files = Path(global_path), Path(local_path)
        absent = [str(file) for file in files if not file.is_file()]
        if absent and required:
            raise FileNotFoundError(f"text vectors: no file {absent[0]}; make it with `workbench text`")
        self.subject, self.keypoints = (None, None) if absent else tuple(load_npy(file) for file in files)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A new dictionary with the text, or the same without any."""
        if self.subject is None or self.keypoints is None:
            return results
        row = self.subject
        if row.ndim > 1:
            row = row[self._row(_category(results), len(row))]
        return {**results, "global_text": row.copy(), "local_text": self.keypoints.copy()}

    def _read(self, file: Path) -> None:
        from workbench.text.vectors import read_text

        found = read_text(file)
        one = len(found.subjects) == 1
        self.subject = found.subject_vectors[0] if one else found.subject_vectors
        self.keypoints = found.keypoint_vectors
        self.rows = {category: s for s, category in enumerate(found.categories)}

    def _row(self, category: int, count: int) -> int:
        row = self.rows.get(category, -1) if self.rows else category - 1
        if not 0 <= row < count:
            known = ", ".join(map(str, self.rows)) if self.rows else f"1 to {count}"
            raise ValueError(f"text: no sentence for category {category}; there are {known}")
        return row


def _category(results: dict[str, Any]) -> int:
    return int(np.asarray(results["category_id"]).reshape(-1)[0])
