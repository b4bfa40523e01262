"""The text of a training pipeline: two files of vectors, put into every sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform


class LoadTextEmbeddings(BaseTransform):
    """Adds `global_text` and `local_text`; PackPoseInputs must name both among its meta_keys.

    Args:
        global_path: .npy with the subject's vector [D], or one per category [S, D], row category_id - 1.
        local_path: .npy with the keypoints' vectors [K, D].
        required: False goes on without text where a file is absent, as the published code does by default.
    """

    def __init__(
        self,
        global_path: str = "embeddings/horse_global.npy",
        local_path: str = "embeddings/horse_local.npy",
        required: bool = False,
    ) -> None:
        files = Path(global_path), Path(local_path)
        absent = [str(file) for file in files if not file.is_file()]
        if absent and required:
            raise FileNotFoundError(f"text vectors: no file {absent[0]}; make it with `workbench text`")
        self.subject, self.keypoints = (None, None) if absent else tuple(np.load(file) for file in files)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A new dictionary with the text, or the same without any."""
        if self.subject is None or self.keypoints is None:
            return results
        row = self.subject if self.subject.ndim == 1 else self.subject[_category(results) - 1]
        return {**results, "global_text": row.copy(), "local_text": self.keypoints.copy()}


def _category(results: dict[str, Any]) -> int:
    return int(np.asarray(results["category_id"]).reshape(-1)[0])
