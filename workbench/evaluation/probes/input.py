"""The alternatives that `workbench probe input` tries: how images become the input of a network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Groups, NotAvailable, PoseModel, Sample
from workbench.core.geometry import crop_region, input_to_image
from workbench.evaluation.probes.intervention import (
    Colours,
    Intervention,
    Moved,
    NotTried,
    Recoloured,
    Recropped,
    Transposed,
    colours_of,
)
from workbench.evaluation.probes.probe_report import ProbeReport
from workbench.evaluation.probes.probing import probe
from workbench.models.bottom_up import BottomUp
from workbench.models.bottom_up.model import with_rules

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.evaluation.keypoint_ap import KeypointAP

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "raw pixels 0..255": ((0, 0, 0), (1, 1, 1)),
    "pixels in 0..1": ((0, 0, 0), (255, 255, 255)),
    "ImageNet mean and std": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "pixels in -1..1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "ImageNet mean, not divided": ((123.675, 116.28, 103.53), (1, 1, 1)),
    "CLIP mean and std": ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323)),
}
"""Name -> mean and std of (r, g, b) in 0..255. Sources: torchvision's and mmpose's ImageNet numbers; OpenAI
CLIP's preprocessing; Keras' `tf` and `caffe` modes."""

# Two functions of colours are one if no colour differs by more than this share of the channels' range.
_SAME = 0.01
# Correlation of a crop and the same crop cut again; rounding and UDP leave it above .99.
_SHOWS_THE_SAME, _SHOWS_EXACTLY = 0.9, 0.985
PADDINGS = (1.0, 1.1, 1.25, 1.4, 1.6, 2.0)
"""Published factors on the box before it is cropped; 1.25 is mmpose's."""
INPUT_SCALES = (0.5, 0.75, 1.5, 2.0)
"""Of a bottom-up model: other sizes of its input, factors on the short side."""


def probe_input(
    model: PoseModel,
    samples: Iterable[Sample],
    *,
    title: str = "",
    rounds: int = 3,
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
    evaluated: Callable[[PoseModel], KeypointAP] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ProbeReport:
    """What is wrong with the input of a model, found by trying the alternatives on labelled samples.

    Args:
        model: as it is opened.
        samples: labelled.
        title: of the model and the data.
        rounds: after a finding, the other causes are tried on the mended model.
        sigmas: OKS constants; the model's own by default.
        seed: of the bootstrap.
        evaluated: AP of a model on the same set, see `workbench.evaluation.probes.probing.ap_of`.
        progress: called with (done, total).
        cancelled: asked before each batch.

    Example:
        >>> from workbench.data import builtin
        >>> from workbench.evaluation.probes import probe_input
        >>> from workbench.models.fresh import new_model
        >>> pose_set = builtin("astronaut")
        >>> model, title = new_model("hrnet", skeleton=pose_set.skeleton)
        >>> report = probe_input(model, pose_set.samples(), title=title)  # doctest: +SKIP
    """
    return probe(
        model, samples, input_interventions, title=title, rounds=rounds, sigmas=sigmas, seed=seed,
        evaluated=evaluated, progress=progress, cancelled=cancelled,
    )  # fmt: skip


def input_interventions(
    model: PoseModel, samples: Sequence[Sample]
) -> tuple[list[Intervention], list[NotTried]]:
    """All alternatives to how images become a model's input, and the causes that cannot be examined.

    Args:
        model: as it is opened.
        samples: at least one; what the model makes of colours and boxes is measured on the first ones.
    """
    made: list[Intervention] = []
    skipped: list[NotTried] = []
    try:
        colours: Colours | None = colours_of(model, samples[0])
    except NotAvailable as reason:
        colours = None
        skipped += [NotTried(c, str(reason)) for c in ("value range", "channel order", "normalisation")]
    if colours is not None:
        made += _colour_interventions(colours)
    shape = tuple(model.prepare(samples[:1]).pixels.shape[-2:])
    made += _axes(shape)
    if isinstance(model, Groups):
        made += _input_scales(model, skipped)
    elif colours is None:
        made += _normalised_again()
        skipped.append(
            NotTried("crop padding", "crops are cut again in the model's colours, which are not known")
        )
    else:
        alike, turned = _likeness(model, samples, colours)
        if alike < _SHOWS_THE_SAME:
            reason = f"the model's crops do not show what its affine says (correlation {alike:.2f})"
            skipped.append(NotTried("crop padding", f"{reason}: mend that first"))
        else:
            made += _crops(model, samples, colours, shape)
            made += _sizes(model, samples, colours, shape, skipped)
        if alike < _SHOWS_EXACTLY and turned < _SHOWS_THE_SAME:
            made.append(_cut_again(colours, alike))
    made += _shifts(model, samples, shape)
    return made, skipped


# Colours.


def _colour_interventions(colours: Colours) -> list[Intervention]:
    tried = [colours]
    made: list[Intervention] = []

    def add(name: str, cause: str, about: str, fix: str, other: Colours) -> None:
        if any(_alike(other, one) for one in tried):
            return
        tried.append(other)
        matrix, offset = colours.change_to(other)
        apply = functools.partial(Recoloured, matrix=matrix, offset=offset)
        made.append(Intervention(name, cause, about, fix, apply))

    for factor, name, words in (
        (255.0, "pixels times 255", "in 0..255 instead of 0..1"),
        (1 / 255, "pixels divided by 255", "in 0..1 instead of 0..255"),
    ):
        add(
            name, "value range", f"pixels {words}, before mean and std",
            f"Give the network pixels {words} before mean and std are applied.",
            Colours(colours.matrix * factor, colours.offset),
        )  # fmt: skip
    exchanged = Colours(colours.matrix[:, ::-1].copy(), colours.offset)
    now, then = (_letters(c) for c in (colours, exchanged))
    add(
        "red and blue exchanged", "channel order", f"channels {then} instead of {now}",
        f"Give the network its channels as {then}; they are given as {now}.", exchanged,
    )  # fmt: skip
    if _letters(colours) not in ("RGB", "BGR"):
        upright = Colours(colours.matrix[:, list(colours.order)], colours.offset)
        for other in (upright, Colours(upright.matrix[:, ::-1].copy(), upright.offset)):
            then = _letters(other)
            add(
                f"channels as {then}", "channel order", f"channels {then} instead of {now}",
                f"Give the network its channels as {then}; they are given as {now}.", other,
            )  # fmt: skip
    for name, (mean, std) in NORMALISATIONS.items():
        m, s = np.array(mean, float), np.array(std, float)
        other = Colours(
            np.eye(3)[list(colours.order)] / s[list(colours.order), None], (-m / s)[list(colours.order)]
        )
        add(
            name, "normalisation", f"mean {_said(m)}, std {_said(s)} of pixels in 0..255",
            f"Normalise with mean {_said(m)} and std {_said(s)} on pixels in 0..255 ({name}).", other,
        )  # fmt: skip
    return made


def _alike(one: Colours, other: Colours) -> bool:
    corners = np.array(np.meshgrid([0, 255], [0, 255], [0, 255])).reshape(3, -1)
    a, b = (c.matrix @ corners + c.offset[:, None] for c in (one, other))
    # In units of the other's range, so that 0..1 and 0..255 are told apart.
    return bool(np.abs(a - b).max() < _SAME * max(np.ptp(a), 1e-12))


def _letters(colours: Colours) -> str:
    return "".join("RGB"[c] for c in colours.order)


def _said(values: Float[np.ndarray, " 3"]) -> str:
    return f"({', '.join(f'{v:g}' for v in values)})"


# Axes and sizes.


_AXES = "width and height exchanged"


def _axes(shape: tuple[int, ...]) -> list[Intervention]:
    """X and y of the input, of the output, or of both exchanged."""
    H, W = shape
    made = []
    for name, pixels, outputs in (
        ("input transposed", True, False),
        ("output transposed", False, True),
        ("input and output transposed", True, True),
    ):
        # An output alone can be transposed only where that does not change its shape.
        if pixels or H == W:
            what = " and ".join(w for w, on in (("the input", pixels), ("the output", outputs)) if on)
            apply = functools.partial(Transposed, pixels=pixels, outputs=outputs)
            fix = f"Exchange x and y of {what}: arrays are (height, width), sizes in configs (width, height)."
            made.append(Intervention(name, _AXES, f"axes x and y of {what} exchanged", fix, apply,
                                     decode_only=not pixels))  # fmt: skip
    return made


def _sizes(
    model: PoseModel,
    samples: Sequence[Sample],
    colours: Colours,
    shape: tuple[int, ...],
    skipped: list[NotTried],
) -> list[Intervention]:
    """An input as wide as it was high."""
    H, W = shape
    if H == W:
        return []
    if model.codec is None:
        skipped.append(NotTried(_AXES, "another input size needs the model's codec, and it states none"))
        return []
    padding = _padding(model, samples)
    less = 1 if model.codec.udp else 0
    read = (1.0, 1.0)
    if model.codec.kind == "heatmap":
        read = ((H - less) / (W - less), (W - less) / (H - less))
    apply = functools.partial(
        Recropped, colours=colours, region=functools.partial(_kept_aspect, padding, model.codec.udp),
        size=(W, H), read=read,
    )  # fmt: skip
    return [
        Intervention(
            f"input {H}x{W} (width x height)", _AXES, f"input {H}x{W} instead of {W}x{H} (width x height)",
            f"State the input size as width {H}, height {W}: mmpose's configs have (width, height), arrays "
            "(height, width).", apply,
        )
    ]  # fmt: skip


# Crops.


def _likeness(model: PoseModel, samples: Sequence[Sample], colours: Colours) -> tuple[float, float]:
    """Correlation of the model's crops with crops cut again where its affine says, and with those transposed.

    Crops can be cut otherwise only where they show the same. Else another region would mend whatever is wrong
    with them (exchanged axes), and padding would be blamed.
    """
    part = list(samples[:4])
    own = model.prepare(part).pixels.double().cpu().numpy()
    again = Recropped(model, colours, _same).prepare(part).pixels.double().cpu().numpy()

    def alike(one: np.ndarray) -> float:
        if one.shape != again.shape:
            return 0.0
        a, b = (v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1, keepdims=True) for v in (one, again))
        size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return float(np.median((a * b).sum(1) / np.where(size > 0, size, np.inf)))

    return alike(own), alike(own.swapaxes(-1, -2))


def _cut_again(colours: Colours, alike: float) -> Intervention:
    """Crops that show what the affine says, in the model's own colours."""
    return Intervention(
        "crops cut again where the affine says", "crops differ from their affine",
        f"crops that show what their affine says; the model's own are not these (correlation {alike:.2f})",
        "Look for what changes pixels after the crop and leaves the affine as it is: a flip, a shift, "
        "another resize, an augmentation that erases a part.",
        functools.partial(Recropped, colours=colours, region=_same),
    )  # fmt: skip


def _normalised_again() -> list[Intervention]:
    """Crops in the usual colours, where the model's own are no affine function of the image's."""
    name = "ImageNet mean and std"
    mean, std = (np.array(values, float) for values in NORMALISATIONS[name])
    apply = functools.partial(Recropped, colours=Colours(np.diag(1 / std), -mean / std), region=_same)
    about = f"mean {_said(mean)}, std {_said(std)} of pixels in 0..255, and nothing clipped"
    fix = f"Normalise with mean {_said(mean)} and std {_said(std)}, and clip nothing after it."
    return [Intervention(name, "normalisation", about, fix, apply)]


def _same(affine, box, size):
    """The model's own region."""
    return affine


def _padding(model: PoseModel, samples: Sequence[Sample]) -> float:
    """The factor on the box that the model's own crops have, measured; the smaller of both axes."""
    part = list(samples[:8])
    batch = model.prepare(part)
    H, W = batch.pixels.shape[-2:]
    ratios = []
    for affine, sample in zip(batch.to_image, part, strict=True):
        x0, y0, x1, y1 = sample.box
        size = abs(affine[0, 0]) * W, abs(affine[1, 1]) * H
        ratios.append(min(size[0] / (x1 - x0), size[1] / (y1 - y0)))
    return float(np.median(ratios))


def _kept_aspect(padding, udp, affine, box, size):
    """The usual region: the box times a factor, widened to the input's aspect."""
    centre, wide = crop_region(box, size, padding)
    return input_to_image(centre, wide, size, udp)


def _stretched(padding, udp, affine, box, size):
    """The box times a factor, squeezed into the input's aspect."""
    x0, y0, x1, y1 = box
    wide = np.array([x1 - x0, y1 - y0]) * padding
    return input_to_image(np.array([x0 + x1, y0 + y1]) / 2, wide, size, udp)


def _scaled(factor, udp, affine, box, size):
    """The same region about its centre, larger by a factor."""
    H, W = size
    less = 1 if udp else 0
    middle = np.array([(W - less) / 2, (H - less) / 2])
    linear = affine[:, :2] * factor
    centre = affine[:, :2] @ middle + affine[:, 2]
    return np.concatenate([linear, (centre - linear @ middle)[:, None]], 1)


def _crops(
    model: PoseModel, samples: Sequence[Sample], colours: Colours, shape: tuple[int, ...]
) -> list[Intervention]:
    """Other factors on the box; an aspect that is kept or not."""
    udp = model.codec is not None and model.codec.udp
    padding = _padding(model, samples)
    cut = functools.partial(Recropped, colours=colours)
    made = []
    for other in PADDINGS:
        if abs(other / padding - 1) > 0.05:
            made.append(
                Intervention(
                    f"box padding {other:g}", "crop padding",
                    f"boxes times {other:g} instead of {padding:.3g}",
                    f"Multiply boxes by {other:g} before they are cropped, not by {padding:.3g}.",
                    functools.partial(cut, region=functools.partial(_scaled, other / padding, udp)),
                )
            )  # fmt: skip
    if _squeezes(model, samples):
        name, region = "aspect kept", functools.partial(_kept_aspect, padding, udp)
        about, fix = ("boxes widened to the input's aspect", "Widen boxes to the input's aspect first.")
    else:
        name, region = "boxes stretched", functools.partial(_stretched, padding, udp)
        about, fix = (
            "boxes squeezed into the input's aspect",
            "Resize boxes to the input without keeping their aspect.",
        )
    made.append(Intervention(name, "crop padding", about, fix, functools.partial(cut, region=region)))
    return made


def _squeezes(model: PoseModel, samples: Sequence[Sample]) -> bool:
    """The model's crops have another scale along x than along y."""
    scales = np.abs([[a[0, 0], a[1, 1]] for a in model.prepare(list(samples[:8])).to_image])
    return bool(np.median(np.abs(np.log(scales[:, 0] / scales[:, 1]))) > 0.02)


def _input_scales(model: PoseModel, skipped: list[NotTried]) -> list[Intervention]:
    """Other input sizes of a bottom-up model."""
    if not isinstance(model, BottomUp):
        skipped.append(NotTried("crop padding", "the input's size of this bottom-up model cannot be changed"))
        return []
    made = []
    size = model.input_size
    sides = [size] if isinstance(size, int) else list(size)
    tried = [sides]
    for factor in INPUT_SCALES:
        wanted = [
            max(model.multiple, round(side * factor / model.multiple) * model.multiple) for side in sides
        ]
        if wanted in tried:
            continue
        tried.append(wanted)
        word = ",".join(map(str, wanted))
        made.append(
            Intervention(
                f"input size {word}", "crop padding", f"the short side {word} instead of {sides[0]} pixels",
                f"Give the network its images with a short side of {word} pixels (--rule input_size={word}).",
                functools.partial(_with_size, word=word),
            )
        )  # fmt: skip
    return made


def _with_size(model: PoseModel, word: str) -> PoseModel:
    if not isinstance(model, BottomUp):
        raise NotAvailable("the input's size of this bottom-up model cannot be changed")
    return with_rules(model, [f"input_size={word}"])


# Half pixels.


def _shifts(model: PoseModel, samples: Sequence[Sample], shape: tuple[int, ...]) -> list[Intervention]:
    """Shifts of half a pixel and half a cell; UDP's scale against the plain one."""
    H, W = shape
    made = []
    cell = 1.0
    if model.codec is not None and model.codec.kind == "heatmap":
        cell = model.codec.input_size[1] / model.codec.output_size[1]
    shifts = {f"{s:+g} input pixels": s for s in (-0.5, 0.5)}
    shifts |= {f"{'+' if s > 0 else '-'}half a cell ({s * cell:+g} input pixels)": s * cell
               for s in (-0.5, 0.5) if cell > 1}  # fmt: skip
    for name, shift in shifts.items():
        made.append(
            Intervention(
                f"keypoints {name}", "half-pixel shift", f"keypoints moved by {shift:+g} px in x and y",
                f"Move decoded keypoints by {shift:+g} input pixels in x and y: pixel or cell centres are "
                "counted from another corner.",
                functools.partial(Moved, shift=(shift, shift)), decode_only=True, fine=True,
            )
        )  # fmt: skip
    if not isinstance(model, Groups) and min(H, W) > 1:
        made += _affines(model, H, W)
    return made


def _affines(model: PoseModel, H: int, W: int) -> list[Intervention]:
    """UDP's counts of pixels and cells against the plain ones."""
    codec = model.codec
    udp = codec is not None and codec.udp
    now, then = ("UDP", "plain") if udp else ("plain", "UDP")
    factors = {"affine": (1 - 1 / W, 1 - 1 / H)}
    if codec is not None and codec.kind == "heatmap":
        h, w = codec.output_size
        # From cells times W / w to cells times (W - 1) / (w - 1).
        factors["codec"] = ((1 - 1 / W) / (1 - 1 / w), (1 - 1 / H) / (1 - 1 / h))
    made = []
    for what, (x, y) in factors.items():
        factor = (1 / x, 1 / y) if udp else (x, y)
        where = "Crop with" if what == "affine" else "Decode with"
        made.append(
            Intervention(
                f"{then} {what} instead of {now}",
                "half-pixel shift",
                f"keypoints scaled about the input's corner by {factor[0]:.4f}, {factor[1]:.4f}",
                f"{where} the {then} {what}: {'pixels and cells' if what == 'codec' else 'pixels'} are "
                f"counted {'between outermost centres' if then == 'UDP' else 'from edge to edge'}.",
                functools.partial(Moved, factor=factor),
                decode_only=True,
                fine=True,
            )
        )
    return made
