"""The options that several verbs share, alone and in groups, so that one name means one thing everywhere.

A group is a frozen dataclass: a verb that has a parameter of that type has all of its options (see
workbench.cli.answering), and the group's methods say what becomes of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.output import in_job, run_in_job
from workbench.core import DecodeOptions
from workbench.core.errors import ReadingNote
from workbench.core.model import FLIP_BY_DEFAULT

if TYPE_CHECKING:
    from workbench.cli.output import Answer
    from workbench.core import Skeleton
    from workbench.data.boxes import FoundBox
    from workbench.data.images import ImageReading
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Predictions
    from workbench.models import LoadedModel


def argument(text: str, **more: Any) -> Any:
    """A positional argument of a verb, with its help."""
    return typer.Argument(help=text, **more)


def option(*names_and_text: str, **more: Any) -> Any:
    """An option of a verb: its names, then its help."""
    *names, text = names_and_text
    return typer.Option(*names, help=text, **more)


File = Annotated[
    Path | None, argument("A checkpoint: .pth, .pt, .ckpt, .safetensors, .onnx, TorchScript, torch.export.")
]
Files = Annotated[
    list[Path] | None,
    argument(
        "A checkpoint: .pth, .pt, .ckpt, .safetensors, .onnx, TorchScript, torch.export; several files, "
        "a folder or an index (*.index.json) of one model in parts."
    ),
]
Config = Annotated[Path | None, option("--config", "An mmpose 1.x config; it is run as your own code.")]
Family = Annotated[
    str | None, option("--family", "Open the file as this model family instead of the recognised one.")
]
Adapter = Annotated[
    Path | None, option("--adapter", "Python file with your own model; see README, bring your own model.")
]
Remap = Annotated[bool, option("--remap", "Apply the proposed renaming of tensors.")]
Partial = Annotated[
    bool, option("--allow-partial", "Accept a model that is not fully loaded; every result says so.")
]
Output = Annotated[
    list[str] | None,
    option("--output", "Roles of an exported file's outputs: heatmaps=NAME, or simcc_x=NAME,simcc_y=NAME."),
]
Assume = Annotated[
    list[str] | None,
    option(
        "--assume",
        "What the file does not state, NAME=VALUE; may be repeated. Exported file: padding=1.25, "
        "mean=0,0,0, std=255, channels=bgr, input=192x256 (width x height), layout=channels-last; "
        "ViTPose+: expert=ap10k; ViTPose of an unusual size: heads=12.",
    ),
]
Expert = Annotated[
    str | None,
    option(
        "--expert",
        "ViTPose+: the data set whose expert and head are used: coco, aic, mpii, ap10k, apt36k, wholebody.",
    ),
]
Resample = Annotated[
    bool,
    option(
        "--resample-pos-embed",
        "ViTPose, Sapiens: accept another input size and resample the position embedding.",
    ),
]
SkeletonName = Annotated[
    str | None, option("--skeleton", "Names of the keypoints: coco-17, ap10k-17 ...; the file's by default.")
]
Device = Annotated[str, option("--device", "cpu, cuda, cuda:1 ...")]
Data = Annotated[
    str | None,
    option(
        "--data",
        "A COCO-format keypoint json (FILE#CATEGORY for one category), or a built-in set such as scenes-val.",
    ),
]
Images = Annotated[Path | None, option("--images", "The folder of the images that the json names.")]
Bits = Annotated[
    int, option("--bits", "Bit depth of 16-bit images (10, 12 ...); 0 estimates it from the brightest pixel.")
]
AsStored = Annotated[
    bool, option("--as-stored", "Read images as they are stored, without their EXIF rotation.")
]
Image = Annotated[
    list[Path] | None, option("--image", "An image, a folder of images or a video; may be repeated.")
]
Box = Annotated[
    str | None, option("--box", "Bounding box x0,y0,x1,y1 in image pixels; the whole image by default.")
]
Boxes = Annotated[
    str | None,
    option(
        "--boxes",
        "Bounding boxes: annotation (default with --data), whole (image), or a COCO detection json.",
    ),
]
NMS = Annotated[
    float | None, option("--nms", "OKS above which the worse of two poses is dropped; 1 for none.")
]
Detector = Annotated[
    Path | None, option("--detector", "An ONNX detector (RTMDet or YOLOX export), or an mmdet config.")
]
Decoder = Annotated[
    str,
    option("--decoder", "argmax, quarter, dark, udp, soft-argmax, simcc ...; the model's own by default."),
]
ScoreRule = Annotated[str, option("--score", "SimCC score: min, mean or max of the two peaks.")]
Flip = Annotated[bool, option("--flip/--no-flip", "Average with the mirrored image (flip test).")]
Rule = Annotated[
    list[str] | None,
    option(
        "--rule",
        "Inference option of a bottom-up model, NAME=VALUE: input_size=640, scales=1,2, resolutions=fine, "
        "inverse_affine=off, nms_kernel=3, refine=off, rules=mmpose ...; may be repeated.",
    ),
]
Out = Annotated[
    Path | None, option("--out", "Write the report (.html), the facts (.json) or the table (.csv).")
]
HtmlOut = Annotated[Path | None, option("--out", "Write the report, a name ending in .html.")]
Demo = Annotated[bool, option("--demo", "Use the built-in checkpoints and data, offline.")]


SkipMissing = Annotated[bool, option("--skip-missing", "Skip missing images; the result says so.")]
Category = Annotated[
    str | None, option("--category", "Id or name of the category to read, where the json has several.")
]
Limit = Annotated[
    int | None,
    option("--limit", "Number of annotated images, from the first; all by default, a few with --demo."),
]
NoArea = Annotated[
    bool, option("--no-area", "Take .53 of the box as area: for sets without area (CrowdPose, AIC).")
]
Sigmas = Annotated[
    str | None,
    option("--sigmas", "OKS sigmas: one for all keypoints, or comma separated; the skeleton's by default."),
]
MaxDets = Annotated[int, option("--max-dets", "Detections that count per image and category.")]
PoseScore = Annotated[
    str,
    option(
        "--pose-score", "Score of a pose: bbox_keypoint (as mmpose), bbox, bbox_rle, mean, min, max, oracle."
    ),
]
BatchSize = Annotated[int, option("--batch-size", "Crops in one forward pass.")]
Resamples = Annotated[int, option("--resamples", "Resamples of the paired bootstrap.", min=2)]
Metric = Annotated[
    str | None, option("--metric", "ap (default where sigmas are known), pck, pckh, mpck, auc, epe or nme.")
]
Normalise = Annotated[
    str | None,
    option(
        "--normalise",
        "Length that distances are divided by: box, diagonal, area, head, torso, box_size or head_size "
        "(annotated), left_eye,right_eye or 30px.",
    ),
]
Thresholds = Annotated[
    str | None,
    option("--thresholds", "Thresholds of mpck, comma separated; 0.05,0.1,0.15,0.2,0.25 by default."),
]
Threshold = Annotated[
    float | None,
    option("--pck", "PCK threshold; 0.05 of the box's longest side, 0.5 of the head by default."),
]

BOTTOM_UP_DEMO = "higherhrnet-demo"
"""The built-in run of a bottom-up model, for the verbs about grouping."""


def opened(
    data: str,
    images: Path | None = None,
    category: str | None = None,
    keypoints: int | None = None,
    reading: ImageReading | None = None,
    skeleton: str | None = None,
) -> PoseSet:
    """A data set; scenes that are not drawn yet are drawn by a job.

    Args:
        data: a COCO-format json, or a built-in set.
        images: folder of the images.
        category: id or name of the one category to read.
        keypoints: of the model, where the data set has several skeletons (COCO-WholeBody).
        reading: what is stated about the image files.
        skeleton: what the keypoints are where the annotations number them, as --skeleton takes it.
    """
    from workbench.data.opening import open_data_for, with_skeleton_named

    found = in_job(
        "drawing scenes",
        lambda job: open_data_for(data, keypoints, images, category, job.advance, reading=reading),
    )
    return with_skeleton_named(found, skeleton)


@dataclass(frozen=True)
class ImageOptions:
    """What is stated about image files."""

    bits: Bits = 0
    as_stored: AsStored = False

    @property
    def reading(self) -> ImageReading:
        """The same as readers take it; a `ReadingNote` says each statement.

        Raises:
            ValueError: no bit depth of a camera.
        """
        from workbench.data.images import ImageReading

        reading = ImageReading(self.bits, self.as_stored)
        for note in reading.notes():
            warnings.warn(note, ReadingNote, stacklevel=2)
        return reading


@dataclass(frozen=True)
class DataOptions:
    """Which data set, and what is stated about its images."""

    data: Data = None
    images: Images = None
    category: Category = None
    skip_missing: SkipMissing = False
    pictures: ImageOptions = field(default_factory=ImageOptions)

    def open(self, verb: str, keypoints: int | None = None, skeleton: str | None = None) -> PoseSet:
        """The data set, without its missing images where that was asked for; a `ReadingNote` says it.

        Args:
            verb: for the error.
            keypoints: of the model, where the data set has several skeletons (COCO-WholeBody).
            skeleton: what the keypoints are where the annotations number them, as --skeleton takes it.

        Raises:
            ValueError: no data set was named; or no such skeleton, or one of another number of keypoints.
        """
        self.require(verb)
        assert self.data is not None
        how = self.pictures.reading, skeleton
        found = opened(self.data, self.images, self.category, keypoints, *how)
        if not self.skip_missing:
            return found
        from workbench.data.pose_set import with_present_images

        kept = with_present_images(found)
        if kept.left_out:
            warnings.warn(kept.left_out_text(), ReadingNote, stacklevel=2)
        return kept

    def require(self, verb: str) -> None:
        """Raise ValueError where no data set was named."""
        if self.data is None:
            raise ValueError(f"{verb}: expected --data with a COCO-format json or a built-in set")


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint becomes a model."""

    config: Config = None
    family: Family = None
    adapter: Adapter = None
    remap: Remap = False
    allow_partial: Partial = False
    output: Output = None
    assume: Assume = None
    expert: Expert = None
    skeleton: SkeletonName = None
    resample_pos_embed: Resample = False
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.adapter is not None:  # not imported before it is used
            from workbench.models.opening import check_one_builder

            check_one_builder(self.config, self.family, self.adapter)

    @property
    def stated(self) -> list[str]:
        """What --assume and --expert state together."""
        return assumed(self.assume, self.expert)

    def open(
        self, file: Path | Sequence[Path] | None, rules: Sequence[str] | None = None, **changes: Any
    ) -> LoadedModel:
        """The model of a checkpoint.

        Args:
            file: the checkpoint, or the files of one; None with an adapter that needs none.
            rules: of a bottom-up model, as --rule has them.
            changes: arguments of open_model that differ from these options.
        """
        from workbench.models import open_model

        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "expert"}
        given |= {"output": self.output or (), "assume": self.stated}
        return open_model(file, **{**given, **changes}).with_rules(rules or ())

    def require(self, verb: str, file: Path | Sequence[Path] | None) -> None:
        """Raise ValueError where neither a checkpoint nor an adapter was named."""
        if file is None and self.adapter is None:
            raise ValueError(f"{verb}: expected a checkpoint, or an --adapter that needs none; or --demo")


@dataclass(frozen=True)
class BoxOptions:
    """Which bounding boxes of a data set's images are cropped."""

    boxes: Boxes = None
    detector: Detector = None

    def of(self, pose_set: PoseSet) -> tuple[list[FoundBox] | None, str]:
        """The boxes, None for the annotations' own; and what to call them in the protocol.

        Raises:
            ValueError: both options were given, or the file is no detection file.
        """
        if self.detector is not None:
            if self.boxes is not None:
                raise ValueError("--boxes and --detector: expected one of the two")
            from workbench.cli.output import Progress
            from workbench.data.boxes import detect
            from workbench.data.detectors import labels_for, open_detector

            finder = open_detector(self.detector, labels_for(pose_set.skeleton))
            return detect(finder, pose_set, progress=Progress("detecting")), finder.title
        from workbench.data.boxes import boxes_from

        return boxes_from(self.boxes, pose_set)


@dataclass(frozen=True)
class ReadingOptions:
    """How keypoints are read off a network's output."""

    flip: Flip = FLIP_BY_DEFAULT
    decoder: Decoder = ""
    score: ScoreRule = ""

    @property
    def decoding(self) -> DecodeOptions:
        """Decoder and score as the model takes them; it refuses other words."""
        return DecodeOptions(self.decoder, self.score)  # type: ignore[arg-type]

    def rules(self, pose_score: str) -> dict[str, Any]:
        """Arguments of `predict` and `protocol_of_loaded`; the pose's score as --pose-score has it."""
        return {"flip": self.flip, "options": self.decoding, "score_rule": pose_score}


@dataclass(frozen=True)
class EvaluatorOptions:
    """How COCO's evaluator counts."""

    no_area: NoArea = False
    sigmas: Sigmas = None
    max_dets: MaxDets = 20

    def rules(self, keypoints: int) -> dict[str, Any]:
        """Arguments of `evaluate` and `check_evaluable` for a skeleton of so many keypoints."""
        return {
            "area_rule": "box" if self.no_area else "annotated",
            "sigmas": constants(self.sigmas, keypoints),
            "max_dets": self.max_dets,
        }


@dataclass(frozen=True)
class MetricOptions:
    """Which metric, by which length and thresholds."""

    metric: Metric = None
    normalise: Normalise = None
    thresholds: Thresholds = None
    pck: Threshold = None

    def chosen(self, pose_set: PoseSet, sigmas: Sequence[float] | None) -> tuple[str, str]:
        """The metric to compute, and why it is not AP where nobody chose it.

        Raises:
            ValueError: a length or thresholds were named for AP.
        """
        known = sigmas is not None or bool(pose_set.skeleton.sigmas)
        if self.metric is None and not known:
            return "pck", (
                f"AP needs OKS sigmas, and none are known for {pose_set.skeleton.name}: give --sigmas, one "
                "number for all keypoints or one for each"
            )
        if self.metric in (None, "ap") and self.thresholds is not None:
            raise ValueError(
                "--thresholds: AP has thresholds of its own, of OKS; name --metric mpck for these"
            )
        if self.metric is None and self.normalise is not None:
            return "pck", ""
        if self.metric in (None, "ap") and self.normalise is not None:
            raise ValueError(
                "--normalise: AP has its own scale, the area; name a --metric such as pck or nme"
            )
        return (self.metric or "ap").lower(), ""

    @property
    def measuring(self) -> dict[str, Any]:
        """Arguments of `measure` and `check_measurable`.

        Raises:
            ValueError: thresholds are no numbers.
        """
        from workbench.evaluation.pck import MPCK_THRESHOLDS

        given = {"normalise": self.normalise, "threshold": self.pck, "thresholds": MPCK_THRESHOLDS}
        if self.thresholds is None:
            return given
        try:
            return {**given, "thresholds": tuple(float(part) for part in self.thresholds.split(","))}
        except ValueError:
            raise ValueError(
                f"--thresholds: expected numbers with commas between, got {self.thresholds!r}"
            ) from None


def with_demo(data: DataOptions, name: str = "") -> DataOptions:
    """The options with the data set of a demo run, the default one's by default, unless one is named."""
    from workbench.checkpoints.demo import DEFAULT, demo_data

    return replace(data, data=data.data or demo_data(name or DEFAULT))


def demo_run(data: DataOptions, model: ModelOptions) -> tuple[list[Path], DataOptions, ModelOptions]:
    """Checkpoints of the default demo run; the options with its data set, unless one is named, and config.

    The config comes with its checkpoints, so it is read and not run.

    Args:
        data: the data set's options.
        model: the model's options.
    """
    from workbench.checkpoints.demo import demo_checkpoints, demo_config

    return demo_checkpoints(), with_demo(data), replace(model, config=model.config or demo_config())


def model_files(files: Sequence[Path] | None) -> Path | list[Path] | None:
    """The files of one model as open_model takes them; None where none is named."""
    return None if not files else files[0] if len(files) == 1 else list(files)


def same_keypoints(
    loaded: LoadedModel, pose_set: PoseSet, sigmas: str | None = None
) -> tuple[LoadedModel, PoseSet]:
    """The model with the data set's names of keypoints, and the data set with the sigmas that count.

    Args:
        loaded: the model.
        pose_set: what it is evaluated on.
        sigmas: those of --sigmas; None where the option was not given.

    Raises:
        ValueError: the model has other keypoints; sigmas as `judged_set`.
    """
    from workbench.evaluation.protocol import check_same_keypoints

    loaded = loaded.named_as(pose_set)
    check_same_keypoints(loaded.model.skeleton, pose_set.skeleton, pose_set.name)
    return loaded, judged_set(pose_set, loaded.model.skeleton, sigmas)


def judged_set(pose_set: PoseSet, model: Skeleton, sigmas: str | None) -> PoseSet:
    """The set with the OKS constants that count: those of --sigmas, else a model's own.

    Args:
        pose_set: the annotations.
        model: keypoints of the model.
        sigmas: as people type them; None where the option was not given.

    Raises:
        ValueError: not numbers above 0, or neither one nor one for each keypoint.
    """
    from workbench.evaluation.protocol import judged_by, judged_with

    return judged_by(pose_set, model) if sigmas is None else judged_with(pose_set, numbers_of(sigmas))


def loading_note(loaded: LoadedModel) -> list[str]:
    """A line where not all parameters came from the file."""
    if loaded.loaded_fraction >= 1:
        return []
    return [f"only {100 * loaded.loaded_fraction:.1f} % of the model's parameters came from the file"]


def with_loading(answer: Answer, loaded: LoadedModel) -> Answer:
    """The answer, with what was not loaded and what was assumed about the model."""
    lines, facts = [answer.text, *loading_note(loaded)], answer.facts
    if loaded.note:
        facts, lines = {**facts, "note": loaded.note}, [*lines, f"assumed: {loaded.note}"]
    return replace(answer, facts=facts, text="\n".join(lines))


def predicted(loaded: LoadedModel, pose_set: PoseSet, **rules: Any) -> Predictions:
    """Predictions of a model on a data set, made in a job with a progress bar.

    Args:
        loaded: the model.
        pose_set: what is predicted.
        rules: arguments of workbench.evaluation.predict.
    """
    from workbench.evaluation import predict

    return run_in_job(f"predicting with {loaded.title}", predict, loaded.model, pose_set, **rules)


def assumed(assume: Sequence[str] | None, expert: str | None) -> list[str]:
    """What --assume and --expert state of a file together."""
    return [*(assume or ()), *([f"expert={expert}"] if expert else [])]


def check_limit(limit: int | None) -> None:
    """Raise ValueError for fewer than one image."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit: expected at least 1 image, got {limit}")


def numbers_of(text: str) -> list[float]:
    """The numbers of --sigmas.

    Raises:
        ValueError: not numbers with commas between.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sigmas: expected numbers with commas between, got {text!r}") from None


def constants(text: str | None, count: int) -> Sequence[float] | None:
    """OKS constants as people type them; None for the skeleton's own.

    Args:
        text: one number for all keypoints, or one for each, with commas between.
        count: of keypoints.

    Raises:
        ValueError: not numbers, or neither one nor one for each keypoint.
    """
    if text is None:
        return None
    values = numbers_of(text)
    if len(values) not in (1, count):
        raise ValueError(f"--sigmas: expected one number or {count}, got {len(values)}")
    return values * count if len(values) == 1 else values
