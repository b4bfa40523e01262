"""Which network is this? Told from names and shapes of a file's tensors, with evidence and contradictions.

The families themselves stand in a room above this one, and in other packages. They are found by name, as
entry points are: one line per family in `FAMILY_MODULES`, or an entry point in ``workbench.families``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.state_dicts import common_prefix, is_counter, unwrapped
from workbench.core import reason
from workbench.core.report import counted

Shape = tuple[int, ...]

FAMILY_MODULES: tuple[str, ...] = (
    "workbench.models.mmpose",
    "workbench.models.vitpose",
    "workbench.models.vitpose.transformers_code",
    "workbench.models.text_fusion",
    "workbench.models.cape",
    "workbench.models.higherhrnet",
    "workbench.models.official_heatmaps",
    "workbench.models.movenet",
    "workbench.models.onnx",
    "workbench.models.tflite",
    "workbench.models.torchscript",
    "workbench.models.adapter",
)
"""Modules of the workbench's families; each holds a workbench.models.families.Family called ``FAMILY``.

The most general come first. The last is asked first about a file, and other packages' before all of these.
"""

ENTRY_POINTS = "workbench.families"
"""Group of the entry points by which other packages register a family."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint's tensors tell.

    Attributes:
        family: e.g. ``RTMPose``, ``HigherHRNet (official names)``; ``unknown`` when nothing fits.
        variant: its size, e.g. ``m``, ``w32``; "" when the family has none.
        evidence: sentences, each naming the tensors it rests on.
        expected: published figure and its protocol, for the weights this seems to be; "" when none is known.
        contradictions: what the file name or the config inside says and the tensors deny.
        keypoints: K, where a head tells it.
        input_size: (height, width) in pixels, where tensors tell it.
        facts: further numbers by name (width, depth, channels ...).
        capabilities: names of the capabilities (workbench.core) that a model of this family has beyond
            PoseModel: ``Groups``, ``RollsOut``, ``Conditioned``.
        record: name of the family's record, as `--family` takes it; "" when no family fits.
        naming: of a vision transformer, whose names its tensors have, as `workbench convert --to` takes it:
            ``mmpose-1``, ``mmpose-0`` or ``hf``.
    """

    family: str
    variant: str = ""
    evidence: tuple[str, ...] = ()
    expected: str = ""
    contradictions: tuple[str, ...] = ()
    keypoints: int | None = None
    input_size: tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    record: str = ""
    naming: str = ""

    def __str__(self) -> str:
        return f"{self.family} {self.variant}".strip()


class Shapes(dict[str, Shape]):
    """Names and shapes of a file's tensors, searched by pattern.

    Attributes:
        file: name of the file, "" where it is not known; it may tell what shapes cannot.
    """

    file: str = ""

    def any(self, pattern: str) -> str:
        """The first name that the pattern finds, or ""."""
        search = re.compile(pattern).search
        return next((name for name in self if search(name)), "")

    def first(self, *names: str) -> tuple[str, Shape] | None:
        """The first of these that is there, with its shape."""
        return next(((name, self[name]) for name in names if name in self), None)

    def count(self, pattern: str) -> int:
        """How many different numbers stand at the pattern's group: layers, blocks, experts."""
        search = re.compile(pattern).search
        return len({found[1] for name in self if (found := search(name))})

    def under(self, *prefixes: str) -> Shapes:
        """Those that begin with one of the prefixes, without it; the first prefix that occurs wins."""
        for prefix in prefixes:
            found = {n[len(prefix) :]: s for n, s in self.items() if n.startswith(prefix)}
            if found:
                inner = Shapes(found)
                inner.file = self.file
                return inner
        return Shapes()


@runtime_checkable
class TellsFiles(Protocol):
    """What this module asks of a family's record; see workbench.models.families.Family.

    Attributes:
        name: of the family.
        identify: from names and shapes to an Identity, or None where they are of another family; None for a
            family that has no tensors of its own.
        deny: from the file's name and the Identity that was found to sentences that contradict the name.
    """

    @property
    def name(self) -> str: ...

    @property
    def identify(self) -> Callable[[Shapes], Identity | None] | None: ...

    @property
    def deny(self) -> Callable[[str, Identity], Iterable[str]] | None: ...


@cache
def registered_families() -> tuple[Any, ...]:
    """Records of all families: those of `FAMILY_MODULES`, then those of other packages.

    Raises:
        ValueError: another package's record cannot be imported, is none, or has a name that is taken.
    """
    from importlib.metadata import entry_points  # slow to import, and only this function needs it

    found = [importlib.import_module(name).FAMILY for name in FAMILY_MODULES]
    for point in entry_points(group=ENTRY_POINTS):
        where = f"entry point {point.name} = {point.value} in {ENTRY_POINTS}"
        try:
            record = point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{where}: cannot be imported: {reason(error)}") from error
        if not isinstance(record, TellsFiles):
            raise ValueError(
                f"{where}: expected a workbench.models.families.Family, got {type(record).__name__}"
            )
        if record.name in {other.name for other in found}:
            raise ValueError(f"{where}: there is a family {record.name!r} already; give it another name")
        found.append(record)
    return tuple(found)


def identify(tensors: Mapping[str, Shape], file: str, config: str | None) -> Identity:
    """The family of a checkpoint; unknown, with what was seen, when no family fits.

    Args:
        tensors: name -> shape.
        file: name of the file.
        config: text of the training config inside the file; None without one.
    """
    named = {unwrapped(name): shape for name, shape in tensors.items() if not is_counter(name)}
    prefix = common_prefix(named)
    view = Shapes({name.removeprefix(prefix): shape for name, shape in named.items()})
    view.file = file
    found = identify_shapes(view)
    return replace(found, contradictions=(*found.contradictions, *contradictions(file, config, found)))


def identify_shapes(shapes: Mapping[str, Shape]) -> Identity:
    """The family that names and shapes tell.

    Args:
        shapes: by the tensor's name, without wrappers' prefixes; a `Shapes` may carry the file's name.
    """
    view = shapes if isinstance(shapes, Shapes) else Shapes(shapes)
    # Mean-teacher files hold the same network twice: one of them is enough.
    if view.any(r"^teacher\.") and view.any(r"^student\."):
        view = view.under("student.")
    for family in reversed(registered_families()):
        found = family.identify(view) if family.identify else None
        if found is not None:
            return replace(found, record=family.name)
    return Identity("unknown", evidence=(f"no known family has such tensors: {_tensors_text(view)}",))


def _tensors_text(view: Shapes) -> str:
    parts = list(dict.fromkeys(name.partition(".")[0] for name in view))
    last = list(view.items())[-1:]
    shown = "".join(f"; the last is {name} {times(shape)}" for name, shape in last)
    return (
        f"{counted(len(view), 'tensor')} under "
        f"{', '.join(parts[:6])}{' ...' if len(parts) > 6 else ''}{shown}"
    )


def times(shape: Iterable[int]) -> str:
    """A shape for people: ``17x768x7x7``."""
    return "x".join(str(n) for n in shape) or "scalar"


def contradictions(file: str, config: str | None, found: Identity) -> tuple[str, ...]:
    """What the file's name or the config inside it says and the tensors deny, one sentence each.

    Args:
        file: name of the file.
        config: text of the training config inside the file; None without one.
        found: what its tensors tell.
    """
    name = file.lower()
    said = [*_by_name(name, found)]
    for family in registered_families():
        said += family.deny(name, found) if family.deny else ()
    if config:
        try:
            values = read_config(config)
        except ValueError:
            return tuple(said)  # a config that needs to be run makes no claim that can be read
        said += _by_config(values, found)
    return tuple(said)


def _by_name(name: str, found: Identity) -> Iterator[str]:
    width = re.search(r"(?<![a-z\d])w(18|32|40|48)(?!\d)", name)
    if (
        width
        and "width" in found.facts
        and found.variant.startswith("w")
        and int(width[1]) != found.facts["width"]
    ):
        yield f"the file name says w{width[1]}, the tensors say w{found.facts['width']}"
    pixels = re.search(r"(?<!\d)(\d{3,4})x(\d{3,4})(?!\d)", name)
    if pixels and found.input_size and (int(pixels[1]), int(pixels[2])) != found.input_size:
        # mmpose names files height x width.
        height, width_ = found.input_size
        if (int(pixels[2]), int(pixels[1])) != found.input_size:
            yield f"the file name says {pixels[0]}, the tensors say {height}x{width_} (h x w)"


def _by_config(config: Mapping[str, Any], found: Identity) -> Iterator[str]:
    model = config.get("model")
    head = model.get("head") if isinstance(model, Mapping) else None
    if not isinstance(head, Mapping) or not isinstance(model, Mapping):
        return
    claimed = head.get("out_channels")
    if (
        isinstance(claimed, int)
        and found.keypoints is not None
        and claimed not in (found.keypoints, 2 * found.keypoints)
    ):
        yield f"the config in the file says {counted(claimed, 'keypoint')}, the tensors say {found.keypoints}"
    size = head.get("input_size")
    if (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and found.input_size
        and tuple(size) != found.input_size[::-1]
    ):
        height, width = found.input_size
        yield (
            f"the config in the file says input {size[0]}x{size[1]} (w x h), the tensors say {width}x{height}"
        )
    backbone = model.get("backbone")
    widen = backbone.get("widen_factor") if isinstance(backbone, Mapping) else None
    stem = found.facts.get("stem channels")
    if isinstance(widen, (int, float)) and isinstance(stem, int) and round(64 * widen) != stem:
        yield f"the config in the file says widen_factor {widen}, the tensors have {stem / 64:g}"


# Backbones and heads that several families share, recognised by names and shapes of their tensors.


@dataclass(frozen=True)
class Backbone:
    """A backbone that was recognised.

    Attributes:
        name: e.g. ``HRNet``, ``CSPNeXt``.
        size: e.g. ``w32``, ``m``, ``50``.
        evidence: why.
        facts: its numbers.
    """

    name: str
    size: str
    evidence: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name}-{self.size}" if self.size else self.name


# Channels after the stem -> size; CSPNeXt P5 of mmdet, widen .375, .5, .75, 1, 1.25 of 64 channels.
_CSPNEXT = {24: "t", 32: "s", 48: "m", 64: "l", 80: "x"}
# (bottleneck blocks, blocks in layer3) -> depth.
_RESNET = {(False, 2): "18", (False, 6): "34", (True, 6): "50", (True, 23): "101", (True, 36): "152"}


def backbone_of(view: Shapes) -> Backbone | None:
    """The backbone, with or without the prefix ``backbone.``; None when none is known."""
    inner = view.under("backbone.", "")
    for tell in (_cspnext, _hrnet, _resnet, _hourglass, _mobilenet):
        found = tell(inner)
        if found is not None:
            return found
    return None


def _cspnext(view: Shapes) -> Backbone | None:
    stem = view.get("stem.2.conv.weight")
    if stem is None or not view.any(r"^stage1\.1\.blocks\.0\.conv2\.depthwise_conv"):
        return None
    size = _CSPNEXT.get(stem[0], "")
    blocks = view.count(r"^stage1\.1\.blocks\.(\d+)\.")
    size_text = f"CSPNeXt-{size}" if size else "CSPNeXt of no published size"
    return Backbone(
        "CSPNeXt",
        size or f"of stem {stem[0]}",
        f"backbone.stem.2.conv.weight {times(stem)}, blocks in stage1: {blocks}: {size_text}",
        {"stem channels": stem[0], "blocks in stage1": blocks},
    )


def _hrnet(view: Shapes) -> Backbone | None:
    name = "stage4.0.branches.0.0.conv1.weight"
    if name not in view or not view.any(r"^transition3\."):
        return None
    width = view[name][0]
    return Backbone(
        "HRNet", f"w{width}", f"{name} {times(view[name])}: HRNet of width {width}", {"width": width}
    )


def _resnet(view: Shapes) -> Backbone | None:
    if not view.any(r"^layer4\.0\.conv1\.weight$"):
        return None
    blocks = view.count(r"^layer3\.(\d+)\.conv1\.")
    deep = "layer3.0.conv3.weight" in view
    size = _RESNET.get((deep, blocks), "")
    kind = "bottleneck" if deep else "basic"
    return Backbone(
        "ResNet",
        size,
        f"{blocks} {kind} blocks in layer3: ResNet{'-' + size if size else ' of unknown depth'}",
    )


def _hourglass(view: Shapes) -> Backbone | None:
    if not view.any(r"hourglass_modules\.|^hgs\.|^pre\.\d.*\.hg|\.hourglass\."):
        return None
    return Backbone("Hourglass", "", f"{view.any('hourglass_modules|hgs|hourglass')}: stacked hourglass")


def _mobilenet(view: Shapes) -> Backbone | None:
    name = view.any(r"(inverted_res|layer\d\.\d\.conv\.\d\.conv|features\.\d+\.conv\.\d)")
    if not name:
        return None
    return Backbone("MobileNet-like", "", f"{name}: inverted residual blocks")


# Number of keypoints -> data sets that have as many.
_KEYPOINTS = {
    17: "17 keypoints, as COCO and AP-10K have (shapes alone cannot tell these two)",
    26: "26 keypoints, as Halpe has (and some horse data sets)",
    133: "133 keypoints, as COCO-WholeBody has (shapes alone do not tell whose)",
    106: "106 keypoints, as LaPa's faces have (shapes alone do not tell whose)",
    21: "21 keypoints, as hands have in most sets (shapes alone do not tell whose)",
    14: "14 keypoints, as CrowdPose and AIC have",
    20: "20 keypoints, as AnimalPose has",
    68: "68 keypoints, as 300W's faces have (shapes alone do not tell whose)",
}


def keypoint_sentence(count: int, name: str, shape: tuple[int, ...]) -> str:
    """How many keypoints a head has, and who has that many.

    Args:
        count: number of keypoints.
        name: of the head's tensor.
        shape: of that tensor.
    """
    return f"{name} {times(shape)}: {_KEYPOINTS.get(count, counted(count, 'keypoint'))}"


CLASSES = (1000, 1001, 10450, 11221, 21841, 21843, 365)
"""Outputs of the classifiers that are published as pretrained weights: ImageNet-1k and -21k, Places365."""


def linear_sentence(name: str, shape: tuple[int, ...]) -> str:
    """What a linear output layer may be: classes, or the coordinates of keypoints.

    Args:
        name: of the layer's weight.
        shape: of that tensor: (outputs, inputs).
    """
    count = shape[0]
    readings = [
        f"{counted(count // values, 'keypoint')} ({form})"
        for values, form in ((2, "x, y"), (3, "x, y, visibility or z"))
        if count >= 2 * values and count % values == 0
    ]
    if count in CLASSES or not readings:
        return f"{name} {times(shape)}: {count} classes, weights of a classifier and not of a pose network"
    places = " or of ".join(readings)
    return f"{name} {times(shape)}: {count} outputs: coordinates of {places}, or {count} classes"
