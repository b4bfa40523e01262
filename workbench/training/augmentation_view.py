"""What does the training pipeline of a config feed the network? Its own steps, drawn, with keypoints.

The config is read and not run. Steps come from mmpose's registry by the rules for untrusted configs
(workbench.models.mmpose.trust); what is not allowed there is left out and named. Images are those of the
chosen samples, so steps that open files are passed over. Of albumentations, which calls any function by name,
the three transforms of mmpose's recipes are done here: Blur, MedianBlur and CoarseDropout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Sample, Skeleton
from workbench.core.errors import reason
from workbench.core.finding import Finding
from workbench.core.geometry import crop_region
from workbench.core.report import PICTURE, Report, counted, signed_text
from workbench.skeletons import mirror_by_names, spelling
from workbench.training.albumentations_steps import TRANSFORMS, Results, Step, albumentations_steps
from workbench.training.augmentation_check import apart_text
from workbench.training.augmentation_limits import check_enlargement, check_numbers, check_results
from workbench.training.config_recipe import train_pipeline, type_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure

# Steps that are passed over: images are given, and the view ends where the network's input is packed.
_UNCHANGING = ("LoadImage", "LoadImageFromFile", "LoadAnnotations", "PackPoseInputs", "GenerateTarget",
           "BottomupGetHeatmapMask", "FilterAnnotations")  # fmt: skip
# Steps that change colours alone, hue and the order of channels among them: pixels are then others.
_COLOURS = ("PhotometricDistortion", "YOLOXHSVRandomAug")
MOST_DRAWS = 64
_MOST_BYTES = 320 << 20
"""Of all pictures of a report."""


@dataclass(frozen=True, eq=False)
class View:
    """One draw of one sample, as the network gets it before normalisation.

    Attributes:
        key: of the sample.
        image: RGB.
        keypoints: (x, y) in pixels of the image, visibility as annotated; nan where not labelled.
        hidden: labelled keypoints under a hole of a dropout.
        mirrored: the image is flipped.
        half_body: the box is that of the upper or the lower body.
        rotation: degrees.
        scale: size of the crop relative to the same box without augmentation.
        dropped: share of the image that a dropout has blackened.
    """

    key: str
    image: UInt8[np.ndarray, "H W 3"]
    keypoints: Float[np.ndarray, "K 3"]
    hidden: Bool[np.ndarray, " K"]
    mirrored: bool
    half_body: bool
    rotation: float
    scale: float
    dropped: float

    def described(self) -> str:
        """What was done, in a few words."""
        parts = ["mirrored"] if self.mirrored else []
        parts += ["half body"] if self.half_body else []
        parts += [f"rotated {signed_text(self.rotation, '+.0f')}°"] if abs(self.rotation) >= 0.5 else []
        parts += [f"crop x{self.scale:.2f}"] if abs(self.scale - 1) > 0.01 and not self.half_body else []
        parts += [f"{self.dropped:.0%} dropped"] if self.dropped > 0 else []
        return ", ".join(parts) or "as it is"

    def outside(self) -> Bool[np.ndarray, " K"]:
        """Labelled keypoints outside the image."""
        x, y, seen = self.keypoints.T
        H, W = self.image.shape[:2]
        return (seen > 0) & ((x < 0) | (y < 0) | (x > W - 1) | (y > H - 1))


@dataclass(frozen=True, eq=False)
class AugmentationReport(Report):
    """What a training pipeline feeds the network.

    Attributes:
        title: of the config.
        steps: the pipeline's steps that were done, in order.
        left_out: steps that were not done, with the reason.
        skeleton: of the samples.
        views: draws, sample by sample.
        draws: of each sample.
        findings: what is wrong with what the network is fed.
        seed: same seed, same draws.
    """

    title: str
    steps: tuple[str, ...]
    left_out: tuple[str, ...]
    skeleton: Skeleton
    views: tuple[View, ...] = field(metadata=PICTURE)
    draws: int
    findings: tuple[Finding, ...]
    seed: int

    def figures(self) -> dict[str, float]:
        """Shares over all views and labelled keypoints."""
        labelled = sum(int((v.keypoints[:, 2] > 0).sum()) for v in self.views)
        count = max(labelled, 1)
        rotations = np.abs([v.rotation for v in self.views])
        scales = [v.scale for v in self.views if not v.half_body]
        return {
            "views": len(self.views),
            "mirrored": float(np.mean([v.mirrored for v in self.views])),
            "half_body": float(np.mean([v.half_body for v in self.views])),
            "rotated": float((rotations >= 0.5).mean()),
            "largest_rotation": float(rotations.max(initial=0)),
            "smallest_scale": float(min(scales, default=math.nan)),
            "largest_scale": float(max(scales, default=math.nan)),
            "keypoints_outside": sum(int(v.outside().sum()) for v in self.views) / count,
            "keypoints_dropped": sum(int(v.hidden.sum()) for v in self.views) / count,
            "dropped_area": float(np.mean([v.dropped for v in self.views])),
        }

    def summary(self) -> str:
        f = self.figures()
        text = (
            f"{self.title}: {counted(len(self.views), 'draw')}, {f['mirrored']:.0%} mirrored, "
            f"{f['half_body']:.0%} half body, rotation up to {f['largest_rotation']:.0f} degrees, crop "
            f"x{f['smallest_scale']:.2f} to x{f['largest_scale']:.2f}; {f['keypoints_outside']:.0%} of the "
            f"labelled keypoints lie outside the input, {f['keypoints_dropped']:.0%} under a dropped patch"
        )
        if left := len(self.left_out):
            text += f"; left out: {left} step{'s' * (left != 1)}"
        if self.findings:
            return f"{text}. Found: {'; '.join(one.evidence for one in self.findings)}."
        return f"{text}. Keypoints move with the image."

    def text(self) -> str:
        """The summary, the steps, and what was left out."""
        lines = [self.summary(), f"steps: {', '.join(self.steps) or 'none'}"]
        if own := [name for name in self.steps if name in TRANSFORMS]:
            lines.append(f"by albumentations' rules, which itself is not run: {', '.join(own)}")
        lines += [f"left out: {one}" for one in self.left_out]
        lines += [f"finding: {one.text()}" for one in self.findings]
        return "\n".join(lines)

    def plot(self) -> Figure:
        from workbench.figures import image_figure

        # One row for each sample, where a row is not too long to see anything.
        columns = self.draws if self.draws <= 12 else 8
        sheet = contact_sheet(self.views, self.skeleton, columns)
        height = round(min(max(260, 1000 * sheet.shape[0] / sheet.shape[1]), 1400))
        figure = image_figure(sheet, self.summary(), height)
        figure.update_xaxes(visible=False)
        return figure.update_yaxes(visible=False)

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "sample": v.key,
                "told": v.described(),
                "mirrored": v.mirrored,
                "half_body": v.half_body,
                "rotation": v.rotation,
                "scale": v.scale,
                "dropped": v.dropped,
                "keypoints_outside": int(v.outside().sum()),
                "keypoints_dropped": int(v.hidden.sum()),
            }
            for v in self.views
        ]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), **self.figures()}


def training_views(
    config: Mapping[str, Any],
    samples: Sequence[Sample],
    skeleton: Skeleton,
    *,
    draws: int = 6,
    seed: int = 0,
    title: str = "config",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AugmentationReport:
    """Draws of the config's training pipeline.

    Args:
        config: its values, read by `workbench.checkpoints.config_reader.read_config`.
        samples: labelled.
        skeleton: of the samples.
        draws: of each sample.
        seed: of the draws.
        title: what to call the config.
        progress: called with (draws done, draws in all) before each; what it raises ends the drawing.

    Raises:
        ValueError: the config has no training pipeline, one of its steps cannot be built or fails, or the
            number of draws is below 1.
    """
    if not 1 <= draws <= MOST_DRAWS:
        raise ValueError(f"draws: expected 1 to {MOST_DRAWS}, got {draws}")
    if not samples:
        raise ValueError("training pipeline: expected labelled samples, got none")
    entries = train_pipeline(config)
    if not entries:
        raise ValueError(
            f"{title}: expected a training pipeline (train_dataloader.dataset.pipeline or train_pipeline), "
            "the config has none"
        )
    body = _Body.of(config, skeleton, title)
    steps, left_out = _built(entries, body)
    check_enlargement(entries, [sample.image.shape[:2] for sample in samples])
    views: list[View] = []
    for n, sample in enumerate(samples):
        for draw in range(draws):
            progress(len(views), len(samples) * draws)
            with _seeded(seed + 1000 * n + draw):
                views.append(_view(sample, steps, body))
            H, W = views[0].image.shape[:2]
            if 3 * H * W * len(samples) * draws > _MOST_BYTES:
                raise ValueError(
                    f"{title}: {counted(len(samples) * draws, 'picture')} of {W}x{H} (width x height) take "
                    f"more than {_MOST_BYTES >> 20} MB; ask for fewer"
                )
    progress(len(views), len(views))
    names = tuple(name for name, _ in steps)
    findings = tuple(_findings(samples, steps, body))
    return AugmentationReport(title, names, tuple(left_out), skeleton, tuple(views), draws, findings, seed)


def trains_on(config: Mapping[str, Any], skeleton: Skeleton) -> bool:
    """Whether a config has a training pipeline, and a data set with these keypoints.

    Args:
        config: its values, as `training_views` takes them.
        skeleton: of the samples.
    """
    from workbench.models.mmpose.config import described_by, described_in

    if not train_pipeline(config):
        return False
    wanted = list(map(spelling, skeleton.keypoints))
    described = (described_by(meta)[0].keypoints for _, meta in described_in(config))
    return any(list(map(spelling, names)) == wanted for names in described)


# The pipeline.


@dataclass(frozen=True)
class _Body:
    """What a data set tells its pipeline of the keypoints.

    Attributes:
        flip_indices: partner of each keypoint; () where the config's data set declares none.
        upper: indices of the upper body.
        lower: indices of the lower body.
        named: partners by the keypoints' published names; () where unknown.
    """

    flip_indices: tuple[int, ...]
    upper: tuple[int, ...]
    lower: tuple[int, ...]
    named: tuple[int, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any], own: Skeleton, title: str) -> _Body:
        """Of the config's data set, which must describe the samples' keypoints.

        Raises:
            ValueError: it describes others: pairs and halves of the body would be those of another skeleton.
        """
        from workbench.models.mmpose.config import described_by, described_in

        others = []
        for name, meta in described_in(config):
            skeleton, _ = described_by(meta)
            if list(map(spelling, skeleton.keypoints)) != list(map(spelling, own.keypoints)):
                others.append(name)
                continue
            info = meta.get("keypoint_info") or {}
            kinds = [str(info[k].get("type", "")) for k in sorted(info, key=int)] if info else []
            upper = tuple(k for k, kind in enumerate(kinds) if kind == "upper")
            lower = tuple(k for k, kind in enumerate(kinds) if kind == "lower")
            return cls(tuple(skeleton.mirror), upper, lower, mirror_by_names(skeleton.keypoints))
        if others:
            raise ValueError(
                f"{title}: its data set ({others[0]}) has other keypoints than the samples ({own.name}); "
                "choose a set with the config's keypoints"
            )
        return cls((), (), (), ())


def _built(entries: Sequence[Mapping[str, Any]], body: _Body) -> tuple[list[Step], list[str]]:
    """The steps that may be built, in order, and why others are left out."""
    from workbench.models.mmpose.trust import PIPELINE, allowed
    from workbench.models.mmpose_compat import install, registered_only

    install()
    from mmengine.registry import DefaultScope
    from mmpose.registry import TRANSFORMS

    steps: list[Step] = []
    left_out: list[str] = []
    for n, entry in enumerate(entries):
        kind = type_of(entry)
        if kind in _UNCHANGING:
            continue
        check_numbers(entry, f"pipeline[{n}] ({kind})")
        if kind == "Albumentation":
            steps += albumentations_steps(entry, left_out)
            continue
        if reason := _lacks(kind, body):
            left_out.append(f"{kind}: {reason}")
            continue
        # mmpose has mmdet's class under its own name; mmdet itself need not be there.
        named = {**entry, "type": kind} if kind == "YOLOXHSVRandomAug" else dict(entry)
        try:
            safe = allowed(named, f"pipeline[{n}]", PIPELINE)
        except ValueError as refused:
            left_out.append(f"{kind}: {str(refused).removeprefix('config: ')}")
            continue
        with DefaultScope.overwrite_default_scope("mmpose"), registered_only():
            try:
                steps.append((kind, TRANSFORMS.build(safe)))
            except Exception as error:  # noqa: BLE001 - mmpose's code, with values of any kind
                where = f"config: pipeline[{n}] ({kind})"
                raise ValueError(f"{where} cannot be built: {_reason(error)}") from None
    return steps, left_out


def _lacks(kind: str, body: _Body) -> str:
    """Why a step cannot be done with what is known of the keypoints; "" where it can."""
    if kind in ("RandomFlip", "HandRandomFlip") and not body.flip_indices:
        return "the config's data set declares no flip_indices for these keypoints"
    if kind == "RandomHalfBody" and not (body.upper and body.lower):
        return "the config's data set does not say which keypoints are of the upper body"
    if kind in ("Mosaic", "YOLOXMixUp"):
        return "it mixes several images of the set"
    return ""


def _results(sample: Sample, body: _Body) -> Results:
    """What mmpose's data set gives its pipeline of one instance; images are BGR there."""
    truth = np.asarray(sample.truth, np.float32)
    H, W = sample.image.shape[:2]
    K = len(truth)
    return {
        "img": np.ascontiguousarray(sample.image[..., ::-1]),
        "img_shape": (H, W),
        "ori_shape": (H, W),
        "img_id": sample.image_id,
        "id": sample.annotation_id or 0,
        "category_id": np.array([sample.category_id]),
        "bbox": np.array([sample.box], np.float32),
        "bbox_score": np.ones(1, np.float32),
        "keypoints": truth[None, :, :2].copy(),
        "keypoints_visible": np.minimum(truth[None, :, 2], 1).copy(),
        "num_keypoints": int((truth[:, 2] > 0).sum()),
        "area": np.array([sample.area], np.float32),
        "iscrowd": 0,
        "segmentation": None,
        "flip_indices": list(body.flip_indices) or list(range(K)),
        "upper_body_ids": list(body.upper),
        "lower_body_ids": list(body.lower),
        "dataset_keypoint_weights": np.ones(K, np.float32),
        "flip": False,
        "holes": [],
    }


def _done(sample: Sample, steps: Sequence[Step], body: _Body) -> tuple[Results, bool]:
    """The results of all steps, and whether the half body was chosen.

    Raises:
        ValueError: a step fails; the message says which.
    """
    results, half = _results(sample, body), False
    for name, step in steps:
        before = results.get("bbox_scale")
        try:
            results = step(results)
            if results is not None:
                check_results(results)
        except Exception as error:  # noqa: BLE001 - mmpose's and OpenCV's code, with values of any kind
            where = f"config: pipeline step {name} fails on {sample.key}"
            raise ValueError(f"{where}: {_reason(error)}") from None
        if results is None:
            raise ValueError(f"config: pipeline step {name} drops the sample {sample.key}")
        if name == "RandomHalfBody" and before is not None:
            half = not np.allclose(before, results["bbox_scale"])
    return results, half


def _reason(error: Exception) -> str:
    """Why a step failed, on one line; with the kind of error where the text alone says little."""
    text = reason(error)[:200]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _view(sample: Sample, steps: Sequence[Step], body: _Body) -> View:
    results, half = _done(sample, steps, body)
    points = np.asarray(results.get("transformed_keypoints", results["keypoints"]), float)[0, :, :2]
    visible = np.asarray(results["keypoints_visible"], float)
    visible = visible[0, :, 0] if visible.ndim == 3 else visible[0]
    seen = np.where(visible > 0, 2.0, 0.0)
    image = np.ascontiguousarray(np.asarray(results["img"])[..., ::-1]).clip(0, 255).astype(np.uint8)
    H, W = image.shape[:2]
    covered = np.zeros((H, W), bool)
    for x0, y0, x1, y1 in results["holes"]:
        covered[y0:y1, x0:x1] = True
    x, y = (np.nan_to_num(points[:, i], nan=-1).round().astype(int) for i in (0, 1))
    within = (x >= 0) & (y >= 0) & (x < W) & (y < H) & (seen > 0)
    hidden = np.zeros(len(points), bool)
    hidden[within] = covered[y[within], x[within]]
    rotation = float(np.ravel(results.get("bbox_rotation", 0.0))[0])
    keypoints = np.concatenate([np.where(seen[:, None] > 0, points, np.nan), seen[:, None]], 1)
    return View(
        sample.key, image, keypoints, hidden, bool(results.get("flip")), half, rotation,
        _scale(sample, results), float(covered.mean()),
    )  # fmt: skip


def _scale(sample: Sample, results: Results) -> float:
    """Size of the crop relative to the plain one: the longer side of both, which the aspect fix keeps."""
    if "input_scale" not in results:
        return 1.0

    W, H = results["input_size"]
    _, plain = crop_region(sample.box, (int(H), int(W)), float(results.get("padding", 1.25)))
    return float(np.ravel(results["input_scale"])[0] / plain[0])


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The steps of mmpose draw from numpy's global generator; it is put back."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


# What is wrong.


def _findings(samples: Sequence[Sample], steps: Sequence[Step], body: _Body) -> list[Finding]:
    """Image and keypoints that do not move together; sides that are not exchanged."""
    geometric = [step for step in steps if step[0] not in (*TRANSFORMS, *_COLOURS)]
    shown = list(samples[:3])
    mirror = body.named or body.flip_indices

    def change(given: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
        made = []
        for n, sample in enumerate(given):
            with _seeded(int(generator.integers(2**31)) + n):
                view = _view(sample, geometric, body)
            H, W = view.image.shape[:2]
            # The box as large as in the crop, whose own sides differ from it: the same rings are compared.
            _, plain = crop_region(sample.box, (H, W), 1.25)
            factor = W / (plain[0] * max(view.scale, 0.1))
            x0, y0, x1, y1 = sample.box
            box = (0.0, 0.0, (x1 - x0) * factor, (y1 - y0) * factor)
            truth = np.nan_to_num(view.keypoints)
            made.append(dataclasses.replace(sample, image=view.image, box=box, truth=truth, others=()))
        return made

    text = apart_text(change, shown, mirror or None)
    if not text:
        return []
    return [
        Finding(
            "augmentation",
            text,
            "Look at the pictures, at flip_indices of the data set's metainfo, and at the steps' order.",
            refuted_by="pictures in which every keypoint lies on its place",
        )
    ]


# The picture.


def contact_sheet(
    views: Sequence[View], skeleton: Skeleton, columns: int = 6, side: int = 192
) -> UInt8[np.ndarray, "H W 3"]:
    """All views in one picture, keypoints in their colours, those under a hole crossed out.

    Args:
        views: at least one.
        skeleton: for the colours.
        columns: views beside each other.
        side: of the larger side of a tile, pixels.
    """
    tiles = [tile(view, skeleton, side) for view in views]
    H, W = (max(t.shape[i] for t in tiles) for i in (0, 1))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (H + 4), min(columns, len(tiles)) * (W + 4), 3), 96, np.uint8)
    for n, one in enumerate(tiles):
        y, x = (n // columns) * (H + 4) + 2, (n % columns) * (W + 4) + 2
        sheet[y : y + one.shape[0], x : x + one.shape[1]] = one
    return sheet


def tile(view: View, skeleton: Skeleton, side: int) -> UInt8[np.ndarray, "h w 3"]:
    """One view with its keypoints.

    Args:
        view: to draw.
        skeleton: for the colours.
        side: of the larger side of the picture, pixels.
    """
    import cv2

    from workbench.figures import keypoint_colours

    H, W = view.image.shape[:2]
    factor = side / max(H, W)
    picture = cv2.resize(view.image, (max(1, round(W * factor)), max(1, round(H * factor))))
    for k, (colour, (x, y, seen)) in enumerate(zip(keypoint_colours(skeleton), view.keypoints, strict=True)):
        if seen <= 0 or not np.isfinite([x, y]).all():
            continue
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        place = (round(float(x) * factor), round(float(y) * factor))
        cv2.circle(picture, place, 4, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, place, 3, rgb, -1, cv2.LINE_AA)
        if view.hidden[k]:
            cv2.drawMarker(picture, place, (255, 255, 255), cv2.MARKER_TILTED_CROSS, 9, 1, cv2.LINE_AA)
    return picture
