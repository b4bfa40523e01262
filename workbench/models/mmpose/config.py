"""What an mmpose 1.x config says about crops, coordinates, keypoints and associative embedding.

An associative embedding head declares its layout itself: heatmaps first, then as many tag maps as
`tag_per_keypoint` and `tag_dim` say. Grouping is mmpose's, which differs in small ways from that of the
published HigherHRNet protocol.

Source: mmpose 1.3.2 models/heads/heatmap_heads/ae_head.py, codecs/associative_embedding.py. Two departures.
There `restore_heatmap_size` has no effect without the flip test, so that keypoints come out at a quarter of
their coordinates; here maps are enlarged in both cases. There the multi-scale test ends in a TypeError; here
it follows the published protocol.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.config_reader import read_config
from workbench.core import Codec, NotAvailable, Skeleton, nearest, reason
from workbench.core.errors import errors_of_user_code
from workbench.core.files import require_file
from workbench.core.report import counted
from workbench.decoding.codecs import RADIUS_FACTOR
from workbench.decoding.grouping import MMPOSE, GroupingSettings
from workbench.models.bottom_up import Aggregation, BottomUp
from workbench.models.families import config_modules
from workbench.models.mmpose.trust import OwnConfig
from workbench.skeletons import skeleton_for

if TYPE_CHECKING:
    from torch import Tensor, nn


# The defaults of mmpose 1.3.2's own classes, for configs that leave them out.
_PADDING = 1.25
_SIMCC = {"sigma": 6.0, "simcc_split_ratio": 2.0, "normalize": True}
# SimCC trained on single bins is a Gaussian too thin to reach a neighbour.
_ONE_BIN = 1e-3


@dataclass(frozen=True)
class Preprocessing:
    """How a config crops and normalises; see workbench.models.top_down.TopDown for the fields."""

    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool
    padding: float
    warp_udp: bool
    note: str


# How Python's own errors begin; ours say what is wrong themselves.
_PYTHONS = ("int()", "could not convert", "cannot convert", "invalid literal", "not enough", "too many")


@contextlib.contextmanager
def config_values() -> Iterator[None]:
    """While a config's values are read: what comes of a missing or odd one is one sentence.

    Raises:
        ValueError: a value is missing, of another kind, or beyond all numbers.
    """
    try:
        yield
    except NotAvailable:
        raise
    except KeyError as error:
        raise ValueError(f"config: a value is missing: {reason(error)}") from error
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"config: a value is of another kind than mmpose's: {reason(error)}") from error
    except ValueError as error:
        if not str(error).startswith(_PYTHONS):
            raise
        raise ValueError(f"config: a value is of another kind than mmpose's: {reason(error)}") from error


def codec_of(config: Mapping[str, Any]) -> Codec:
    """The codec that the head decodes with.

    Raises:
        NotAvailable: a codec without an equal here; the message names it.
    """
    raw = decoder_of(config)
    kind = str(raw.get("type", "none")).rpartition(".")[2]
    if kind not in ("MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap", "SimCCLabel"):
        raise NotAvailable(f"codec {kind}: no equal in workbench.decoding")
    W, H = (int(v) for v in raw["input_size"])
    if kind == "SimCCLabel":
        raw = {**_SIMCC, **raw}
        sigma, split = raw["sigma"], factor_of(raw["simcc_split_ratio"], "simcc_split_ratio")
        x, y = (
            factor_of(value, "sigma")
            for value in ((sigma, sigma) if isinstance(sigma, (int, float)) else sigma)
        )
        one_bin = raw.get("smoothing_type") == "standard"
        return Codec(
            kind="simcc",
            input_size=(H, W),
            output_size=(round(H * split), round(W * split)),
            sigma=(_ONE_BIN, _ONE_BIN) if one_bin else (x, y),
            split_ratio=split,
            normalized=bool(raw["normalize"]) and not one_bin,
            decoder="simcc-dark" if raw.get("use_dark") else "simcc",
        )
    w, h = (int(v) for v in raw["heatmap_size"])
    blur, sigma = int(raw.get("blur_kernel_size", 11)), factor_of(raw.get("sigma", 2.0), "sigma")
    decoder = "udp" if kind == "UDPHeatmap" else "dark" if raw.get("unbiased") else "quarter"
    if kind == "MegviiHeatmap":
        decoder, blur = "megvii", int(raw["kernel_size"])
        sigma = 0.3 * ((blur - 1) / 2 - 1) + 0.8  # OpenCV's, of a kernel
    elif raw.get("heatmap_type") == "combined":
        decoder, sigma = "udp-combined", max(h, w)
        sigma *= factor_of(raw.get("radius_factor", RADIUS_FACTOR), "radius_factor")
    if decoder in ("dark", "udp", "megvii") and (blur < 1 or blur % 2 == 0):
        raise ValueError(f"config: expected a blur kernel of an odd number of cells, got {blur}")
    return Codec(
        kind="heatmap",
        input_size=(H, W),
        output_size=(h, w),
        sigma=(sigma, sigma),
        udp=kind == "UDPHeatmap",
        decoder=decoder,
        blur_kernel=blur,
        mmpose_cut=True,
    )


def decoder_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The codec's dictionary: of the head, of a head within it, or the config's own; {} without any."""
    head = _model(config).get("head")
    while isinstance(head, Mapping):
        if isinstance(head.get("decoder"), Mapping):
            return head["decoder"]
        head = head.get("pose_cfg")
    codec = config.get("codec")
    return codec if isinstance(codec, Mapping) else {}


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """How the test pipeline crops and the data preprocessor normalises.

    Raises:
        ValueError: the pipeline and the codec speak of different input sizes, or neither names one.
    """
    steps = {str(step.get("type")).rpartition(".")[2]: step for step in pipeline_of(config)}
    crop, box = steps.get("TopdownAffine", {}), steps.get("GetBBoxCenterScale", {})
    sizes = [
        tuple(int(v) for v in d["input_size"]) for d in (crop, decoder_of(config)) if d.get("input_size")
    ]
    if not sizes:
        raise ValueError("config: expected an input_size in the codec or in TopdownAffine, found neither")
    if len(set(sizes)) > 1:
        raise ValueError(
            f"config: TopdownAffine crops {sizes[0][0]}x{sizes[0][1]} but the codec decodes "
            f"{sizes[1][0]}x{sizes[1][1]} (width x height); they must be the same"
        )
    normal = _model(config).get("data_preprocessor") or {}
    W, H = sizes[0]
    padding = factor_of(box.get("padding", _PADDING), "padding of GetBBoxCenterScale")
    mean, std = normalisation_of(normal)
    return Preprocessing(
        input_size=(H, W),
        mean=mean,
        std=std,
        # mmpose reads images as BGR; either switch reverses them.
        bgr=not (normal.get("bgr_to_rgb") or normal.get("rgb_to_bgr")),
        padding=padding,
        warp_udp=bool(crop.get("use_udp", False)),
        note="" if box else f"the config has no test pipeline: box padding {_PADDING} assumed",
    )


# No crop is so many times its box, no input so many pixels high.
_LARGEST = 1e5


def factor_of(value: Any, name: str) -> float:
    """A number of a config that something is divided by or enlarged with.

    Args:
        value: as the config has it.
        name: what it is, for the error.

    Raises:
        ValueError: it is not above 0, or beyond all use.
    """
    factor = float(value)
    if not 0 < factor < _LARGEST:
        raise ValueError(f"config: expected {name} as a number above 0, got {str(value)[:80]}")
    return factor


def normalisation_of(normal: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a data preprocessor, in the network's channel order.

    Raises:
        ValueError: they are not one finite number or three, or a deviation is not above 0.
    """
    found = []
    for name, default in (("mean", 0.0), ("std", 1.0)):
        values = tuple(float(v) for v in normal.get(name) or (default,) * 3)
        if (
            len(values) not in (1, 3)
            or not all(map(math.isfinite, values))
            or (name == "std" and min(values) <= 0)
        ):
            kind = "numbers above 0" if name == "std" else "numbers"
            raise ValueError(f"config: expected {name} as 3 {kind}, got {str(normal.get(name))[:80]}")
        found.append(values)
    return found[0], found[1]


def skeleton_of(
    config: Mapping[str, Any], dataset_meta: Mapping[str, Any] | None, K: int
) -> tuple[Skeleton, str]:
    """The skeleton, and a note on where it was taken from when the checkpoint itself does not say.

    Args:
        config: the whole config.
        dataset_meta: what the checkpoint holds of its training data's keypoints.
        K: channels of the head; 0 when unknown.

    Raises:
        ValueError: the description that counts has sigmas that are none; the message says whose they are. One
            in the checkpoint is left out where the config describes the keypoints.
    """
    named = dataset_meta if dataset_meta and names_keypoints(dataset_meta) else None
    own, unusable, others = None, None, []
    try:
        own = None if named is None else described_by(named, "the checkpoint's dataset_meta")
    except ValueError as error:
        unusable = error
    if own is not None and K not in (0, len(own[0])):
        others.append(f"{len(own[0])} by the checkpoint's dataset_meta")
        own = None
    for name, meta in described_in(config):
        skeleton, note = described_by(meta, f"the config's metainfo of {name}")
        if K not in (0, len(skeleton)):
            others.append(f"{len(skeleton)} by the config's metainfo of {name}")
            continue
        if unusable is not None:
            note = "; ".join(filter(None, (note, f"not from the checkpoint ({unusable})")))
        if own is not None:
            return own[0], "; ".join(filter(None, (own[1], _ignored_differences(own[0], skeleton, name))))
        taken = f"keypoint names taken from the config's data set, {name}"
        return skeleton, f"{taken}; {note}" if note else taken
    if unusable is not None:
        raise ValueError(f"{unusable}; name the data set's keypoints with --config") from unusable
    if own is not None:
        return own
    # 17 channels are COCO or AP-10K, and many others: a guess would put noses on tails.
    names = tuple(f"keypoint {k}" for k in range(K))
    source = f"neither checkpoint nor config names the {counted(K, 'keypoint')} of the output"
    if others:
        source += f" (named are {' and '.join(dict.fromkeys(others))})"
    return Skeleton(f"own-{K}", names, source=source), f"{source}: they are numbered"


def _ignored_differences(own: Skeleton, other: Skeleton, name: str) -> str:
    """In what the config's description differs from the checkpoint's, which counts; "" where they agree."""
    differing = [
        what
        for what, differs in (
            ("names", own.keypoints != other.keypoints),
            ("swaps", own.mirror != other.mirror),
            (
                "sigmas",
                len(own.sigmas) != len(other.sigmas) or not np.allclose(own.sigmas, other.sigmas, 0.01),
            ),
        )
        if differs
    ]
    if not differing:
        return ""
    return f"{' and '.join(differing)} are those in the checkpoint; its config's data set, {name}, has others"


def names_keypoints(meta: Mapping[str, Any]) -> bool:
    """Whether metainfo names keypoints at all: mmdet's, for one, holds classes and a palette alone."""
    return bool(meta.get("keypoint_info") or meta.get("keypoint_id2name"))


def skeleton_from_meta(meta: Mapping[str, Any]) -> Skeleton:
    """A skeleton from the metainfo that a checkpoint holds: as config files write it, or parsed."""
    return described_by(meta, "the checkpoint's dataset_meta")[0]


def described_by(meta: Mapping[str, Any], where: str = "metainfo") -> tuple[Skeleton, str]:
    """The skeleton that metainfo describes, and in what it is not the published one of its names.

    The swaps and sigmas of the metainfo are used as they are, as mmpose uses them.

    Args:
        meta: it names keypoints, see `names_keypoints`.
        where: what to call it in an error.

    Raises:
        ValueError: as many sigmas as keypoints are expected, all above 0.
    """
    if meta.get("keypoint_info"):
        entries = _in_order(meta["keypoint_info"])
        names = [str(entry["name"]) for entry in entries]
        swaps: list[Any] = [str(entry.get("swap") or entry["name"]) for entry in entries]
        links = [info["link"] for info in (meta.get("skeleton_info") or {}).values()]
        limbs = [(names.index(a), names.index(b)) for a, b in links if a in names and b in names]
    else:
        names = [str(name) for name in _in_order(meta["keypoint_id2name"])]
        swaps = [int(k) for k in _listed(meta.get("flip_indices"))]
        limbs = [(int(a), int(b)) for a, b in _listed(meta.get("skeleton_links"))]
    known = skeleton_for(names, limbs)
    mirror, wrong = _mirror(names, swaps)
    sigmas = tuple(float(s) for s in _listed(meta.get("sigmas")))
    if sigmas and (len(sigmas) != len(names) or not all(0 < s < math.inf for s in sigmas)):
        shown = ", ".join(f"{s:g}" for s in sigmas[:4]) + " ..." * (len(sigmas) > 4)
        raise ValueError(
            f"{where}: expected {counted(len(names), 'sigma')} above 0, got {len(sigmas)} ({shown})"
        )
    notes = [wrong] if wrong else []
    published = bool(known.sigmas)
    if not swaps:
        mirror = known.mirror
    elif published and mirror != known.mirror and not wrong:
        pairs = sum(a != b for a, b in zip(mirror, known.mirror, strict=True))
        notes.append(
            f"its swaps differ from those published for {known.name} at {counted(pairs, 'keypoint')}"
        )
    if not sigmas:
        sigmas = known.sigmas
    elif published and any(abs(a / b - 1) > 0.01 for a, b in zip(sigmas, known.sigmas, strict=True)):
        factors = [a / b for a, b in zip(sigmas, known.sigmas, strict=True)]
        least, most = f"{min(factors):.3g}", f"{max(factors):.3g}"
        times = least if least == most else f"{least} to {most}"
        notes.append(f"its sigmas are {times} times those published for {known.name}")
    if published and not notes:
        return known, ""
    name = known.name if published else str(meta.get("dataset_name") or known.name)
    source = "; ".join(["mmpose metainfo of the training data", *notes])
    return Skeleton(name, tuple(names), known.limbs, mirror, sigmas, source), "; ".join(notes)


def _in_order(by_id: Any) -> list[Any]:
    """The values in the order of their numbers; a list is in order."""
    return [by_id[k] for k in sorted(by_id, key=int)] if isinstance(by_id, Mapping) else list(by_id)


def _mirror(names: Sequence[str], swaps: Sequence[Any]) -> tuple[tuple[int, ...], str]:
    """For each keypoint its partner's index; none, and what is wrong, where the swaps are no pairs."""
    places = {name: k for k, name in enumerate(names)} | {k: k for k in range(len(names))}
    for name, swap in zip(names, swaps, strict=False):
        if swap not in places:
            near = f" (nearest: {nearest(swap, names)})" if isinstance(swap, str) else ""
            return (), f"keypoint {name!r} swaps with {swap!r}, which is no keypoint{near}"
    mirror = tuple(places[swap] for swap in swaps)
    if mirror and len(mirror) != len(names):
        return (), f"{counted(len(mirror), 'swap')} for {counted(len(names), 'keypoint')}"
    for k, partner in enumerate(mirror):
        if mirror[partner] != k:
            other = names[mirror[partner]]
            return (), f"keypoint {names[k]!r} swaps with {names[partner]!r}, which swaps with {other!r}"
    return mirror, ""


def described_in(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Descriptions of keypoints that a config leads to, each with the name of what led there.

    A description that comes with mmpose is read; a file that only the config names is never opened.
    """
    for key in ("test_dataloader", "val_dataloader", "train_dataloader"):
        dataset = (config.get(key) or {}).get("dataset") or {}
        meta = dataset.get("metainfo") or {}
        if names_keypoints(meta):
            yield str(meta.get("dataset_name", "own metainfo")), meta
        from_file = meta.get("from_file") or (dataset.get("type") and _file_of(str(dataset["type"])))
        if from_file and (described := _published(Path(str(from_file)).name)):
            yield Path(str(from_file)).stem, described


def _file_of(dataset_type: str) -> str:
    from workbench.models.mmpose_compat import install

    install()
    from mmpose.registry import DATASETS

    found = DATASETS.module_dict.get(dataset_type.rpartition(".")[2])
    return str((getattr(found, "METAINFO", None) or {}).get("from_file", ""))


def _published(name: str) -> Mapping[str, Any] | None:
    """A description that comes with mmpose; a file that only a config names is never opened."""
    from workbench.models.mmpose_compat import install

    install()
    import mmpose

    path = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets" / name
    return read_config(path)["dataset_info"] if path.is_file() else None


def _model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    model = config.get("model")
    if not isinstance(model, Mapping) or "type" not in model:
        raise ValueError("config: expected model = dict(type=...), found none; is it an mmpose 1.x config?")
    return model


def pipeline_of(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The steps that a test image goes through; empty when the config has none."""
    for key in ("test_dataloader", "val_dataloader"):
        pipeline = ((config.get(key) or {}).get("dataset") or {}).get("pipeline")
        if pipeline:
            return [step for step in pipeline if isinstance(step, Mapping)]
    return [step for step in config.get("val_pipeline") or () if isinstance(step, Mapping)]


def _listed(values: Any) -> Sequence[Any]:
    return () if values is None else list(values)


# Associative embedding.


# Defaults of BottomupResize and of the codec, for configs that leave them out.
_RESIZE = {"resize_mode": "fit", "size_factor": 32, "use_udp": False, "aug_scales": None}
_CODEC = {
    "decode_keypoint_order": (),
    "decode_nms_kernel": 5,
    "decode_keypoint_thr": 0.1,
    "decode_tag_thr": 1.0,
    "decode_topk": 30,
    "decode_center_shift": 0.0,
    "decode_max_instances": None,
}


def groups(head: Any) -> bool:
    """Whether a head gives heatmaps and tags."""
    return hasattr(head, "tag_per_keypoint") and hasattr(head, "num_keypoints")


def bottom_up_of(
    module: nn.Module, config: Mapping[str, Any], skeleton: Skeleton, device: str = "cpu", note: str = ""
) -> BottomUp:
    """A workbench model around mmpose's BottomupPoseEstimator with an AssociativeEmbeddingHead.

    Args:
        module: built from the config, weights loaded.
        config: the whole config.
        skeleton: of its heatmaps.
        device: where to run.
        note: what was assumed so far, for people.

    Raises:
        NotAvailable: the config asks for something that has no equal here; the message names it.
        ValueError: it contradicts itself.
    """
    head: Any = module.head
    model = config.get("model") or {}
    test = model.get("test_cfg") or {}
    steps = {str(step.get("type")).rpartition(".")[2]: step for step in pipeline_of(config)}
    resize = {**_RESIZE, **steps.get("BottomupResize", {})}
    codec = {**_CODEC, **decoder_of(config)}
    if resize["use_udp"] or codec.get("use_udp"):
        raise NotAvailable("bottom-up with UDP: no equal of BottomupResize(use_udp=True) here")
    if test.get("shift_heatmap"):
        raise NotAvailable("bottom-up with shift_heatmap: mirrored maps are not moved by a cell here")
    size = resize.get("input_size") or codec.get("input_size")
    if not size:
        raise ValueError("config: expected an input_size in BottomupResize or in the codec, found neither")
    if "BottomupResize" not in steps:
        assumed = "the config has no test pipeline: BottomupResize's own defaults assumed"
        note = f"{note}; {assumed}" if note else assumed
    normal = model.get("data_preprocessor") or {}
    mean, std = normalisation_of(normal)
    more = [factor_of(s, "each of aug_scales of BottomupResize") for s in resize["aug_scales"] or ()]
    scales = (1.0, *more) if test.get("multiscale_test") else (1.0,)
    multiple = factor_of(int(resize["size_factor"]), "size_factor of BottomupResize")
    return BottomUp(
        module=module.to(device),
        skeleton=skeleton,
        tags=head.num_keypoints if head.tag_per_keypoint else 1,
        tag_size=head.tag_dim,
        input_size=(int(size[1]), int(size[0])),
        scales=scales,
        rule=resize["resize_mode"],
        multiple=int(multiple),
        aggregation=Aggregation(
            align_corners=bool(test.get("align_corners")), project=bool(test.get("restore_heatmap_size"))
        ),
        grouping=_grouping(codec, head.tag_per_keypoint),
        mean=mean,
        std=std,
        bgr=not (normal.get("bgr_to_rgb") or normal.get("rgb_to_bgr")),
        call=functools.partial(_called, module),
        note=note,
    )


def _grouping(codec: Mapping[str, Any], tag_per_keypoint: bool) -> GroupingSettings:
    return dataclasses.replace(
        MMPOSE,
        nms_kernel=int(codec["decode_nms_kernel"]),
        top_k=int(codec["decode_topk"]),
        joint_order=tuple(int(k) for k in codec["decode_keypoint_order"]),
        detection_threshold=float(codec["decode_keypoint_thr"]),
        tag_threshold=float(codec["decode_tag_thr"]),
        centre_shift=float(codec["decode_center_shift"]),
        max_people=None if codec["decode_max_instances"] is None else int(codec["decode_max_instances"]),
        tag_layout="per_joint" if tag_per_keypoint else "shared",
    )


def _called(module: nn.Module, pixels: Tensor) -> Any:
    # Not a closure: a copy of the model must call the copied network.
    try:
        return module(pixels, None, mode="tensor")
    except RuntimeError as error:
        if "must match the size of tensor" not in str(error):
            raise
        height, width = pixels.shape[-2:]
        raise ValueError(
            f"the network takes no input of {width} x {height} pixels ({reason(error)}); the size_factor of "
            "BottomupResize has to be a multiple of its strides, mostly 32 or 64"
        ) from None


CONFIG_ENDINGS = (".py", ".json", ".yaml", ".yml")
"""Of config files that mmengine runs."""


def run_config(path: Path) -> OwnConfig:
    """A config that the user named: their own code, run with its base files and its custom_imports.

    Only what it returns may build anything; see workbench.models.mmpose.trust.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no config, or raised something; the message names file, line and the error.
    """
    from workbench.checkpoints.config_reader import read_available
    from workbench.models.mmpose_compat import install

    require_file(path, f"no config {path}")
    if path.suffix not in CONFIG_ENDINGS:
        raise ValueError(f"{path.name}: expected a config ({', '.join(CONFIG_ENDINGS)}), got another file")
    if path.suffix != ".py":
        read_available(path)  # says in a sentence what mmengine's reader trips over
    install()
    from mmengine.config import Config

    with contextlib.ExitStack() as stack:
        stack.enter_context(errors_of_user_code(path))
        for modules in config_modules():
            stack.enter_context(modules.making_room())
        values = Config.fromfile(str(path)).to_dict()
    if "model" not in values:
        names = ", ".join(list(values)[:6]) or "nothing"
        raise ValueError(f"{path.name}: expected a config with model = dict(type=...), it holds {names}")
    return OwnConfig(values)
