"""What the config's sizes alone decide: the AP that the codec leaves, and a mask that nothing can pass."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Effect, Measurement
from workbench.core.python_text import literal_of
from workbench.core.report import counted
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.text_causes import recipe_name
from workbench.diagnosis.texts import source_text
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from workbench.core import Skeleton
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.codecs import Setup
    from workbench.evaluation.codecs.encoding_error import CodecError

# AP that a codec may cost before it is worth another one.
LEAST_COST = 0.005
# Images whose annotated instances give the ceiling.
MOST_IMAGES = 100
# Cells of a map per input pixel, and sigma in cells of 64 rows, where a config says nothing.
STRIDE, ROWS_OF_SIGMA = 4, 64
# COCO's, of which the finding says how many pass.
KEYPOINTS = 17
# Characters of a line that are looked at; what is longer is no code that somebody wrote.
_LINE = 2000
_NUMBERS = re.compile(r"\b(\w+)\s*(?::\s*float\s*)?=\s*(\d{1,30}(?:\.\d{1,30})?|\.\d{1,30})\b")
_SOFTMAX = re.compile(r"softmax\s*\(")
# Every comparison: an expression with `conf` between two \w* takes hours on one long word. What is compared
# with is looked ahead at, as another comparison may begin there.
_ABOVE = re.compile(r"\b(\w+)\s*>=?\s*(?=(\w+|[\d.]+))")


@dataclass(frozen=True)
class Sizes:
    """Sizes of input and output of a heatmap config.

    Attributes:
        input_size: (height, width), pixels.
        heatmap_size: (h, w), cells.
        sigma: of the Gaussian, cells; None where the config says nothing.
        udp: whether places are those of UDP.
        source: where they are from, in words.
    """

    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float | None
    udp: bool
    source: str

    @property
    def codec(self) -> str:
        """Name of the decoder with which such maps are usually read."""
        return "udp" if self.udp else "quarter"

    @property
    def is_tall(self) -> bool:
        """Whether the input is higher than it is wide."""
        return self.input_size[0] > self.input_size[1]

    def same(self, other: Sizes) -> bool:
        """Whether two configs have the same maps."""
        return (self.input_size, self.heatmap_size, self.udp) == (
            other.input_size, other.heatmap_size, other.udp,
        )  # fmt: skip

    def setup(self) -> Setup:
        """For the measurement."""
        from workbench.evaluation.codecs import Setup

        return Setup(self.input_size, self.heatmap_size, self.sigma)


def own_sizes(case: Case) -> Sizes:
    """The sizes that the user's config states.

    Raises:
        NotAvailable: there is no config, or it states no input size.
    """
    from workbench.recipes.values import decisions_of

    own = _sizes(decisions_of(case.config()).get, "the config")
    name = recipe_name(case)
    published = _published(name) if name else None
    if published is None or own.is_tall == published.is_tall:
        return own
    # Written as (height, width): the audit says so, and the codec is measured as it was meant.
    turned = dataclasses.replace(own, input_size=own.input_size[::-1], heatmap_size=own.heatmap_size[::-1])
    return dataclasses.replace(turned, source="the config, read as height x width")


def _published(name: str) -> Sizes | None:
    """The sizes of a published recipe; None where it has no heatmaps."""
    from workbench.recipes.recipe import recipe

    return available(lambda: _sizes(recipe(name).get, name), None)


def _sizes(get: Any, source: str) -> Sizes:
    from workbench.recipes.comparison import numbers

    kind = str(get("codec.type") or "")
    if kind and "Heatmap" not in kind:
        raise NotAvailable(
            f"{source} has no heatmaps ({kind}); the ceiling of SimCC is what `workbench codec` shows"
        )
    size, cells, sigma = (
        numbers(get("codec.input_size")),
        numbers(get("codec.heatmap_size")),
        get("codec.sigma"),
    )
    if size is None:
        raise NotAvailable(f"{source} states no input size")
    W, H = (int(v) for v in size)
    w, h = (int(v) for v in cells) if cells is not None else (W // STRIDE, H // STRIDE)
    given = float(sigma) if isinstance(sigma, (int, float)) else None
    return Sizes((H, W), (h, w), given, "UDP" in kind, source)


class CodecCeiling(Cause):
    """Encoding and decoding at the config's sizes cost AP, whatever the network learns."""

    name, group, level, needs = "codec ceiling", "output", "forward", ("config with heatmap sizes",)
    refuted_by = "`workbench codec` at these sizes on the annotations of your own data"

    def test(self, case: Case) -> Answer:
        own, name = own_sizes(case), recipe_name(case)
        published = _published(name) if name else None
        sizes = [own] if published is None or own.same(published) else [own, published]
        case.once("codec sizes", lambda: sizes)
        judged = _judged(case)
        errors = [self._measured(case, one, judged) for one in sizes]
        mine = errors[0]
        by_size = [_error_text(size, error) for size, error in zip(sizes, errors, strict=True)]
        best = max(error.ap_ceiling for error in errors)
        cost = max(best, 1.0) - mine.ap_ceiling
        text = f"encoding and decoding alone, {judged.words}: {', '.join(by_size)}"
        if cost < LEAST_COST:
            return RuledOut(f"{text}; so the size of the maps is not where AP is lost")
        return self.found(
            text,
            fix="take larger maps, or a decoder with sub-pixel places (UDP, DARK)",
            severity="warning",
            effect=Effect("AP", cost, protocol=f"perfect maps, {judged.words}"),
            numbers=(Measurement("AP ceiling", mine.ap_ceiling, expected=1.0),),
        )

    def _measured(self, case: Case, size: Sizes, judged: _Judged) -> CodecError:
        from workbench.evaluation.codecs import codec_errors

        case.step()
        of = {"pose_set": judged.pose_set, "image_ids": judged.image_ids, "skeleton": judged.skeleton}
        return codec_errors([size.setup()], [size.codec], **of).codecs[0]


@dataclass(frozen=True)
class _Judged:
    """Whose boxes and OKS constants a ceiling is measured with.

    Attributes:
        words: for people.
        pose_set: annotated instances; None where none are given.
        image_ids: of the set that are looked at.
        skeleton: of the config's data set, for an instance of an assumed size; None for COCO's.
    """

    words: str = "for a person of 100x200 image pixels"
    pose_set: PoseSet | None = None
    image_ids: tuple[int, ...] | None = None
    skeleton: Skeleton | None = None


def _judged(case: Case) -> _Judged:
    """The user's own instances, else the keypoints that the config describes, else COCO's."""
    pose_set = available(case.pose_set, None)
    if pose_set is not None and pose_set.skeleton.sigmas:
        ids = tuple(n for n in pose_set.images if pose_set.labelled_of_image.get(n))[:MOST_IMAGES]
        count = sum(len(pose_set.labelled_of_image[n]) for n in ids)
        return _Judged(f"with the boxes of {counted(count, 'annotated instance')}", pose_set, ids)
    skeleton = _described(case)
    if skeleton is None or not skeleton.sigmas or skeleton.sigmas == SKELETONS["coco-17"].sigmas:
        return _Judged()
    words = "for an instance of 100x200 image pixels, with the OKS sigmas of the config's data set"
    return _Judged(words, skeleton=skeleton)


def _described(case: Case) -> Skeleton | None:
    """The keypoints of the data set that a config describes; None where none fit its head."""
    from workbench.models.mmpose.config import config_values, described_by, described_in
    from workbench.recipes.values import decisions_of

    K = decisions_of(case.config()).get("head.out_channels")
    try:
        with config_values():
            described = [described_by(meta)[0] for _, meta in described_in(case.config())]
    except (ValueError, NotAvailable):
        return None  # what is odd in them is said by the audit
    return next((one for one in described if K in (None, len(one))), None)


def _error_text(size: Sizes, error: CodecError) -> str:
    (H, W), (h, w) = size.input_size, size.heatmap_size
    kind = "UDP Gaussian" if size.udp else "plain Gaussian, quarter of a cell towards the neighbour"
    return (
        f"{size.source} ({W}x{H}, maps {w}x{h}, {kind}) leaves AP {error.ap_ceiling:.3f} and a mean error of "
        f"{error.image_px:.2f} image px"
    )


@dataclass(frozen=True)
class Mask:
    """A confidence mask as code writes it.

    Attributes:
        threshold: above which a keypoint counts.
        temperature: of the softmax over the cells; 0 for none.
        line: first line of the comparison in its text.
        source: name of the file.
    """

    threshold: float
    temperature: float
    line: int
    source: str


def masks_in(text: str, source: str) -> Iterator[Mask]:
    """Confidence masks after a softmax over the cells, in code or in a text with code.

    Nothing is run: defaults of parameters and plain assignments give the numbers.

    Args:
        text: of the file.
        source: its name.
    """
    numbers = {name: float(value) for name, value in _NUMBERS.findall(text[:1_000_000])}
    lines = [line[:_LINE] for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        found = next((one for one in _ABOVE.finditer(line) if "conf" in one[1]), None)
        before = "\n".join(lines[max(0, number - 25) : number])
        if found is None or not _SOFTMAX.search(before):
            continue
        threshold = numbers.get(found[2], _number(found[2]))
        divided = re.search(r"softmax\([^\n]*/\s*(\w+|[\d.]+)", before)
        temperature = 1.0 if divided is None else numbers.get(divided[1], _number(divided[1]))
        if threshold is not None and temperature:
            yield Mask(threshold, temperature, number, source)


def _number(word: str) -> float | None:
    try:
        return float(literal_of(word))
    except (ValueError, SyntaxError, TypeError):
        return None


class MaskPassesNothing(Cause):
    """A confidence mask that even a perfect map does not pass, so that its loss is always 0."""

    name, group, needs = "consistency loss is always 0", "training", ("code of the loss", "map size")
    refuted_by = "one keypoint of one batch above the threshold"

    def test(self, case: Case) -> Answer:
        from workbench.training.consistency import best_confidence

        found = [mask for path in (*case.given.code, *case.given.statements) for mask in masks_in(
            source_text(path), path.name)]  # fmt: skip
        if not found:
            raise NotAvailable("no code with a confidence mask after a softmax was given")
        size = available(lambda: own_sizes(case), Sizes((256, 192), (64, 48), None, False, "the usual size"))
        h, w = size.heatmap_size
        sigma = size.sigma or 2.0 * h / ROWS_OF_SIGMA
        mask = found[0]
        best = best_confidence(h, w, sigma, mask.temperature)
        what = (
            f"{mask.source}, line {mask.line}: a keypoint counts where softmax(map / {mask.temperature:g}) "
            f"exceeds {mask.threshold:g}; over {h}x{w} cells ({size.source}, sigma {sigma:.3g}) even a "
            f"perfect map reaches only {best:.2g}"
        )
        K = KEYPOINTS
        if best > mask.threshold:
            return RuledOut(f"{what}, so it can pass")
        return self.found(
            f"{what}: 0 of {counted(K, 'keypoint')} of a perfect prediction pass, so the loss is 0 whatever "
            "the network gives",
            fix="compare the peak of the map itself with .5, before any softmax, or leave the mask out",
            numbers=(
                Measurement("largest confidence of a perfect map", best, expected=mask.threshold),
                Measurement("keypoints of a perfect prediction that pass", 0, expected=K),
            ),
            where=mask.source,
        )


CAUSES: Sequence[Cause] = (CodecCeiling(), MaskPassesNothing())
