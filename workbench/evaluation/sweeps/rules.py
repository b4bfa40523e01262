"""What a sweep does and by which rules: plain data that a worker on another machine gets unchanged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import __version__
from workbench.checkpoints.model_code import base_files, code_beside
from workbench.core.files import files_in, sha256_of
from workbench.core.model import FLIP_BY_DEFAULT
from workbench.core.report import plain
from workbench.evaluation.predictions import state_of_file
from workbench.evaluation.protocol import DEFAULT, judged_by, judged_with

if TYPE_CHECKING:
    from workbench.core import DecodeOptions, Skeleton
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ground_truth import AreaRule
    from workbench.models import LoadedModel


@dataclass(frozen=True)
class SweepRules:
    """How every checkpoint is opened, predicted with and judged; fields as the options of the verbs.

    Attributes:
        ablations: names of ABLATIONS, or of single variants; see workbench.evaluation.sweeps.readings.
        category: the one category of a json to read.
        bits: as in ImageReading, as is the next.
        as_stored: likewise.
        limit: only the first so many images; None for all.
        flip: the reference averages with the mirrored image.
        boxes: which are cropped, as in workbench.data.boxes.boxes_from; "" for the annotations' own.
        nms: as `predict`.
        score_rule: pose score of the reference.
        decoder: of the reference; "" for the model's own.
        keypoint_score: SimCC score of the reference; "" for the model's own.
        batch_size: crops in one forward pass.
        area_rule: as `evaluate`, as are the next two.
        sigmas: OKS constants, one for all keypoints or one for each.
        max_dets: detections that count per image and category.
        device: as torch names it.
        opening: further arguments of open_model: config, family, adapter, remap, assume ...
    """

    ablations: tuple[str, ...] = ()
    category: str | None = None
    bits: int = 0
    as_stored: bool = False
    limit: int | None = None
    flip: bool = FLIP_BY_DEFAULT
    boxes: str = ""
    nms: float | None = None
    score_rule: str = DEFAULT
    decoder: str = ""
    keypoint_score: str = ""
    batch_size: int = 16
    area_rule: AreaRule = "annotated"
    sigmas: tuple[float, ...] | None = None
    max_dets: int = 20
    device: str = "cpu"
    opening: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decoding(self) -> DecodeOptions:
        """How the reference reads keypoints off the outputs."""
        from workbench.core import DecodeOptions

        return DecodeOptions(self.decoder, self.keypoint_score)  # type: ignore[arg-type]

    def located(self) -> SweepRules:
        """The same with absolute paths of adapter, config and boxes."""
        files = {name: self.opening.get(name) for name in ("adapter", "config")}
        absolute = {name: str(Path(file).resolve()) for name, file in files.items() if file is not None}
        boxes = str(Path(self.boxes).resolve()) if Path(self.boxes).is_file() else self.boxes
        return dataclasses.replace(self, boxes=boxes, opening={**self.opening, **absolute})

    def counting(self, keypoints: int) -> dict[str, Any]:
        """Arguments of `evaluate` and `check_evaluable` for a skeleton of so many keypoints.

        Raises:
            ValueError: neither one OKS constant nor one for each keypoint.
        """
        sigmas = self.sigmas
        if sigmas is not None and len(sigmas) not in (1, keypoints):
            raise ValueError(f"sigmas: expected one number or {keypoints}, got {len(sigmas)}")
        if sigmas is not None and len(sigmas) == 1:
            sigmas = sigmas * keypoints
        return {"area_rule": self.area_rule, "sigmas": sigmas, "max_dets": self.max_dets}

    def judged(self, pose_set: PoseSet, model: Skeleton) -> PoseSet:
        """The set with the OKS constants that count, for NMS and pose scores as for AP.

        Args:
            pose_set: annotations.
            model: skeleton of the model.

        Raises:
            ValueError: the given ones do not fit the keypoints.
        """
        return judged_by(pose_set, model) if self.sigmas is None else judged_with(pose_set, self.sigmas)


@dataclass(frozen=True)
class SweepSource:
    """Where the checkpoints and the data set are.

    Attributes:
        run: folder of the checkpoints.
        data: a COCO-format json, or the name of a built-in set.
        images: folder of the images that the json names.
        within: no image may lie outside of these folders, symbolic links resolved; no limit when empty.
    """

    run: str
    data: str
    images: str | None = None
    within: tuple[Path, ...] = ()

    @classmethod
    def located(
        cls, run: Path | str, data: Path | str, images: Path | str | None = None, within: Sequence[Path] = ()
    ) -> SweepSource:
        """The same with absolute paths: workers may have other working folders.

        Args:
            run: folder of the checkpoints.
            data: name or annotation file.
            images: their folder.
            within: see SweepSource.
        """
        from workbench.data.opening import BUILTIN

        name, sign, part = str(data).partition("#")
        named = str(Path(name).resolve()) if name not in BUILTIN and Path(name).exists() else name
        return cls(
            str(Path(run).resolve()),
            f"{named}{sign}{part}",
            None if images is None else str(Path(images).resolve()),
            tuple(folder.resolve() for folder in within),
        )

    def open_data(self, rules: SweepRules, keypoints: int) -> PoseSet:
        """The data set, opened for a model of so many keypoints.

        Args:
            rules: of the sweep.
            keypoints: of the model.

        Raises:
            KeyError, FileNotFoundError, ValueError: see workbench.data.opening.open_data.
        """
        from workbench.data.images import ImageReading
        from workbench.data.opening import open_data_for, with_skeleton_named

        images = None if self.images is None else Path(self.images)
        reading = ImageReading(rules.bits, rules.as_stored)
        found = open_data_for(
            self.data, keypoints, images, rules.category, within=self.within, reading=reading
        )
        return with_skeleton_named(found, rules.opening.get("skeleton"))

    def open_model(self, path: Path, rules: SweepRules, device: str | None = None) -> LoadedModel:
        """One checkpoint as a model.

        Args:
            path: of the checkpoint.
            rules: how it is opened.
            device: instead of that of the rules.

        Raises:
            NotAvailable, ValueError, OSError, KeyError: see workbench.models.open_model.
        """
        from workbench.models import open_model

        return open_model(path, device=device or rules.device, **rules.opening)


# A sweep goes on where the last one stopped only if nothing that decides its results has changed.


def annotations_digest(pose_set: PoseSet) -> str:
    """Digest of images' ids and names and of all annotations; equal on every machine."""
    digest = sha256()
    images = [[record.id, record.path.name] for record in pose_set.images.values()]
    facts = [pose_set.name, pose_set.skeleton.name, list(pose_set.skeleton.keypoints), images]
    digest.update(json.dumps(plain(facts)).encode())
    own = pose_set.instances
    ids = [[i.annotation_id, i.image_id, i.category_id, int(i.iscrowd), i.num_keypoints] for i in own]
    digest.update(np.array(ids, np.int64).tobytes())
    digest.update(np.array([[*i.box, i.area] for i in own], float).tobytes())
    for one in own:
        digest.update(np.ascontiguousarray(one.truth, float).tobytes())
    return digest.hexdigest()


def images_digest(pose_set: PoseSet) -> str:
    """Digest of the image files' sizes and times of change, and of what is stated about them."""
    states = [state_of_file(record.path) for record in pose_set.images.values()]
    return sha256(json.dumps([*states, *pose_set.reading.notes()]).encode()).hexdigest()


def code_digest(rules: SweepRules, run: Path) -> dict[str, str]:
    """SHA-256 by name of the code and configs that decide how a checkpoint becomes a model.

    The named adapter with the Python files beside it and in the packages beside it that one of them imports,
    the named config, the configs in the run's folder, and the base files of both. What is imported from
    elsewhere is not seen.

    Args:
        rules: of the sweep.
        run: folder of the checkpoints.
    """
    found: dict[str, Path] = {}
    adapter, config = rules.opening.get("adapter"), rules.opening.get("config")
    if adapter is not None:
        found |= {f"adapter/{name}": path for name, path in code_beside(Path(adapter)).items()}
    if config is not None:
        found["config"] = Path(config)
        found |= {f"config/{path}": path for path in base_files(Path(config), None)}
    for path in files_in(run, "*.py"):
        if path.resolve().parent != run.resolve():
            continue  # a link out of the run, which opening a checkpoint does not read either
        found |= {f"run/{path.name}": path, **{f"run/{base}": base for base in base_files(path, path.parent)}}
    return {name: sha256_of(path) for name, path in sorted(found.items()) if path.is_file()}


def boxes_digest(rules: SweepRules) -> str:
    """SHA-256 of the file with the boxes; "" where none is named."""
    return sha256_of(Path(rules.boxes)) if Path(rules.boxes).is_file() else ""


def checkpoint_sha256(path: Path) -> str:
    """SHA-256 of a checkpoint's bytes; of one in parts, of all of them."""
    from workbench.checkpoints import open_checkpoint

    return sha256_of(path) if path.suffix != ".json" else open_checkpoint(path).sha256()


def identity_of(source: SweepSource, rules: SweepRules, pose_set: PoseSet) -> dict[str, Any]:
    """All that decides the results of a sweep but the checkpoints themselves, by name.

    Args:
        source: run and data.
        rules: of the sweep.
        pose_set: the opened data.
    """
    opening = {name: value for name, value in rules.opening.items() if value not in (None, (), False)}
    facts = {f.name: getattr(rules, f.name) for f in dataclasses.fields(rules) if f.name != "opening"}
    return plain(
        {
            "run": source.run,
            "data": source.data,
            "annotations": annotations_digest(pose_set),
            "images": images_digest(pose_set),
            "detections": boxes_digest(rules),
            **facts,
            "opening": opening,
            "code": code_digest(rules, Path(source.run)),
        }
    )


def origin_of_unit(identity: Mapping[str, Any], checkpoint_sha256: str, variant: str) -> str:
    """Digest of everything that decides one file of predictions.

    Args:
        identity: of `identity_of`.
        checkpoint_sha256: of the checkpoint's bytes.
        variant: name of the variant; "" for all of them together.
    """
    facts = [__version__, identity, checkpoint_sha256, variant]
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
