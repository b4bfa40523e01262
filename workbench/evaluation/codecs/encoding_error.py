"""What encoding and decoding alone cost: the error at every place of the input, and the AP that it leaves.

The output of a perfect network is the codec's own target. What its decoder reads off that target differs from
the keypoint by the error of the codec, which no training removes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Codec, Skeleton
from workbench.core.geometry import BOX_SHARE, apply, checked_box, crop_region, input_to_image, inverse
from workbench.core.job import Cancelled
from workbench.core.report import PICTURE, Report, counted, plain, signed_text
from workbench.core.statistics import finite_mean
from workbench.decoding.codecs import CODECS, codec_for, encode_decode
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.keypoint_ap import THRESHOLDS, keypoint_ap
from workbench.evaluation.oks import checked_sigmas, paired_oks, term
from workbench.evaluation.predictions import Predictions
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet

# Cells of all targets of one codec: a second or two of one core. Between these numbers of places.
CELLS, FEWEST, MOST = 60_000_000, 600, 4096
PER_BIN = 4
# Cells from the border that the profile covers, and places in each.
PROFILE, PER_CELL = 12, 64
# People of the assumed size that are drawn for the AP ceiling.
PEOPLE = 2000


@dataclass(frozen=True)
class Setup:
    """One size of input and output.

    Attributes:
        input_size: (height, width), pixels.
        heatmap_size: (h, w), cells; None for a quarter of the input.
        sigma: of heatmaps in cells; None for 2 per 64 rows.
        split_ratio: SimCC bins per pixel.
        bin_sigma: of SimCC in bins along x and y; None for sqrt(side / 8).
        blur_kernel: of DARK, UDP and Megvii, cells.
    """

    input_size: tuple[int, int]
    heatmap_size: tuple[int, int] | None = None
    sigma: float | None = None
    split_ratio: float = 2.0
    bin_sigma: tuple[float, float] | None = None
    blur_kernel: int = 11

    def codec(self, name: str) -> Codec:
        """A codec of CODECS at this size.

        Raises:
            KeyError: no such codec.
            ValueError: the sizes do not fit each other.
        """
        return codec_for(
            name,
            self.input_size,
            self.heatmap_size,
            self.sigma,
            self.split_ratio,
            self.bin_sigma,
            self.blur_kernel,
        )


@dataclass(frozen=True)
class Person:
    """The size of a person that is assumed, where no annotations are given.

    Attributes:
        width: of the bounding box, image pixels.
        height: of the bounding box, image pixels.
        padding: factor on the box before it is cropped.
        area_share: object area over the box's.
    """

    width: float = 100.0
    height: float = 200.0
    padding: float = 1.25
    area_share: float = BOX_SHARE

    def __post_init__(self) -> None:
        if not all(0 < v < math.inf for v in (self.width, self.height, self.padding, self.area_share)):
            raise ValueError(f"person: expected sizes above 0, got {self.width:g}x{self.height:g}")

    @property
    def area(self) -> float:
        """Square image pixels."""
        return self.area_share * self.width * self.height

    def crop(self, input_size: tuple[int, int]) -> tuple[np.ndarray, float]:
        """Half the box (x, y) in input pixels, and image pixels per input pixel."""
        _, size = crop_region((0.0, 0.0, self.width, self.height), input_size, self.padding)
        scale = float(size[0]) / input_size[1]
        return np.array([self.width, self.height]) / scale / 2, scale

    def text(self) -> str:
        """The assumption in words."""
        return (
            f"one person whose box has {self.width:g}x{self.height:g} image pixels and an area of "
            f"{self.area_share:g} of it, crop padding {self.padding:g}, keypoints anywhere in the box with "
            "equal probability, no other error, poses ranked by their OKS"
        )


@dataclass(frozen=True, eq=False)
class CodecError:
    """One codec at one size.

    Attributes:
        name: of CODECS.
        label: unique in the report.
        codec: at this size.
        mean_px: mean distance between a place and what is read back, over the whole input, input pixels.
        max_px: largest such distance.
        border_px: mean over the places within three sigma of an edge.
        inside_px: mean over all others.
        bias_px: mean offset (x, y), input pixels.
        image_px: mean distance in pixels of an image that shows the assumed person, or of the images of the
            set at the mean scale of its people's crops.
        oks: mean OKS that is left.
        ap_ceiling: AP that is left.
        lost: share of places that have no target at all.
        map: mean distance by place [rows, columns], input pixels.
        profile: mean distance by cells from the left edge, input pixels.
    """

    name: str
    label: str
    codec: Codec
    mean_px: float
    max_px: float
    border_px: float
    inside_px: float
    bias_px: tuple[float, float]
    image_px: float
    oks: float
    ap_ceiling: float
    lost: float
    map: Float[np.ndarray, "R C"] = field(metadata=PICTURE)
    profile: Float[np.ndarray, " D"] = field(metadata=PICTURE)

    @property
    def size_text(self) -> str:
        """Input, output and sigma; width x height."""
        (H, W), (h, w) = self.codec.input_size, self.codec.output_size
        if self.codec.kind == "simcc":
            x, y = self.codec.sigma
            return (
                f"{W}x{H}, {counted(self.codec.split_ratio, 'bin', spec='g')} per px, σ {x:.3g}, "
                f"{counted(y, 'bin', spec='.3g')}"
            )
        return f"{W}x{H}, map {w}x{h}, σ {self.codec.sigma[0]:.3g} cells"


@dataclass(frozen=True, eq=False)
class CodecErrors(Report):
    """Encode-decode error of codecs.

    Attributes:
        codecs: in the order asked for.
        assumption: which people the AP ceiling is of.
        seed: of the places.
    """

    codecs: tuple[CodecError, ...]
    assumption: str
    seed: int = 0

    @property
    def one_size(self) -> bool:
        """Whether all are of one input size, so that input pixels compare."""
        return len({c.codec.input_size for c in self.codecs}) == 1

    def summary(self) -> str:
        by_error = sorted(self.codecs, key=lambda c: c.mean_px if self.one_size else c.image_px)
        best, worst = by_error[0], by_error[-1]
        if best is worst:
            return f"Encoding and decoding alone: {self._said(best)}. Assumed: {self.assumption}."
        lowest = min(self.codecs, key=lambda c: c.ap_ceiling)
        matter = (
            f"{lowest.label} leaves an AP of at most {lowest.ap_ceiling:.3f}, so a part of the loss is the "
            "codec's; take a finer one"
            if lowest.ap_ceiling < 0.995
            else "all leave an AP of 0.995 or more for people of this size: look for the loss elsewhere"
        )
        return (
            f"Encoding and decoding alone: smallest error {self._said(best)}; largest {self._said(worst)}; "
            f"{matter}. Assumed: {self.assumption}."
        )

    def _said(self, one: CodecError) -> str:
        value = f"{one.mean_px:.3g} input px" if self.one_size else f"{one.image_px:.3g} image px"
        return f"{one.label} with a mean of {value}, AP ceiling {one.ap_ceiling:.3f}"

    def plot(self) -> Figure:
        """Maps of the error over the input, and its mean by distance from the edge."""
        from workbench.evaluation.codecs.drawing import errors_figure

        return errors_figure(self)

    def table(self) -> list[dict[str, Any]]:
        return [
            plain(
                {
                    "name": c.label,
                    "mean_px": c.mean_px,
                    "max_px": c.max_px,
                    "border_px": c.border_px,
                    "inside_px": c.inside_px,
                    "bias_px": list(c.bias_px),
                    "image_px": c.image_px,
                    "oks": c.oks,
                    "ap_ceiling": c.ap_ceiling,
                    "lost": c.lost,
                    "size": c.size_text,
                    "codec": c.name,
                    "reference": CODECS[c.name].reference,
                }
            )
            for c in self.codecs
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "codecs": self.table(),
            "assumption": self.assumption,
            "seed": self.seed,
            "maps": {c.label: plain(c.map) for c in self.codecs},
            "profiles": {c.label: plain(c.profile) for c in self.codecs},
        }

    def text(self) -> str:
        """For the command line."""
        width = max(6, *(len(c.label) for c in self.codecs))
        lines = [
            f"{'codec':<{width}}  mean px  max px  border  inside   bias px (x, y)     OKS  ceiling  size",
            *(
                f"{c.label:<{width}}  {c.mean_px:7.3f} {c.max_px:7.3f} {c.border_px:7.3f} {c.inside_px:7.3f}"
                f"  {signed_text(c.bias_px[0], '+7.3f')} {signed_text(c.bias_px[1], '+7.3f')}  "
                f"{c.oks:6.4f}   {c.ap_ceiling:6.4f}"
                f"  {c.size_text}"
                for c in self.codecs
            ),
        ]
        return "\n".join([self.summary(), "", *lines, "", "px: pixels of the input of each codec"])


def codec_errors(
    setups: Sequence[Setup],
    names: Iterable[str] | None = None,
    *,
    person: Person | None = None,
    pose_set: PoseSet | None = None,
    image_ids: Iterable[int] | None = None,
    skeleton: Skeleton | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CodecErrors:
    """Error of encoding and decoding at places all over the input, and the AP that it leaves.

    Args:
        setups: sizes; each codec is measured at each.
        names: of CODECS; all by default.
        person: the size assumed for the AP ceiling; 100x200 pixels by default.
        pose_set: annotated people, whose own boxes and keypoints then give the ceiling; images are not read.
        image_ids: of the set; all by default.
        skeleton: whose OKS constants count for an assumed person; COCO's 17 keypoints by default.
        seed: of the places and of the people.
        progress: called with (done, total) codecs.
        cancelled: asked before each codec.

    Raises:
        KeyError: no such codec.
        ValueError: a size does not fit, or nothing can be measured on the set.
        Cancelled: as asked for.

    Example:
        >>> nearest, exact = codec_errors([Setup((64, 48))], ["argmax", "dark"]).codecs
        >>> round(nearest.inside_px, 1), round(exact.inside_px, 1)  # cells of 4 pixels
        (1.5, 0.0)
    """
    person = person or Person()
    chosen = list(CODECS if names is None else names)
    if not setups or not chosen:
        raise ValueError("codec: expected at least one size and one codec")
    # Whatever does not fit is refused before the first second is spent.
    wanted = [(name, setup, setup.codec(name)) for setup in setups for name in chosen]
    used = skeleton or (SKELETONS["coco-17"] if pose_set is None else pose_set.skeleton)
    checked_sigmas(used, "codec")
    ids = None if image_ids is None else list(image_ids)
    errors = []
    for done, (name, setup, codec) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {done} of {len(wanted)} codecs")
        label = name if len(setups) == 1 else _label(name, codec)
        errors.append(_measured(name, label, codec, setup, person, used, pose_set, ids, seed))
    if progress is not None:
        progress(len(wanted), len(wanted))
    return CodecErrors(tuple(errors), _assumption(person, pose_set, ids), seed)


def _assumption(person: Person, pose_set: PoseSet | None, ids: list[int] | None) -> str:
    if pose_set is None:
        return person.text()
    images = len(pose_set.images) if ids is None else len(ids)
    return (
        f"the annotated people of {pose_set.name} ({counted(images, 'image')}), their boxes cropped with "
        f"padding {person.padding:g}, no other error, poses ranked by their OKS"
    )


def _label(name: str, codec: Codec) -> str:
    H, W = codec.input_size
    h, w = codec.output_size
    return f"{name} {W}x{H}" if codec.kind == "simcc" else f"{name} {W}x{H}/{w}x{h} σ{codec.sigma[0]:.3g}"


def _measured(
    name: str,
    label: str,
    codec: Codec,
    setup: Setup,
    person: Person,
    skeleton: Skeleton,
    pose_set: PoseSet | None,
    ids: list[int] | None,
    seed: int,
) -> CodecError:
    H, W = codec.input_size
    h, w = codec_for("argmax", setup.input_size, setup.heatmap_size, setup.sigma).output_size
    area = sum(codec.output_size) if codec.kind == "simcc" else math.prod(codec.output_size)
    rng = np.random.default_rng(seed)
    places = _places((H, W), int(np.clip(CELLS / area, FEWEST, MOST)), rng)
    off = encode_decode(codec, places.reshape(-1, 2)).reshape(places.shape) - places
    away = np.linalg.norm(off, axis=-1)
    reach = 3 * np.array(codec.sigma) / codec.split_ratio
    if codec.kind == "heatmap":
        reach = 3 * codec.sigma[0] * np.array([W / w, H / h])
    edge = ((places < reach) | (places > (W - 1, H - 1) - reach)).any(-1)
    if pose_set is None:
        oks, ceiling = _assumed(places, away, (H, W), person, skeleton, rng)
        scale = person.crop((H, W))[1]
    else:
        oks, ceiling, scale = _on_set(codec, pose_set, ids, person.padding, skeleton)
    return CodecError(
        name=name,
        label=label,
        codec=codec,
        mean_px=finite_mean(away),
        max_px=float(np.nanmax(away, initial=0)),
        border_px=finite_mean(away[edge]),
        inside_px=finite_mean(away[~edge]),
        bias_px=(finite_mean(off[..., 0]), finite_mean(off[..., 1])),
        image_px=finite_mean(away) * scale,
        oks=oks,
        ap_ceiling=ceiling,
        lost=float(np.isnan(away).mean()),
        map=np.nanmean(away, -1),
        profile=_profile(codec, W / w, rng),
    )


def _places(size: tuple[int, int], count: int, rng: np.random.Generator) -> Float[np.ndarray, "R C 4 2"]:
    """Places (x, y) all over the input, as many in each of R x C equal bins, at random within it."""
    H, W = size
    bins = max(1, count // PER_BIN)
    columns = max(1, round(math.sqrt(bins * W / H)))
    rows = max(1, round(bins / columns))
    corner = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1)[:, :, None]
    inside = rng.random((rows, columns, PER_BIN, 2))
    return (corner + inside) * [(W - 1) / columns, (H - 1) / rows]


def _profile(codec: Codec, pixels: float, rng: np.random.Generator) -> Float[np.ndarray, " D"]:
    """Mean error by whole cells from the left edge, half way down.

    Args:
        codec: measured.
        pixels: per cell.
        rng: of the places.
    """
    H, W = codec.input_size
    cells = min(PROFILE, int((W - 1) / pixels))
    x = (np.arange(cells)[:, None] + rng.random((cells, PER_CELL))) * pixels
    y = H / 2 + (rng.random(x.shape) - 0.5) * 4 * pixels
    places = np.stack([x, y], -1)
    off = encode_decode(codec, places.reshape(-1, 2)).reshape(places.shape) - places
    return np.array([finite_mean(row) for row in np.linalg.norm(off, axis=-1)])


def _assumed(
    places: Float[np.ndarray, "R C 4 2"],
    away: Float[np.ndarray, "R C 4"],
    size: tuple[int, int],
    person: Person,
    skeleton: Skeleton,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Mean OKS and AP of people of one size, whose keypoints lie at places within their box."""
    H, W = size
    half, scale = person.crop(size)
    centre = np.array([W - 1, H - 1]) / 2
    within = (np.abs(places - centre) <= half).all(-1)
    errors = away[within] * scale
    drawn = errors[rng.integers(0, len(errors), (PEOPLE, len(skeleton)))]
    oks = np.nan_to_num(term(drawn**2, np.array(skeleton.sigmas), person.area), nan=0.0).mean(1)
    # Ranked by OKS, precision is 1 up to the share of people that a threshold accepts.
    return float(oks.mean()), float(np.mean([(oks >= t).mean() for t in THRESHOLDS]))


def _on_set(
    codec: Codec, pose_set: PoseSet, ids: list[int] | None, padding: float, skeleton: Skeleton
) -> tuple[float, float, float]:
    """Annotated people, through the crop of each: image, input, output and back.

    Returns:
        mean OKS, AP, and the mean of the image pixels per input pixel.
    """
    chosen = [
        i for n in (pose_set.images if ids is None else ids) for i in pose_set.labelled_of_image.get(n, ())
    ]
    if not chosen:
        why = pose_set.unscored_text() or "none of the chosen images has a labelled instance"
        raise ValueError(f"{pose_set.name}: {why}, so there is nothing to encode")
    instances = [pose_set.instances[i] for i in chosen]
    truth = np.stack([np.asarray(one.truth, float) for one in instances])
    affines, scales = [], []
    for one in instances:
        box = checked_box(one.box, f"{pose_set.name}, annotation {one.annotation_id}: box")
        centre, size = crop_region(box, codec.input_size, padding)
        affines.append(input_to_image(centre, size, codec.input_size, codec.udp))
        scales.append(float(size[0]) / codec.input_size[1])
    seen = truth[..., 2] > 0
    inputs = np.stack([apply(inverse(a), t) for a, t in zip(affines, truth[..., :2], strict=True)])
    read = np.full(inputs.shape, np.nan)
    read[seen] = encode_decode(codec, inputs[seen])
    found = np.stack([apply(a, p) for a, p in zip(affines, read, strict=True)])
    areas = np.array([one.area for one in instances])
    oks = paired_oks(found, truth, areas, np.array(skeleton.sigmas))
    predictions = Predictions(
        np.array([one.image_id for one in instances], np.int64),
        np.array([one.category_id for one in instances], np.int64),
        np.array([one.box for one in instances], float),
        found,
        np.isfinite(found[..., 0]).astype(float),
        np.nan_to_num(oks),
        np.array([one.annotation_id for one in instances], np.int64),
    )
    judged = truth_of(pose_set, indices=None if ids is None else chosen)
    figures = keypoint_ap(judged, predictions.detections(), skeleton.sigmas).figures
    return float(np.nanmean(oks)), float(figures["AP"]), float(np.mean(scales))
