"""The options that several verbs share, so that one name means one thing everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet


# Optional[...] and not `| None`: typer reads these at run time, on Python 3.10 as well.
File = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="A checkpoint: .pth, .pt, .ckpt, .safetensors, .onnx, TorchScript, torch.export."),
]
Files = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(
        help="A checkpoint: .pth, .pt, .ckpt, .safetensors, .onnx, TorchScript, torch.export; several files, "
        "a folder or an index (*.index.json) of one model in parts."
    ),
]
Config = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", help="An mmpose 1.x config. Named here, it is your own code and is run."),
]
Family = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--family", help="Open the file as this family instead of the one its tensors tell."),
]
Adapter = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--adapter", help="Your own model as a Python file; see README, bring your own model."),
]
Remap = Annotated[bool, typer.Option("--remap", help="Apply the proposed renaming of keys.")]
Partial = Annotated[
    bool,
    typer.Option("--allow-partial", help="Go on though not fully loaded; every number says so."),
]
Output = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--output",
        help="Which outputs of an exported file are what: heatmaps=NAME, or simcc_x=NAME,simcc_y=NAME.",
    ),
]
Assume = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--assume",
        help="What a file leaves open, NAME=VALUE; may be repeated. Of an exported one: padding=1.25, "
        "mean=0,0,0, std=255, channels=bgr, input=192x256 (width x height), layout=channels-last; of a "
        "ViTPose+ one: expert=ap10k.",
    ),
]
SkeletonName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--skeleton", help="What the keypoints are: coco-17, ap10k-17 ...; the file's by default."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]
Data = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--data", help="A COCO-format keypoint json, or a built-in set such as scenes-val."),
]
Images = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--images", help="The folder of the images that the json names."),
]
Image = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--image", help="An image, a folder of images or a video; may be repeated."),
]
Box = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--box", help="x0,y0,x1,y1 in image pixels; the whole image when nothing is said."),
]
Boxes = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--boxes", help="annotation (default with --data), whole, or a COCO detection json."),
]
Detector = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--detector", help="An ONNX detector (RTMDet or YOLOX export), or an mmdet config."),
]
Decoder = Annotated[
    str, typer.Option("--decoder", help="argmax, quarter, dark, udp, simcc; the model's own by default.")
]
ScoreRule = Annotated[str, typer.Option("--score", help="SimCC score: min or mean of the two peaks.")]
Flip = Annotated[bool, typer.Option("--flip/--no-flip", help="Average with the mirrored image (flip test).")]
Rule = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--rule",
        help="Of a bottom-up model, NAME=VALUE: input_size=640, scales=1,2, resolutions=fine, "
        "inverse_affine=off, nms_kernel=3, refine=off, rules=mmpose ...; may be repeated.",
    ),
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="Where to write the picture, video, table or report."),
]
Demo = Annotated[bool, typer.Option("--demo", help="Use the built-in checkpoints and data, offline.")]


def model_files(files: Sequence[Path] | None) -> Path | list[Path] | None:
    """The files of one model as open_model takes them; None where none is named."""
    return None if not files else files[0] if len(files) == 1 else list(files)


# `--metric`, `--normalise` and `--thresholds` of `evaluate` and `score`: which figure, of which length.


Metric = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--metric", help="ap (default where sigmas are known), pck, pckh, mpck, auc, epe or nme."),
]
Normalise = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--normalise",
        help="Length of pck, nme, auc: box, diagonal, area, head, torso, left_eye,right_eye or 30px.",
    ),
]
Thresholds = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--thresholds", help="Of mpck, comma separated; 0.05,0.1,0.15,0.2,0.25 by default."),
]
Threshold = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--pck", help="PCK threshold; 0.05 of the box's longest side, 0.5 of the head by default."),
]


def chosen_metric(
    metric: str | None, pose_set: PoseSet, sigmas: Sequence[float] | None, normalise: str | None
) -> tuple[str, str]:
    """The metric to compute, and why it is not AP where nobody chose it.

    Raises:
        ValueError: a length was named for AP.
    """
    known = sigmas is not None or bool(pose_set.skeleton.sigmas)
    if metric is None and not known:
        return "pck", (
            f"AP needs OKS sigmas, and none are known for {pose_set.skeleton.name}: give --sigmas, one number"
            " for all keypoints or one for each"
        )
    if metric is None and normalise is not None:
        return "pck", ""
    if metric in (None, "ap") and normalise is not None:
        raise ValueError("--normalise: AP has its own scale, the area; name a --metric such as pck or nme")
    return (metric or "ap").lower(), ""


def thresholds_of(text: str | None) -> tuple[float, ...]:
    """Thresholds as people type them.

    Raises:
        ValueError: they are no numbers.
    """
    from workbench.evaluation.pck import MPCK_THRESHOLDS

    if text is None:
        return MPCK_THRESHOLDS
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--thresholds: expected numbers with commas between, got {text!r}") from None
