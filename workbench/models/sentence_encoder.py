"""A sentence encoder from a folder on this machine: sentences in, vectors out; nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def sentence_encoder(
    folder: Path, device: str = "cpu"
) -> Callable[[Sequence[str]], Float[np.ndarray, "S D"]]:
    """From sentences to one vector each; the network is loaded when first called.

    Args:
        folder: in sentence-transformers layout, or a Hugging Face transformer, which is then mean-pooled.
        device: as torch names it.

    Returns:
        a function that raises ValueError where the folder holds nothing that can be loaded.
    """

    def encode(sentences: Sequence[str]) -> Float[np.ndarray, "S D"]:
        from workbench.models.mmpose_compat import hide_broken_torchvision

        # transformers expects a torchvision that works, or none at all.
        hide_broken_torchvision()
        from sentence_transformers import SentenceTransformer

        try:
            model: Any = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{folder}: no encoder that sentence-transformers can load ({said})") from error
        return np.asarray(model.encode(list(sentences), show_progress_bar=False), np.float32)

    return encode
