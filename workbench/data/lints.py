"""Checks of a data set for annotations and images that would distort an evaluation.

Every finding says how many annotations or images it concerns, what an evaluator makes of them and what they
look like. Each check has a threshold that correct data sets do not reach: they get no finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding, Severity
from workbench.data.images import MOST_PIXELS, turned_by_exif

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import Instance, PoseSet


# Thumbnails of this side in grey levels differ between scenes, but not between JPEG qualities.
_SIDE = 24
# Mean difference of grey levels (0..255) below which two images are the same. JPEG at quality 50: about 1.
_SAME = 2.0
# Uniform images are all alike; below this standard deviation of grey levels they are not compared.
_PLAIN = 3.0


def image_lints(pose_set: PoseSet, most: int = 1000) -> tuple[str, ...]:
    """Findings that need the images: EXIF rotations and duplicate images.

    Args:
        pose_set: its present images are read; missing ones are another finding.
        most: number of images to read; the findings say when there are more.
    """
    present = [r for r in pose_set.images.values() if r.path.is_file()]
    looked = present[:most]
    limited = f" (of the first {most:,} of {len(present):,} images)" if looked != present else ""
    turned = stored = 0
    for record in looked:
        try:
            sizes = turned_by_exif(record.path)
        except (ValueError, OSError):
            continue  # reported when the image is read
        if sizes is not None:
            turned += 1
            as_stored, upright = sizes
            stored += (record.height, record.width) == as_stored != upright
    found = []
    if turned:
        found.append(
            f"{turned} images have an EXIF rotation: OpenCV, mmpose and browsers show them"
            " upright"
            + (
                f"; {stored} are annotated on the stored, unrotated picture and are read that way"
                if stored
                else ""
            )
            + limited
        )
    paths: dict[Any, int] = defaultdict(int)
    for record in pose_set.images.values():
        paths[record.path] += 1
    same_file = sum(n - 1 for n in paths.values())
    if same_file:
        found.append(f"{same_file} images name the same file as another image")
    repeated = duplicate_images([r.path for r in dict.fromkeys(looked)])
    if repeated:
        found.append(
            f"{len(repeated)} images are near duplicates of another image, the first {repeated[0].name}: they"
            f" count twice, and leak where one of them is in the training set{limited}"
        )
    return tuple(found)


def duplicate_images(paths: Sequence[Path]) -> list[Path]:
    """The image files that are near duplicates of an earlier one; unreadable files are skipped."""
    kept: list[Path] = []
    small: list[np.ndarray] = []
    for path in paths:
        thumbnail = _thumbnail(path)
        if thumbnail is not None and thumbnail.std() >= _PLAIN:
            kept.append(path)
            small.append(thumbnail.ravel())
    if len(kept) < 2:
        return []
    table = np.stack(small)
    found = []
    for i in range(1, len(kept)):
        if (np.abs(table[:i] - table[i]).mean(1) < _SAME).any():
            found.append(kept[i])
    return found


def _thumbnail(path: Path) -> Float[np.ndarray, "s s"] | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            # JPEG decodes at an eighth of its size in a fraction of the time.
            picture.draft("L", (4 * _SIDE, 4 * _SIDE))
            grey = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
            return np.asarray(grey, np.float32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


# Square pixels. COCO labels keypoints from 32 x 32 pixels on; a pose within 2 x 2 cannot be labelled.
SMALLEST_AREA = 4.0
# In smaller images, pixel coordinates cannot be distinguished from normalised ones.
_SMALL_IMAGE = 16
# Poses closer than this share of their extent, and 1.5 pixels, are one pose labelled twice.
_SAME_POSE, _SAME_PIXELS = 0.01, 1.5
# At most so many labelled instances of one image are compared with each other.
_MOST_COMPARED = 2000


@dataclass(frozen=True)
class _Column:
    """The labelled instances of a set that are no crowd, as arrays."""

    keypoints: Float[np.ndarray, "N K 2"]
    labelled: Bool[np.ndarray, "N K"]
    visible: Bool[np.ndarray, "N K"]  # all labelled ones where the set does not mark visibility
    boxes: Float[np.ndarray, "N 4"]  # (x, y, width, height) as the file states, unclipped; nan where absent
    size: Float[np.ndarray, "N 2"]  # of the image: width, height; nan where unknown
    area: Float[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.area)

    def extent(self) -> Float[np.ndarray, "N 4"]:
        """Corners (x0, y0, x1, y1) of the labelled keypoints of each instance."""
        points = np.where(self.labelled[..., None], self.keypoints, np.nan)
        return np.concatenate([np.nanmin(points, 1), np.nanmax(points, 1)], 1)


def lints(pose_set: PoseSet) -> tuple[str, ...]:
    """Findings about areas, ids, boxes, keypoints and repeated poses; () for a correct set."""
    return tuple(finding.evidence for finding in lint_findings(pose_set))


def lint_findings(pose_set: PoseSet) -> list[Finding]:
    """The same as records; conversions while reading (the set's notes) are remarks."""
    chosen = [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
    found = records("file read in another way than stated", pose_set.notes, "remark")
    if any(a.annotation_id == 0 for a in chosen):
        text = (
            "annotation id 0 never counts as found in pycocotools, which reads it as `no match`: number"
            " annotations from 1"
        )
        found += records("annotation ids", [text])
    if not chosen:
        return found
    column = _column(pose_set, chosen)
    found += records("annotated areas", _areas(column))
    unit = _unit_keypoints(column)
    exchanged = [] if unit else _exchanged(column)
    found += records("annotated keypoints", unit + exchanged, "error")
    found += records("annotated boxes", _boxes(column, trusted=not unit and not exchanged))
    near = 0 if unit else _near_duplicates(pose_set, chosen)
    if near:
        text = (
            f"{near} annotations nearly repeat the pose of another annotation of their image: a model that"
            " finds the person once misses the other"
        )
        found += records("repeated poses", [text])
    return found


def records(cause: str, texts: Iterable[str], severity: Severity = "warning") -> list[Finding]:
    """One finding per sentence, all with the same cause."""
    return [Finding(cause, text, severity=severity) for text in texts]


def _column(pose_set: PoseSet, chosen: list[Instance]) -> _Column:
    stated = {
        e["id"]: e.get("bbox")
        for e in pose_set.raw.get("annotations", ())
        if isinstance(e, Mapping) and isinstance(e.get("id"), (int, float))
    }
    boxes = []
    for a in chosen:
        box = stated.get(a.annotation_id)
        x0, y0, x1, y1 = a.box
        boxes.append([float(v) for v in box] if box else [x0, y0, x1 - x0, y1 - y0])
    records = [pose_set.images[a.image_id] for a in chosen]
    size = [[r.width or np.nan, r.height or np.nan] for r in records]
    truth = np.stack([a.truth for a in chosen])
    seen = truth[..., 2]
    return _Column(
        truth[..., :2],
        seen > 0,
        seen == 2 if (seen == 2).any() else seen > 0,
        np.array(boxes, float).reshape(-1, 4),
        np.array(size, float),
        np.array([a.area for a in chosen], float),
    )


def _areas(column: _Column) -> list[str]:
    area, found = column.area, []
    known = np.isfinite(area)
    negative, zero = int((area < 0).sum()), int((area == 0).sum())
    if negative:
        found.append(
            f"{negative} instances have a negative area, which is in no area range: evaluators skip them"
        )
    if zero:
        found.append(f"{zero} instances have area 0: only an exact pose reaches an OKS above 0")
    small = known & (area > 0) & (area < SMALLEST_AREA)
    if small.sum() and small.sum() >= 0.8 * (known & (area > 0)).sum() and (area[small] <= 1).all():
        found.append(
            f"{int(small.sum())} instances have an area of at most 1 square pixel: areas look normalised;"
            " OKS needs square pixels"
        )
    elif small.any():
        found.append(
            f"{int(small.sum())} instances have an area below {SMALLEST_AREA:g} square pixels: almost no pose"
            " is close enough to count"
        )
    return found


def _unit_keypoints(column: _Column) -> list[str]:
    several = (column.labelled.sum(1) >= 2) & ~(column.size.max(1) < _SMALL_IMAGE)
    if not several.any():
        return []
    low, high = column.extent()[several, :2].min(1), column.extent()[several, 2:].max(1)
    unit = (low >= -0.5) & (high <= 1.5)
    if unit.mean() < 0.8:
        return []
    return [
        f"all labelled keypoints of {int(unit.sum())} instances lie within 1 pixel: they look normalised to"
        " the image size; convert them to pixels"
    ]


def _exchanged(column: _Column) -> list[str]:
    """X and y look exchanged: boxes, or else images, contain the keypoints only when swapped."""
    boxed = np.asarray(np.isfinite(column.boxes).all(1)) & (column.boxes[:, 2:] > 0).all(1)
    images = np.concatenate([np.zeros_like(column.size), column.size], 1)
    frames = np.where(boxed[:, None], column.boxes, images)
    usable = np.isfinite(frames).all(1) & (column.labelled.sum(1) >= 2)
    if not usable.any():
        return []
    as_is = _share_held(column.keypoints, column.labelled, frames)[usable]
    other = _share_held(column.keypoints[..., ::-1], column.labelled, frames)[usable]
    if other.mean() < 0.8 or other.mean() - as_is.mean() < 0.4:
        return []
    what = "boxes" if boxed[usable].any() else "images"
    return [
        f"x and y of keypoints look exchanged: their {what} contain {as_is.mean():.0%} of the labelled ones,"
        f" and {other.mean():.0%} with x and y swapped"
    ]


def _boxes(column: _Column, trusted: bool) -> list[str]:
    """Findings about boxes; `trusted` when keypoints are in pixels and can be compared with them."""
    boxed = np.asarray(np.isfinite(column.boxes).all(1))
    if not boxed.any():
        return []
    boxes, size = column.boxes[boxed], column.size[boxed]
    unit = (boxes >= -0.5).all(1) & (boxes <= 1.5).all(1) & ~(size.max(1) < _SMALL_IMAGE)
    if unit.mean() >= 0.8:
        return [
            f"{int(unit.sum())} boxes lie within 1 pixel: they look normalised to the image size; crops and"
            " areas need pixels"
        ]
    if trusted and (layout := _layout(column, boxed)):
        return [layout]
    found = []
    over = np.maximum(boxes[:, :2] + boxes[:, 2:] - size, -boxes[:, :2])
    # A tolerance of a twentieth of the side, for rounding and boxes drawn slightly beyond the edge.
    outside = (over > np.maximum(2.0, 0.05 * boxes[:, 2:])).any(1)
    if outside.any():
        found.append(f"{int(outside.sum())} boxes reach outside their image; crops use the part inside")
    # Boxes of occluded people may cover only what is visible.
    held = _share_held(column.keypoints[boxed], column.visible[boxed], boxes)
    positive = (boxes[:, 2:] > 0).all(1) & column.visible[boxed].any(1)
    if trusted and (empty := int(((held < 0.5) & positive).sum())):
        found.append(
            f"{empty} boxes contain less than half of their visible keypoints: a crop of such a box does not"
            " show the pose"
        )
    return found


def _layout(column: _Column, boxed: Bool[np.ndarray, " N"]) -> str:
    """The finding that boxes fit the keypoints much better as corners, or as centre and size; else ""."""
    rich = boxed & (column.labelled.sum(1) >= 4)
    if not rich.any():
        return ""
    boxes, extent = column.boxes[rich], column.extent()[rich]
    a, b = boxes[:, :2], boxes[:, 2:]
    readings = {"": (a, a + b), "corners": (a, b), "centres": (a - b / 2, a + b / 2)}
    fits = {}
    for name, (low, high) in readings.items():
        valid = (high > low).all(1)
        overlap = _overlap(np.concatenate([low, high], 1), extent)
        fits[name] = float(np.median(np.where(valid, overlap, 0.0)))
    best = max(("corners", "centres"), key=lambda name: fits[name])
    # In correct sets the IoU of box and keypoints' extent is .4 to .8.
    if fits[best] < 0.3 or fits[best] - fits[""] < 0.12 or fits[best] < 1.25 * fits[""]:
        return ""
    spelled = {"corners": "two corners (x0, y0, x1, y1)", "centres": "centre and size (cx, cy, w, h)"}
    return (
        f"boxes look like {spelled[best]}: read as x, y, width, height they overlap the keypoints by"
        f" {fits['']:.2f}, read so by {fits[best]:.2f} (median IoU with the keypoints' extent)"
    )


def _share_held(
    keypoints: Float[np.ndarray, "N K 2"], labelled: Bool[np.ndarray, "N K"], boxes: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Share of each instance's labelled keypoints within its box (x, y, width, height), a tenth widened."""
    margin = np.maximum(2.0, 0.1 * boxes[:, 2:])[:, None]
    low, high = boxes[:, None, :2] - margin, boxes[:, None, :2] + boxes[:, None, 2:] + margin
    held = ((keypoints >= low) & (keypoints <= high)).all(-1) & labelled
    return held.sum(1) / np.maximum(labelled.sum(1), 1)


def _overlap(one: Float[np.ndarray, "N 4"], other: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """IoU of boxes given by corners; a side of 0 counts as one pixel."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    areas = [np.maximum(box[:, 2:] - box[:, :2], 1.0).prod(1) for box in (one, other)]
    return common / (areas[0] + areas[1] - common)


def _near_duplicates(pose_set: PoseSet, chosen: list[Instance]) -> int:
    """Number of annotations that repeat another pose of their image to about a pixel; no exact copies."""
    from scipy.spatial import KDTree

    by_image: dict[tuple[int, int], list[Instance]] = defaultdict(list)
    for a in chosen:
        if a.num_keypoints >= 3:
            by_image[a.image_id, a.category_id].append(a)
    count = 0
    for here in by_image.values():
        if len(here) < 2:
            continue
        here = here[:_MOST_COMPARED]
        truth = np.stack([a.truth for a in here])
        seen = truth[..., 2] > 0
        points = np.where(seen[..., None], truth[..., :2], np.nan)
        side = np.nanmax(np.nanmax(points, 1) - np.nanmin(points, 1), 1)
        limit = np.minimum(np.maximum(_SAME_PIXELS, _SAME_POSE * side), 5 * _SAME_POSE * side)
        pairs = KDTree(np.nanmean(points, 1)).query_pairs(float(limit.max()), output_type="ndarray")
        if not len(pairs):
            continue
        i, j = pairs.T
        # Only poses with the same labelled keypoints that differ; exact copies are counted by facts.
        alike = (seen[i] == seen[j]).all(1) & (truth[i] != truth[j]).any((1, 2))
        far = np.nanmax(np.linalg.norm(points[i] - points[j], axis=-1), 1)
        count += len(np.unique(j[alike & (far <= np.minimum(limit[i], limit[j]))]))
    return count
