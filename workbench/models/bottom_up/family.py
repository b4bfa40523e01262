"""How does a network that sees a whole image at once become a model of the workbench? Fill in this record.

It has what every model has, and one thing more: `group`, all people of an image. `decode` gives inspectors
one of them for each sample, the one that its box asks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, Prediction, Sample, Skeleton
from workbench.decoding.grouping import HIGHERHRNET, GroupingSettings, group
from workbench.decoding.grouping.assignment import solver_text
from workbench.models.bottom_up.aggregation import (
    Aggregation,
    Maps,
    Resizing,
    Rule,
    Seen,
    aggregated,
    resizing,
)
from workbench.models.bottom_up.aggregation import MapCache as Kept
from workbench.models.bottom_up.model import People, typed
from workbench.models.naming import taps_of
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import Tensor, nn

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
        if not self.scales or min(self.scales) <= 0 or (len(self.scales) > 1 and 1.0 not in self.scales):
            raise ValueError(f"scales: expected one, or several with 1 among them, got {list(self.scales)}")
        if self.taps is None:
            object.__setattr__(self, "taps", taps_of(self.module))

    def place(self, image: tuple[int, int], scale: float = 1.0) -> Resizing:
        """Where the input of an image (height, width) at one scale lies."""
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
        kept: Kept | None = None,
    ) -> Maps:
        """The maps of one row of a batch, ready to be grouped. No forward pass.

        Several readings of one row share what is alike between them through `kept`, an empty dict at first.

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
        return aggregated(seen, places, self.place(image).size, image, mirror, settings, kept)

    def group(
        self,
        outputs: Outputs,
        batch: Batch,
        grouping: GroupingSettings | None = None,
        aggregation: Aggregation | None = None,
        trace: bool = False,
    ) -> tuple[People, ...]:
        """Everybody in each image of a batch, by these rules or the model's own. No forward pass.

        Raises:
            NotAvailable: no tags.
            ValueError: a map holds nan, or maps are not as declared.
        """
        found = []
        for n in range(len(batch)):
            maps = self.maps(outputs, batch, n, aggregation)
            groups = group(maps.heatmaps, maps.tags, grouping or self.grouping, trace)
            found.append(People.of(groups, maps.to_image))
        return tuple(found)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """For each sample the person whose extent overlaps its box best; all nan where nobody's does."""
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
            f"{name} {_said(getattr(self.grouping, name))}"
            for name in fields
            if getattr(self.grouping, name) != getattr(HIGHERHRNET, name)
        ]
        told = f"grouping {', '.join(changed)}" if changed else "grouping as HigherHRNet"
        return f"{told}, solver {solver_text(self.grouping.solver)}"

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

    def _seen(self, outputs: Outputs, n: int, mirrored: bool, scale: float) -> Seen:
        if outputs.heatmaps is None or outputs.tags is None:
            absent = "heatmaps" if outputs.heatmaps is None else "tags"
            raise NotAvailable(f"{absent}: the network gave none, so there is nothing to group")
        count = outputs.tags.shape[1]
        if count != self.tags * self.tag_size:
            raise ValueError(
                f"tag layout: {self.tags} tag maps of {self.tag_size} values are declared, the outputs have "
                f"{count} channels of tags"
            )
        if outputs.heatmaps.shape[1] != len(self.skeleton):
            raise ValueError(
                f"heatmaps: {len(self.skeleton)} keypoints are declared, the outputs have "
                f"{outputs.heatmaps.shape[1]} channels"
            )
        coarse = None if outputs.coarse is None else outputs.coarse[n].detach().float().cpu()
        maps, tags = (t[n].detach().float().cpu() for t in (outputs.heatmaps, outputs.tags))
        return Seen(maps, coarse, tags.unflatten(0, (self.tag_size, self.tags)), mirrored, scale)


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
