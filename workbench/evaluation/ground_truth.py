"""Annotations of a COCO-format json as arrays, checked once."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core.geometry import BOX_SHARE, iou

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

AreaRule = Literal["annotated", "box"]
# Intersection over union of two people's boxes above which they crowd each other.
OVERLAP = 0.1


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated instances, in the order of the file.

    Attributes:
        image_ids: of all images of the set, sorted, also those without instances.
        category_ids: of all categories of the set, sorted.
        ids: annotation ids.
        image: index into image_ids.
        category: index into category_ids.
        keypoints: (x, y, visibility) in image pixels.
        boxes: (x, y, width, height) in image pixels, COCO's layout; nan where absent and not needed.
        area: square pixels, by area_rule.
        crowd: a region of many, which any number of detections may match without being counted.
        ignored: crowd, or num_keypoints is 0: neither a miss when missed nor a hit when hit.
        area_rule: ``annotated``, or ``box``: .53 of the box's area, xtcocotools' way for sets without it.
        category_names: same order as category_ids.
    """

    image_ids: Int[np.ndarray, " I"]
    category_ids: Int[np.ndarray, " C"]
    ids: Int[np.ndarray, " G"]
    image: Int[np.ndarray, " G"]
    category: Int[np.ndarray, " G"]
    keypoints: Float[np.ndarray, "G K 3"]
    boxes: Float[np.ndarray, "G 4"]
    area: Float[np.ndarray, " G"]
    crowd: Bool[np.ndarray, " G"]
    ignored: Bool[np.ndarray, " G"]
    area_rule: AreaRule = "annotated"
    category_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, annotation_ids: Collection[int]) -> GroundTruth:
        """The same images without these instances."""
        return self._taken(~np.isin(self.ids, np.fromiter(annotation_ids, np.int64)))

    def on_images(self, image_ids: Collection[int]) -> GroundTruth:
        """These images alone, with their instances."""
        chosen = np.isin(self.image_ids, np.fromiter(image_ids, np.int64))
        taken = self._taken(chosen[self.image])
        return replace(taken, image_ids=self.image_ids[chosen], image=(np.cumsum(chosen) - 1)[taken.image])

    def _taken(self, mask: Bool[np.ndarray, " G"]) -> GroundTruth:
        names = ("ids", "image", "category", "keypoints", "boxes", "area", "crowd", "ignored")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    @classmethod
    def from_coco(cls, data: Mapping[str, Any], area_rule: AreaRule = "annotated") -> GroundTruth:
        """Read the dict of a COCO-format keypoint json.

        Args:
            data: with ``images``, ``annotations`` and ``categories``.
            area_rule: where an instance's area comes from; never chosen in silence, because it changes
                every OKS.

        Raises:
            ValueError: what is missing, which annotation is wrong, and what to do.
        """
        if not isinstance(data, Mapping) or not {"images", "annotations", "categories"} <= data.keys():
            found = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(
                f"annotations: expected a json with images, annotations and categories, got {found[:200]}"
            )
        for key in ("images", "annotations", "categories"):
            entries = data[key]
            if not isinstance(entries, (list, tuple)) or not all(isinstance(e, Mapping) for e in entries):
                raise ValueError(f"annotations: expected a list of objects under {key!r}")
        image_ids = np.unique(integers([i.get("id") for i in data["images"]], "image ids"))
        category_ids = np.unique(integers([c.get("id") for c in data["categories"]], "category ids"))
        names = {c["id"]: str(c.get("name", c["id"])) for c in data["categories"]}
        # An annotation of an image or a category that the json does not list is never evaluated.
        listed, known = set(image_ids.tolist()), set(category_ids.tolist())
        items = data["annotations"]
        keys = zip(_column(items, "image_id"), _column(items, "category_id"), items, strict=True)
        items = [item for image, category, item in keys if _in(image, listed) and _in(category, known)]
        ids = integers(_column(items, "id"), "annotation ids")
        if len(np.unique(ids)) < len(ids):
            twice = np.sort(ids)[:-1][np.diff(np.sort(ids)) == 0][0]
            raise ValueError(f"annotations: id {twice} occurs more than once; ids must be unique")
        keypoints = _keypoints(items, data["categories"])
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in items], bool)
        labelled = (keypoints[..., 2] > 0).sum(1)
        boxes = _boxes(items, (labelled == 0) | (area_rule == "box"))
        if area_rule == "box":
            with np.errstate(over="ignore"):  # infinite areas are refused below
                area = boxes[:, 2] * boxes[:, 3] * BOX_SHARE
        else:
            area = floats(_column(items, "area", _NO_AREA), "annotations: area of annotation")
        check_finite(area, ids, "annotations: area of annotation")
        check_finite(keypoints, ids, "annotations: keypoints of annotation")
        counted = integers(
            [a.get("num_keypoints", n) for a, n in zip(items, labelled.tolist(), strict=True)],
            "annotations: num_keypoints",
        )
        return cls(
            image_ids,
            category_ids,
            ids,
            np.searchsorted(image_ids, integers([a["image_id"] for a in items], "image ids")),
            np.searchsorted(category_ids, integers([a["category_id"] for a in items], "category ids")),
            keypoints,
            boxes,
            area,
            crowd,
            crowd | (counted == 0),
            area_rule,
            tuple(names[i] for i in category_ids.tolist()),
        )


def _in(value: Any, known: Collection[int]) -> bool:
    """Whether an id is listed; what cannot be an id is not."""
    return isinstance(value, (int, float)) and value in known


_NO_AREA = (
    "; if the set has none (CrowdPose, AIC), choose the rule of their own evaluator, "
    ".53 of the box's area: --no-area"
)


def _column(items: Sequence[Mapping[str, Any]], key: str, advice: str = "") -> list[Any]:
    """One value of every annotation."""
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError):
        bare = [
            item.get("id", "one without id") if isinstance(item, Mapping) else f"{item!r:.40}"
            for item in items
            if not isinstance(item, Mapping) or key not in item
        ]
        raise ValueError(
            f"annotations: {len(bare)} of {len(items)} have no {key!r} (first: {bare[0]}){advice}"
        ) from None


def _boxes(items: Sequence[Mapping[str, Any]], needed: Bool[np.ndarray, " G"]) -> Float[np.ndarray, "G 4"]:
    """The annotations' boxes; nan where one is absent that no rule reads."""
    boxes = quadruples([item.get("bbox") or (np.nan,) * 4 for item in items], "annotations")
    bare = needed & ~np.isfinite(boxes).all(1)
    if bare.any():
        first = items[int(bare.argmax())]["id"]
        raise ValueError(
            f"annotations: {first} has no bbox, and no labelled keypoint or area to do without it"
        )
    return boxes


def floats(values: Sequence[Any], what: str) -> Float[np.ndarray, " n"]:
    """One number for each.

    Args:
        values: of a column.
        what: its name, for the error.

    Raises:
        ValueError: one is none.
    """
    try:
        _refuse_other_types(values)
        return np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what}: expected one number for each") from None


def _refuse_other_types(values: Iterable[Any]) -> None:
    """Raise TypeError for what numpy would convert: it reads "1_0" as 10 and true as 1.

    By set of types: 3 million values take .1 s.
    """
    for kind in set(map(type, values)) - {int, float}:
        if not issubclass(kind, np.number):
            raise TypeError(f"{kind.__name__} among numbers")


def integers(values: Sequence[Any], what: str) -> Int[np.ndarray, " n"]:
    """The values as int64; 17.0 is 17, because tables with gaps turn whole columns into floats.

    Args:
        values: of a column.
        what: its name, for the error.

    Raises:
        ValueError: one is no integer.
    """
    try:
        array = np.array(values) if len(values) else np.zeros(0, np.int64)
        if (array.dtype.kind == "u" and (array >= 1 << 63).any()) or bool in set(map(type, values)):
            array = array.astype(object)  # as int64 the first would be negative, the others 0 and 1
    except ValueError:  # lists of different lengths among them
        array = np.zeros(0, object)
    if array.dtype.kind == "f" and array.ndim == 1:
        # Above 2**53 floats are too coarse to tell two ids apart.
        whole = (array == np.floor(array)) & (np.abs(array) < 2**53)
        if whole.all():
            return array.astype(np.int64)
        raise ValueError(f"{what}: expected integers, got {values[int((~whole).argmax())]!r:.40}")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        wrong = next(
            (v for v in values if isinstance(v, bool) or not isinstance(v, int)), "too large a number"
        )
        raise ValueError(f"{what}: expected integers, got {wrong!r:.40}")
    return array.astype(np.int64)


def triplets(values: Sequence[Sequence[float]], what: str) -> Float[np.ndarray, "n K 3"]:
    """Flat COCO lists x, y, v, x, y, v ... as an array.

    Args:
        values: of a column.
        what: its name, for the error.

    Raises:
        ValueError: a list is no flat list of triplets, or their lengths differ.
    """
    if not len(values):
        return np.zeros((0, 0, 3))
    # Sets of map: 60,000 lists are looked at in 3 ms.
    flat = set(map(type, values)) <= {list, tuple}
    sizes = sorted(set(map(len, values))) if flat else []
    if not flat or len(sizes) > 1 or sizes[0] < 3 or sizes[0] % 3:
        each, unit = (1, "numbers") if any(size % 3 for size in sizes) else (3, "keypoints")
        got = f"{', '.join(str(size // each) for size in sizes)} {unit}" if sizes else "something else"
        raise ValueError(f"{what}: expected keypoints as flat lists x, y, v of one length, got {got}")
    try:
        _refuse_other_types(itertools.chain.from_iterable(values))
        numbers = np.fromiter(itertools.chain.from_iterable(values), float, len(values) * sizes[0])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what}: expected keypoints as flat lists of numbers x, y, v") from None
    return numbers.reshape(len(values), -1, 3)


def quadruples(values: Sequence[Sequence[float]], what: str) -> Float[np.ndarray, "n 4"]:
    """COCO boxes x, y, width, height as an array.

    Args:
        values: of a column.
        what: its name, for the error.

    Raises:
        ValueError: one is no list of four numbers.
    """
    try:
        _refuse_other_types(itertools.chain.from_iterable(values))
        return np.array(values, float).reshape(len(values), 4)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what}: expected each bbox as x, y, width, height") from None


def check_finite(values: Float[np.ndarray, "n ..."], ids: Sequence[Any] | np.ndarray, what: str) -> None:
    """Raise ValueError, naming the first id, when a number is nan or infinite.

    Args:
        values: one row for each id.
        ids: [n] of the annotations or results.
        what: name of the values, for the error.
    """
    wrong = ~np.isfinite(values).all(tuple(range(1, values.ndim)))
    if wrong.any():
        raise ValueError(f"{what} {ids[int(wrong.argmax())]}: not a finite number")


def others_overlapping(truth: GroundTruth) -> Int[np.ndarray, " G"]:
    """How many other annotations of the image overlap each one's box by more than OVERLAP (IoU).

    Crowd regions count, as they hold people; an annotation without a box overlaps nobody.

    Raises:
        ValueError: an image has more annotations than can be compared with each other.
    """
    check_pairs(np.bincount(truth.image) ** 2, len(truth), "annotations")
    count = np.zeros(len(truth), int)
    corners = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], 1)
    order = np.argsort(truth.image, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(truth.image[order])) + 1) if len(order) else []:
        for part in np.array_split(rows, -(-(len(rows) ** 2) // _TOGETHER)):
            near: Any = iou(corners[part, None], corners[None, rows]) > OVERLAP
            # A box of no size overlaps not even itself.
            count[part] = near.sum(1) - (near & (part[:, None] == rows)).sum(1)
    return count


# Boxes that are compared at once, and pairs in one file beside a hundred for each of its entries: the largest
# images of crowds have some thousand people.
_TOGETHER, _PAIRS = 1_000_000, 4_000_000


def check_pairs(pairs: Int[np.ndarray, " cells"], entries: int, what: str) -> None:
    """Raise ValueError where each is compared with each in an image, and that takes minutes.

    Args:
        pairs: number of them in each image.
        entries: of the file, in all images.
        what: they are, for the error.
    """
    if int(pairs.sum()) > _PAIRS + 100 * entries:
        raise ValueError(
            f"{what}: one image has {round(float(pairs.max()) ** 0.5):,} of them, too many to compare each "
            "with each other"
        )


def _keypoints(
    items: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]]
) -> Float[np.ndarray, "G K 3"]:
    """Keypoints of the annotations; without any the categories say how many there would be."""
    if items:
        return triplets(_column(items, "keypoints"), "annotations")
    stated = [len(c["keypoints"]) for c in categories if isinstance(c.get("keypoints"), list)]
    return np.zeros((0, max(stated, default=0), 3))
