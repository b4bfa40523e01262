"""One epoch's predictions and raw outputs on one data set, on disk: forwarded once, decoded by any rule.

Predictions are small and stay. Outputs (heatmaps, SimCC vectors) are large: the store's cap may take them
away, and then another decoder needs a forward pass again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from workbench.core.job import current_checkpoint

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Predictions, Protocol

HEATMAPS, SIMCC_X, SIMCC_Y, TO_IMAGE = "heatmaps", "simcc_x", "simcc_y", "to_image"
# One row for each instance, by the model's own rules; everybody found, of a bottom-up model.
PREDICTIONS, PEOPLE = "predictions.parquet", "people.parquet"

# Samples decoded at once: 32 heatmap stacks of 17 x 64 x 48 are 7 MB.
CHUNK = 32


@dataclass(frozen=True, eq=False)
class Kept:
    """A folder with what one forward pass over a set left.

    Attributes:
        folder: where it lies; its name is the computation's key.
        indices: of the samples in the set, in the order of all arrays.
        facts: ``kind`` (heatmap, simcc or None), ``decoder`` (the model's own), ``decoders`` (those that
            read the outputs), ``input_size``, ``udp``, ``split_ratio``; ``whole``: found in whole images;
            ``judge``: names and sigmas of the model's keypoints.
    """

    folder: Path
    indices: tuple[int, ...]
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Open a finished folder.

        Raises:
            ValueError: its description is damaged; names the file.
        """
        path = folder / "facts.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, tuple(int(i) for i in facts.pop("indices")), facts)
        except (ValueError, AttributeError, KeyError, TypeError) as reason:
            raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason

    def check(self) -> None:
        """Read through what was kept: every page of predictions, the size of every array.

        Raises:
            ValueError: a file is damaged; names it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in sorted(self.folder.glob("*.parquet")):
            try:
                pq.read_table(path, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as reason:
                raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason
        for path in sorted(self.folder.glob("*.npy")):
            try:
                np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError, OSError) as reason:
                raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason

    @property
    def kind(self) -> str | None:
        """What the network leaves: ``heatmap``, ``simcc`` or None."""
        return self.facts["kind"]

    def judged_by(self, pose_set: PoseSet) -> PoseSet:
        """The set with the sigmas that came with the model, as `workbench evaluate` judges it."""
        from workbench.core import Skeleton
        from workbench.evaluation.model_rules import judged_by

        told = self.facts["judge"]
        own = Skeleton(
            told["name"],
            tuple(told["keypoints"]),
            sigmas=tuple(told["sigmas"]),
            mirror=tuple(told["mirror"]),
            source=told["source"],
        )
        return judged_by(pose_set, own)

    @property
    def has_outputs(self) -> bool:
        """The raw outputs are still there."""
        return (self.folder / f"{TO_IMAGE}.npy").is_file()

    def array(self, name: str) -> np.ndarray:
        """One array, read from disk where it is touched; float32 but to_image [N, 2, 3] float64."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def row(self, sample: int) -> int:
        """Where a sample of the set stands in the arrays.

        Raises:
            KeyError: it was not among those computed.
        """
        if sample not in self.indices:
            raise KeyError(f"sample {sample} is not among the {len(self.indices)} computed ones")
        return self.indices.index(sample)

    def file(self, options: DecodeOptions) -> Path:
        """Where the keypoints read by these rules are, or will be."""
        if options == DecodeOptions():
            return self.folder / PREDICTIONS
        return self.folder / f"predictions-{options.decoder or 'own'}-{options.score or 'own'}.parquet"

    def has(self, options: DecodeOptions) -> bool:
        """Keypoints were read by these rules before."""
        return self.file(options).is_file()

    def predictions(self, options: DecodeOptions) -> tuple[Predictions, Protocol]:
        """Keypoints as these rules read them, and the rules in full."""
        from workbench.evaluation import Predictions, Protocol

        predictions, protocol = Predictions.from_parquet(self.file(options))
        return predictions, protocol or Protocol()

    def people(self) -> Predictions | None:
        """Everybody that a bottom-up model found in the images; None for a model that is given boxes."""
        from workbench.evaluation import Predictions

        return Predictions.from_parquet(self.folder / PEOPLE)[0] if self.facts["whole"] else None

    def decode(self, options: DecodeOptions, model: Callable[[], PoseModel]) -> None:
        """Read keypoints off the kept outputs by other rules and keep them; no forward pass.

        Args:
            options: the decoder and the score.
            model: gives a model of any epoch of the run: decoding looks at its codec, never at its weights.

        Raises:
            NotAvailable: outputs of this family are not of a form that decoders read.
        """
        import torch

        from workbench.evaluation import protocol_of
        from workbench.evaluation.score_rules import DEFAULT, pose_scores

        if not self.facts["decoders"]:
            raise NotAvailable("another decoder: this family's output has its own way of being read")
        height, width = self.facts["input_size"]
        reader, found = model(), []
        to_image = np.array(self.array(TO_IMAGE))
        for start in range(0, len(self.indices), CHUNK):
            current_checkpoint()
            rows = slice(start, start + CHUNK)
            # Decoding reads no pixels: one zero stands for all of them.
            pixels = torch.zeros(1, 1, 1, 1).expand(len(to_image[rows]), 3, height, width)
            found += reader.decode(self._outputs(rows), Batch(pixels, to_image[rows]), options)
        scores = np.stack([np.asarray(p.scores, float) for p in found])
        own, protocol = self.predictions(DecodeOptions())
        predictions = replace(
            own,
            keypoints=np.stack([np.asarray(p.keypoints, float) for p in found]),
            scores=scores,
            score=pose_scores(DEFAULT, scores, np.ones(len(scores))),
        )
        rules = protocol_of(reader, options=options)
        told = replace(protocol, decoder=rules.decoder, keypoint_score=rules.keypoint_score)
        predictions.to_parquet(self.file(options), protocol=told)

    def _outputs(self, rows: slice) -> Outputs:
        import torch

        def tensor(name: str) -> Any:
            return torch.from_numpy(np.array(self.array(name)[rows]))

        if self.kind == "heatmap":
            return Outputs(heatmaps=tensor(HEATMAPS))
        return Outputs(simcc=(tensor(SIMCC_X), tensor(SIMCC_Y)))

    def output_bytes(self) -> int:
        """Size of the raw outputs."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def drop_outputs(self) -> None:
        """Make room: the raw outputs go, the predictions stay."""
        # to_image first: it is what says that the others are there.
        for path in sorted(self.folder.glob("*.npy"), key=lambda p: p.stem != TO_IMAGE):
            path.unlink(missing_ok=True)


def replace_folder(building: Path, target: Path) -> None:
    """Move a finished folder to its place, whole or not at all; one that stands there goes."""
    if target.exists():
        shutil.rmtree(target)
    building.rename(target)
