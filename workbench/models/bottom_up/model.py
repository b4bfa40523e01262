"""A network that sees a whole image at once as a model of the workbench: fill in the record `BottomUp`.

It has what every model has and `group`, which finds all people of an image. `decode` gives inspectors one of
them for each sample, the one that its box asks for. Rules of the model (input size and scales, which maps
count, how detections become people) can be changed by words such as ``nms_kernel=3``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, Prediction, Sample, Skeleton, nearest
from workbench.core.geometry import Box, apply, iou
from workbench.core.report import counted
from workbench.decoding.grouping import HIGHERHRNET, RULES, GroupingSettings, group
from workbench.decoding.grouping.assignment import solver_text
from workbench.models.bottom_up.aggregation import (
    Aggregation,
    MapCache,
    Maps,
    PassMaps,
    Resizing,
    Rule,
    aggregated,
    resizing,
)
from workbench.models.naming import taps_of
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from workbench.decoding.grouping import Grouping


def typed(returned: Any, keypoints: int, tags: int) -> Outputs:
    """Outputs from what a network returned.

    Three forms are known: one tensor with heatmaps and behind them tags; the two as a pair; and
    HigherHRNet's, first both at the coarser resolution and then heatmaps alone at the finer one.

    Args:
        returned: by the network.
        keypoints: K, declared.
        tags: tag maps, declared: K L for L maps per keypoint, L for maps that all share.

    Raises:
        NotAvailable: there are heatmaps, but no tags.
        ValueError: another number of channels than declared, or no maps at all.
    """
    if isinstance(returned, Outputs):
        return returned
    parts: list[Any] = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    if not parts or len(parts) > 2 or any(getattr(part, "ndim", 0) != 4 for part in parts):
        raise ValueError(f"the network returned {_shapes(parts)}: {_wanted(keypoints, tags)}")
    channels = [part.shape[1] for part in parts]
    if channels in ([keypoints], [keypoints, keypoints]) and channels != [keypoints, tags]:
        raise NotAvailable(
            f"tags: the network gives {keypoints} heatmaps only, so nothing says which keypoints belong to "
            "one person; a top-down model would be asked box by box"
        )
    if channels == [keypoints + tags]:
        return Outputs(heatmaps=parts[0][:, :keypoints], tags=parts[0][:, keypoints:])
    if channels == [keypoints + tags, keypoints]:
        first: Tensor = parts[0]
        return Outputs(heatmaps=parts[1], coarse=first[:, :keypoints], tags=first[:, keypoints:])
    if channels == [keypoints, tags]:
        return Outputs(heatmaps=parts[0], tags=parts[1])
    raise ValueError(f"the network returned {_shapes(parts)}: {_wanted(keypoints, tags)}")


def _wanted(keypoints: int, tags: int) -> str:
    both = keypoints + tags
    return (
        f"{counted(keypoints, 'keypoint')} and {tags} tag maps are declared, so expected maps with "
        f"{counted(both, 'channel')}, with {keypoints} and {tags}, or with {both} and then {keypoints}; "
        "declare the layout that it has"
    )


def _shapes(parts: Sequence[Any]) -> str:
    shapes = [str(list(p.shape)) if hasattr(p, "shape") else type(p).__name__ for p in parts]
    return " and ".join(shapes) or "nothing"


# People.


# Scales of the input, and pixels of its sides: what lies beyond leaves no pixel, or more than any memory.
_SMALLEST, _LARGEST_SIDE = 0.01, 1 << 16


@dataclass(frozen=True, eq=False)
class People:
    """All people found in one image.

    Attributes:
        keypoints: (x, y) in image pixels; nan where the person lacks the keypoint.
        scores: of the keypoints: heatmap values; 0 where missing.
        score: of the people, by the protocol's rule: mean of all K values before missing ones were filled.
        boxes: (x0, y0, x1, y1) in image pixels, the extent of each person's keypoints; none was detected.
        grouping: the same in cells of the maps, with the trace of its steps where one was asked for.
    """

    keypoints: Float[np.ndarray, "P K 2"]
    scores: Float[np.ndarray, "P K"]
    score: Float[np.ndarray, " P"]
    boxes: Float[np.ndarray, "P 4"]
    grouping: Grouping

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of(cls, grouping: Grouping, to_image: Float[np.ndarray, "2 3"]) -> People:
        """Groups in image pixels.

        Args:
            grouping: in cells of the maps.
            to_image: affine map from those cells to image pixels.
        """
        points = apply(to_image, grouping.keypoints[..., :2].astype(float))
        scores = grouping.keypoints[..., 2].astype(float)
        # fmin and fmax pass over nan; a person has at least one keypoint.
        boxes = np.concatenate([np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)], axis=1)
        return cls(points, scores, grouping.scores.astype(float), boxes, grouping)

    def in_box(self, box: Box) -> Prediction:
        """The person that a box asks for; all nan where nobody is in it.

        Overlap of the box and the extent of a person's keypoints, times the share of them that lie inside: a
        single keypoint taken from a neighbour doubles an extent. What refine filled does not count, for it
        takes keypoints from everybody's heatmaps and gives a stray detection the extent of a real person.

        Args:
            box: (x0, y0, x1, y1) in image pixels.
        """
        detected = np.where(self.grouping.filled[..., None], np.nan, self.keypoints)
        extents = np.concatenate([np.fmin.reduce(detected, axis=1), np.fmax.reduce(detected, axis=1)], axis=1)
        inside = ((detected >= box[:2]) & (detected <= box[2:])).all(-1)  # nan is not inside
        share = inside.sum(1) / np.isfinite(detected[..., 0]).sum(1).clip(min=1)
        overlap = iou(extents, np.asarray(box, float)) * share
        if not (overlap > 0).any():
            K = self.keypoints.shape[1]
            return Prediction(np.full((K, 2), np.nan), np.zeros(K), box)
        best = int(overlap.argmax())
        return Prediction(self.keypoints[best], self.scores[best], box, float(self.score[best]))

    def predictions(self) -> tuple[Prediction, ...]:
        """One prediction for each person, in the order in which they were found."""
        boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in self.boxes]
        found = zip(self.keypoints, self.scores, boxes, self.score.tolist(), strict=True)
        return tuple(Prediction(points, scores, box, score) for points, scores, box, score in found)


# The model.


MIRRORED = "mirrored"


@dataclass(frozen=True, eq=False)
class BottomUp:
    """A PoseModel around a network that gives heatmaps and tags of a whole image.

    Attributes:
        module: the network.
        skeleton: the keypoints in the order of the heatmaps.
        tags: tag maps that it gives for one tag value: one per keypoint, or 1 for all of them.
        tag_size: values that a tag has; tag maps come in this many blocks of `tags`.
        input_size: of the short side, pixels; (height, width) for mmpose's rules.
        scales: at which the image is looked at; 1 is among them if there are several.
        rule: how the image becomes the input; see workbench.models.bottom_up.aggregation.
        multiple: what the input's sides are rounded up to.
        aggregation: which maps count; may be replaced for stored outputs.
        grouping: how detections become people; its tag layout says which map is read for which keypoint.
        mean: subtracted from pixels in 0..255, in the network's channel order.
        std: divided by afterwards.
        bgr: the network wants blue first.
        call: from pixels [N, 3, H, W] to Outputs or maps; the module itself by default.
        taps: public name -> module path; every named part by default.
        note: what had to be assumed to open it, for people.
    """

    module: nn.Module
    skeleton: Skeleton
    tags: int
    tag_size: int = 1
    input_size: int | tuple[int, int] = 512
    scales: tuple[float, ...] = (1.0,)
    rule: Rule = "align"
    multiple: int = 64
    aggregation: Aggregation = field(default_factory=Aggregation)
    grouping: GroupingSettings = HIGHERHRNET
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    bgr: bool = False
    call: Callable[[Any], Any] | None = None
    taps: Mapping[str, str] = None  # type: ignore[assignment] - filled in below
    note: str = ""
    codec: None = None

    def __post_init__(self) -> None:
        self.grouping.maps(len(self.skeleton), self.tags)  # a layout that does not fit says so now
        usable = self.scales and all(_SMALLEST <= scale <= 1 / _SMALLEST for scale in self.scales)
        if not usable or (len(self.scales) > 1 and 1.0 not in self.scales):
            raise ValueError(
                f"scales: expected a number of {_SMALLEST:g} to {1 / _SMALLEST:g}, or several with 1 among "
                f"them, got {list(self.scales)}"
            )
        sides = self.input_size if isinstance(self.input_size, tuple) else (self.input_size,)
        if wrong := [n for n in (self.multiple, *sides) if not 1 <= n <= _LARGEST_SIDE]:
            raise ValueError(
                f"input size and size factor: expected 1 to {_LARGEST_SIDE} pixels, got {wrong[0]:.6g}"
            )
        if self.taps is None:
            object.__setattr__(self, "taps", taps_of(self.module))

    def place(self, image: tuple[int, int], scale: float = 1.0) -> Resizing:
        """How an image becomes the input at one scale.

        Args:
            image: (height, width) in pixels.
            scale: one of `scales`.
        """
        least = min(self.scales)
        return resizing(image, self.input_size, scale, least, self.rule, self.multiple)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Whole images, each sample's own; boxes are not looked at. Other scales under ``extra["scales"]``.

        Raises:
            ValueError: the images need inputs of different sizes.
        """
        main = self.main_scale
        places = [self.place(s.image.shape[:2], main) for s in samples]
        if len({place.size for place in places}) > 1:
            sizes = sorted({f"{s.image.shape[1]} x {s.image.shape[0]}" for s in samples})
            raise ValueError(
                f"a bottom-up network sees whole images: {', '.join(sizes)} pixels need inputs of different "
                "sizes, so take samples of one image, or of images of one size"
            )
        others = {
            scale: self._pixels(samples, [self.place(s.image.shape[:2], scale) for s in samples])
            for scale in self.scales
            if scale != main
        }
        affines = np.stack([place.to_image() for place in places])
        return Batch(self._pixels(samples, places), affines, tuple(samples), {"scales": others})

    def forward(self, batch: Batch) -> Outputs:
        """One plain pass at the main scale, untouched."""
        return self._asked(batch.pixels)

    def all_passes(self, batch: Batch, flip: bool = False) -> Outputs:
        """The plain pass, and under `passes` those at other scales and, with flip, of mirrored inputs.

        The plain one comes last: what hooks record is of it.

        Args:
            batch: of `prepare`.
            flip: also pass the mirrored inputs.
        """
        passes: dict[str, Outputs] = {}
        for scale, pixels in batch.extra.get("scales", {}).items():
            if flip:
                passes[f"x{scale:g} {MIRRORED}"] = self._asked(pixels.flip(-1))
            passes[f"x{scale:g}"] = self._asked(pixels)
        if flip:
            passes[MIRRORED] = self._asked(batch.pixels.flip(-1))
        return dataclasses.replace(self.forward(batch), passes=passes)

    def pass_named(self, name: str) -> tuple[float, bool]:
        """Scale, and whether the input was mirrored, of one of `Outputs.passes`."""
        scale = float(name[1:].partition(" ")[0]) if name.startswith("x") else self.main_scale
        return scale, name.endswith(MIRRORED)

    def maps(
        self,
        outputs: Outputs,
        batch: Batch,
        n: int,
        aggregation: Aggregation | None = None,
        cache: MapCache | None = None,
    ) -> Maps:
        """The aggregated maps of one image of a batch, without a forward pass.

        Args:
            outputs: of `all_passes`.
            batch: that was passed.
            n: number of the image in the batch.
            aggregation: which maps count; the model's own by default.
            cache: cache for several readings of the same image; an empty dict at first.

        Raises:
            NotAvailable: no tags, or a resolution that the network does not give.
            ValueError: tag maps that are not as declared, or a scale that was not made.
        """
        image = batch.samples[n].image.shape[:2]
        seen = [self._seen(outputs, n, False, self.main_scale)]
        for name, more in outputs.passes.items():
            scale, mirrored = self.pass_named(name)
            seen.append(self._seen(more, n, mirrored, scale))
        # mmpose's maps lie where those of scale 1 do; its pads differ from scale to scale.
        align = self.rule == "align"
        places = {p.scale: self.place(image, p.scale if align else self.main_scale) for p in seen}
        mirror = self.skeleton.mirror
        settings = aggregation or self.aggregation
        return aggregated(seen, places, self.place(image).size, image, mirror, settings, cache)

    def group(
        self,
        outputs: Outputs,
        batch: Batch,
        grouping: GroupingSettings | None = None,
        aggregation: Aggregation | None = None,
        trace: bool = False,
    ) -> tuple[People, ...]:
        """All people in each image of a batch, without a forward pass.

        Args:
            outputs: of `all_passes`.
            batch: that was passed.
            grouping: rules for detections; the model's own by default.
            aggregation: which maps count; the model's own by default.
            trace: keep the steps of the grouping.

        Raises:
            NotAvailable: no tags.
            ValueError: a map holds nan, or maps are not as declared.
        """
        found = []
        for n in range(len(batch)):
            maps = self.maps(outputs, batch, n, aggregation)
            names = self.skeleton.keypoints
            groups = group(maps.heatmaps, maps.tags, grouping or self.grouping, trace, names=names)
            found.append(People.of(groups, maps.to_image))
        return tuple(found)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """For each sample the person whose extent overlaps its box best; all nan where none overlaps.

        Args:
            outputs: of `all_passes`.
            batch: that was passed.
            options: the defaults.

        Raises:
            ValueError: a decoder or score is asked for; a bottom-up model has other settings.
        """
        if options != DecodeOptions():
            raise ValueError(
                "decoder and score: a bottom-up model groups detections; its settings are others"
            )
        people = self.group(outputs, batch)
        return tuple(p.in_box(sample.box) for p, sample in zip(people, batch.samples, strict=True))

    @property
    def input_text(self) -> str:
        """How an image becomes the input, in a few words."""
        size = self.input_size
        if isinstance(size, tuple):
            return f"input {self.rule} {size[1]}x{size[0]} (w x h), sides to {self.multiple}"
        return f"input short side {size}, long side to {self.multiple}"

    @property
    def scales_text(self) -> str:
        """At which scales it looks, and which of its maps count, in a few words."""
        scales = f"scale {', '.join(f'{s:g}' for s in self.scales)}"
        departs = self.aggregation.text()
        return f"{scales} ({departs})" if departs else scales

    @property
    def grouping_text(self) -> str:
        """By which rules it groups: what differs from the published protocol, and the solver."""
        fields = [f.name for f in dataclasses.fields(self.grouping) if f.name != "solver"]
        changed = [
            f"{name} {_value_text(getattr(self.grouping, name))}"
            for name in fields
            if getattr(self.grouping, name) != getattr(HIGHERHRNET, name)
        ]
        rules_text = f"grouping {', '.join(changed)}" if changed else "grouping as HigherHRNet"
        return f"{rules_text}, solver {solver_text(self.grouping.solver)}"

    @property
    def main_scale(self) -> float:
        """The scale of the batch's own pixels: 1 where it is looked at."""
        return 1.0 if 1.0 in self.scales else self.scales[0]

    def _asked(self, pixels: Tensor) -> Outputs:
        weight = next(self.module.parameters(), None)
        placed = pixels if weight is None else pixels.to(weight.device, weight.dtype)
        return typed((self.call or self.module)(placed), len(self.skeleton), self.tags * self.tag_size)

    def _pixels(self, samples: Sequence[Sample], places: Sequence[Resizing]) -> Tensor:
        import torch

        seen = np.stack([place.apply(s.image) for place, s in zip(places, samples, strict=True)])
        if self.bgr:
            seen = np.ascontiguousarray(seen[..., ::-1])
        planes = torch.from_numpy(seen).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((planes - mean) / std).contiguous()

    def _seen(self, outputs: Outputs, n: int, mirrored: bool, scale: float) -> PassMaps:
        if outputs.heatmaps is None or outputs.tags is None:
            absent = "heatmaps" if outputs.heatmaps is None else "tags"
            raise NotAvailable(f"{absent}: the network gave none, so there is nothing to group")
        count = outputs.tags.shape[1]
        if count != self.tags * self.tag_size:
            raise ValueError(
                f"tag layout: {self.tags} tag maps of {counted(self.tag_size, 'value')} are declared, the "
                f"outputs have {counted(count, 'channel')} of tags"
            )
        if outputs.heatmaps.shape[1] != len(self.skeleton):
            raise ValueError(
                f"heatmaps: {counted(len(self.skeleton), 'keypoint is', 'keypoints are')} declared, the "
                f"outputs have {counted(outputs.heatmaps.shape[1], 'channel')}"
            )
        coarse = None if outputs.coarse is None else outputs.coarse[n].detach().float().cpu()
        maps, tags = (t[n].detach().float().cpu() for t in (outputs.heatmaps, outputs.tags))
        return PassMaps(maps, coarse, tags.unflatten(0, (self.tag_size, self.tags)), mirrored, scale)


def _value_text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


# Rules by name.


_OWN = ("input_size", "scales")
_SWITCHES = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def rule_names() -> tuple[str, ...]:
    """Names of all rules that can be changed; ``rules`` comes first and takes a whole protocol by name."""
    settings = (Aggregation, GroupingSettings)
    named = [f.name for kind in settings for f in dataclasses.fields(kind) if f.name not in _OWN]
    return ("rules", *_OWN, *named)


def with_rules(model: BottomUp, words: Sequence[str]) -> BottomUp:
    """The model with some rules changed; of two words for one rule the later counts.

    Args:
        model: not changed.
        words: each ``name=value``: a number, on or off, none, or several numbers separated by commas.

    Raises:
        ValueError: no such rule, or a value that it cannot have.
    """
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in rule_names():
            what = "no such rule" if equals else "expected NAME=VALUE"
            raise ValueError(f"rule {word!r}: {what}; nearest names: {nearest(name, rule_names())}")
        model = _changed(model, name, text.strip())
    return model


def _changed(model: BottomUp, name: str, text: str) -> BottomUp:
    if name == "rules":
        if text not in RULES:
            raise ValueError(f"rules: expected {' or '.join(RULES)}, got {text!r}")
        grouping = dataclasses.replace(
            RULES[text], tag_layout=model.grouping.tag_layout, solver=model.grouping.solver
        )
        return dataclasses.replace(model, grouping=grouping)
    if name in _OWN:
        whole = isinstance(model.input_size, tuple) and name == "input_size"
        current = model.input_size if name == "input_size" else model.scales
        return dataclasses.replace(model, **{name: _read(name, text, (0, 0) if whole else current)})
    of_maps = name in {f.name for f in dataclasses.fields(model.aggregation)}
    part = "aggregation" if of_maps else "grouping"
    settings: Any = getattr(model, part)
    value = _read(name, text, getattr(type(settings)(), name))
    return dataclasses.replace(model, **{part: dataclasses.replace(settings, **{name: value})})


def _read(name: str, text: str, default: Any) -> Any:
    """A value as people type it, of the type that the rule's default has."""
    try:
        if isinstance(default, bool):
            return _SWITCHES[text.lower()]
        if text.lower() == "none" and name == "max_people":
            return None
        if name == "tag_layout" and not text[:1].isdecimal():
            return text
        if isinstance(default, tuple) or name == "tag_layout":
            of = float if name == "scales" else int
            return tuple(of(part) for part in text.split(",") if part.strip())
        return type(default)(text)
    except (ValueError, KeyError):
        kinds = {bool: "on or off", int: "a whole number", float: "a number", tuple: "numbers with commas"}
        wanted = kinds.get(type(default), "a word")
        raise ValueError(f"rule {name}: expected {wanted}, got {text!r}") from None
