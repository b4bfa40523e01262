"""Epochs of one run on one data set, side by side: what the Compare page is told of those that are ready."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from workbench.core.cache import LruCache as Shelf

from apps.server.api import told_skeleton
from apps.server.comparison import SCORES, Asked, Computing
from apps.server.encoding import shown_scale
from apps.server.folders import Epoch
from apps.server.output_cache import StoredOutputs as Kept
from apps.server.registry import Registry

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Comparison, Evaluation, Interval, Predictions, Protocol

# OKS below which a pose counts as lost: the loosest of the thresholds that AP averages over.
FOUND = 0.5


class Judged(NamedTuple):
    """One epoch by one way of reading: keypoints, rules, and figures where OKS has constants."""

    predictions: Predictions
    protocol: Protocol
    found: Evaluation | None


class Comparisons:
    """Answers from what is there."""

    def __init__(self, registry: Registry, computing: Computing) -> None:
        self._registry, self._computing = registry, computing
        self._judged: Shelf[Judged] = Shelf(500)
        self._intervals: Shelf[Interval] = Shelf(500)

    def answer(self, asked: Asked) -> dict[str, Any]:
        """The facts of all epochs that are ready.

        Raises:
            Unready: there is none yet.
        """
        run = self._registry.run(asked.run)
        # The job is looked at first: one that ends meanwhile is told as alive, and the page asks once more.
        job = self._computing.job(asked)
        alive = job.facts() if job is not None and job.alive else None
        ready = self._computing.ready(asked)
        if not ready:
            raise self._computing.unready(asked)
        pose_set = self._registry.sets.get(asked.data)
        kept = next(iter(ready.values()))
        judged = {index: self._judge(asked, k) for index, k in ready.items()}
        shown = next(iter(judged.values()))
        broken = self._computing.reasons(asked)
        simcc = kept.kind == "simcc"
        version = self._version(asked, ready)
        protocol = shown.found.protocol if shown.found else shown.protocol
        text = protocol.text()
        if shown.found is None:
            text = f"no AP: OKS constants of these keypoints are not published; {text}"
        if kept.facts["whole"]:
            text += "; each annotated person is shown with the found one of the highest OKS"
        if pose_set.left_out:
            names = [path.name for path in pose_set.left_out]
            text += f"; missing: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        if len(kept.indices) < len(pose_set.labelled):
            text += f", the first {len(kept.indices)} of {len(pose_set.labelled)} instances"
        return {
            "version": version,
            "run": run.id,
            "data": asked.data,
            "title": f"{run.title} on {asked.data}",
            "job": alive,
            "count": len(kept.indices),
            "total": len(pose_set.labelled),
            "decoder": protocol.decoder,
            "decoders": kept.facts["decoders"],
            "score": (asked.score or SCORES[0]) if simcc else "",
            "score_rules": SCORES if simcc else (),
            "maps": kept.kind,
            "oks_threshold": FOUND,
            "protocol": protocol.to_json(),
            "protocol_text": text,
            "skeleton": told_skeleton(kept.judged_by(pose_set).skeleton),
            "epochs": [
                self._told_epoch(e, judged.get(e.index), broken.get(e.index), _version_of(ready, e.index))
                for e in run.epochs
            ],
            "samples": [self._told_sample(asked.data, index) for index in kept.indices],
            "arrays": f"workbench/api/compare/arrays?{_query(asked)}&v={version}",
        }

    def arrays(self, asked: Asked, wanted: Sequence[int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Head and blocks of the PACK of all ready epochs, or of those wanted.

        Raises:
            Unready: none of them is ready.
        """
        ready = self._computing.ready(asked)
        held = [i for i in ready if not wanted or i in wanted]
        if not held:
            raise self._computing.unready(asked)
        pose_set = self._registry.sets.get(asked.data)
        samples = ready[held[0]].indices
        judged = [self._judge(asked, ready[i]) for i in held]
        instances = [pose_set.instances[i] for i in samples]
        blocks = {
            "predictions": np.stack(
                [np.concatenate([p.keypoints, p.scores[..., None]], 2) for p, _, _ in judged]
            ),
            "truth": np.stack([i.truth for i in instances]),
            "oks": np.stack([_oks_of(e, [i.annotation_id for i in instances]) for _, _, e in judged]),
            "scores": np.stack([p.score for p, _, _ in judged]),
        }
        return {"epochs": held, "samples": samples}, blocks

    def interval(self, asked: Asked, a: int, b: int) -> dict[str, Any]:
        """Change of AP from epoch a to epoch b, with its paired bootstrap interval.

        Raises:
            Unready: one of them is not computed yet.
            ValueError: there is no AP to compare.
        """
        from workbench.evaluation import paired_bootstrap

        ready = self._computing.ready(asked)
        for index in (a, b):
            self._registry.epoch(asked.run, index)
        if a not in ready or b not in ready:
            raise self._computing.unready(asked)
        first, second = (self._judge(asked, ready[i]).found for i in (a, b))
        if first is None or second is None:
            raise ValueError(
                "interval: OKS constants of these keypoints are not published, so there is no AP"
            )
        key = (self._version(asked, {a: ready[a], b: ready[b]}), a, b)
        found = self._intervals.get(key, lambda: paired_bootstrap(first.ap, second.ap))
        return {
            "a": a, "b": b, "delta": found.delta, "low": found.low, "high": found.high,
            "resamples": found.resamples, "level": found.level,
        }  # fmt: skip

    def side_by_side(self, asked: Asked, wanted: Sequence[int]) -> Comparison:
        """The epochs wanted, in that order, with intervals, gained and lost.

        Raises:
            Unready: one of them is not computed yet.
            ValueError: fewer than two, or there is no AP to compare.
        """
        from workbench.evaluation.compare import comparison_of

        ready = self._computing.ready(asked)
        epochs = [self._registry.epoch(asked.run, index) for index in wanted]
        if not set(wanted) <= set(ready):
            raise self._computing.unready(asked)
        judged = [self._judge(asked, ready[index]).found for index in wanted]
        found = [evaluation for evaluation in judged if evaluation is not None]
        if len(found) < len(judged):
            raise ValueError("report: OKS constants of these keypoints are not published, so there is no AP")
        return comparison_of([e.label for e in epochs], found)

    def rows(self, asked: Asked, wanted: Sequence[int]) -> tuple[tuple[int, ...], list[Predictions]]:
        """Samples of the set that were computed, and each wanted epoch's keypoints in their order.

        Raises:
            Unready: one of the epochs is not computed yet.
        """
        ready = self._computing.ready(asked)
        if not set(wanted) <= set(ready):
            raise self._computing.unready(asked)
        return ready[wanted[0]].indices, [self._judge(asked, ready[i]).predictions for i in wanted]

    def _judge(self, asked: Asked, kept: Kept) -> Judged:
        """Keypoints and figures of one epoch."""
        from apps.server.whole_images import nearest_rows
        from workbench.evaluation import evaluate

        options = asked.options

        def compute() -> Judged:
            pose_set = kept.judged_by(self._registry.sets.get(asked.data))
            rows, protocol = kept.predictions(options)
            people = kept.people()
            if not pose_set.skeleton.sigmas:
                return Judged(rows, protocol, None)
            # What `workbench evaluate` asks its user to say with --no-area; the protocol states it.
            rule = "annotated" if has_areas(pose_set) else "box"
            judged = rows if people is None else people
            found = evaluate(pose_set, judged, protocol, indices=kept.indices, area_rule=rule)
            if people is not None:
                ids = np.array([pose_set.instances[i].annotation_id for i in kept.indices])
                rows = nearest_rows(rows, people, found, ids)
            return Judged(rows, protocol, found)

        return self._judged.get((kept.folder.name, asked.decoder, asked.score), compute)

    def _told_epoch(
        self, epoch: Epoch, judged: Judged | None, broken: str | None, version: str
    ) -> dict[str, Any]:
        found = judged.found if judged else None
        return {
            "index": epoch.index,
            "epoch": epoch.epoch,
            "label": epoch.label,
            "file": epoch.path.name,
            "ready": judged is not None,
            "error": broken,
            "version": version,
            "figures": found.figures if found else None,
            "per_keypoint": found.table() if found else None,
            "loaded_fraction": judged.protocol.loaded_fraction if judged else None,
        }

    def _told_sample(self, data: str, index: int) -> dict[str, Any]:
        pose_set = self._registry.sets.get(data)
        instance = pose_set.instances[index]
        image = pose_set.images[instance.image_id]
        width, height = image.width, image.height
        if width is None or height is None:
            height, width = pose_set.image(instance.image_id).shape[:2]
        return {
            "index": index,
            "key": f"{image.path.stem}/{instance.annotation_id}",
            "image_id": instance.image_id,
            "width": width,
            "height": height,
            "scale": shown_scale(width, height),
            "box": instance.box,
            "area": instance.area,
            "category": pose_set.categories.get(instance.category_id, ""),
        }

    def _version(self, asked: Asked, ready: dict[int, Kept]) -> str:
        told = [asked.decoder, asked.score, *(kept.folder.name for kept in ready.values())]
        return hashlib.sha256("/".join(told).encode()).hexdigest()[:16]


def has_areas(pose_set: PoseSet) -> bool:
    """Whether every annotation of a set has an area; CrowdPose and AIC have none."""
    return bool(np.isfinite([instance.area for instance in pose_set.instances]).all())


def _oks_of(found: Evaluation | None, annotations: Sequence[int]) -> np.ndarray:
    """OKS of the annotations named, in their order; nan where there is none."""
    if found is None:
        return np.full(len(annotations), np.nan)
    held = dict(zip(found.ap.truth.ids.tolist(), found.oks.tolist(), strict=True))
    return np.array([held.get(i, np.nan) for i in annotations])


def _version_of(ready: dict[int, Kept], index: int) -> str:
    """Changes with the epoch's file and with nothing else; "" while it is not computed."""
    return hashlib.sha256(ready[index].folder.name.encode()).hexdigest()[:16] if index in ready else ""


def _query(asked: Asked) -> str:
    from urllib.parse import urlencode

    return urlencode({k: v for k, v in vars(asked).items() if v})
