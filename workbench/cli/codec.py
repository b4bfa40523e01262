"""workbench codec: what encoding and decoding alone cost at any size, over the input and at its borders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    DataOptions,
    Demo,
    Limit,
    Out,
    Sigmas,
    SkeletonName,
    check_limit,
    numbers_of,
    option,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, run_in_job, written
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.evaluation.codecs import Person, Setup

Input = Annotated[
    list[str] | None,
    option("--input", "Width x height of the network's input: 192x256 (default); may be repeated."),
]
Heatmap = Annotated[
    list[str] | None,
    option("--heatmap", "Width x height of the heatmaps: 48x64; a quarter of the input by default."),
]
Sigma = Annotated[
    list[float] | None,
    option("--sigma", "Sigma of the heatmap Gaussian, cells; by default 2 for 64 rows, in proportion."),
]
Split = Annotated[list[float] | None, option("--split", "SimCC bins per input pixel; 2 by default.")]
SimccSigma = Annotated[
    str | None, option("--simcc-sigma", "Sigma of SimCC, bins along x,y; the root of side / 8 by default.")
]
Blur = Annotated[int, option("--blur", "Blur kernel of DARK, UDP and Megvii, cells, odd.")]
Names = Annotated[
    list[str] | None,
    option("--codec", "argmax, quarter, dark, udp, simcc ...; may be repeated; all by default."),
]
PersonSize = Annotated[
    str, option("--person", "Width x height of the person's box, image pixels, for the AP ceiling.")
]
Padding = Annotated[float, option("--padding", "Factor on boxes before they are cropped.")]
DEMO_SIZES = (("192x256", "48x64", 2.0), ("768x1024", "192x256", 6.0))
"""ViTPose's and Sapiens' sizes: a plain Gaussian against UDP."""


def command(
    size: Input = None,
    heatmap: Heatmap = None,
    sigma: Sigma = None,
    split: Split = None,
    simcc_sigma: SimccSigma = None,
    blur: Blur = 11,
    codec: Names = None,
    person: PersonSize = "100x200",
    padding: Padding = 1.25,
    *,
    data: DataOptions,
    skeleton: SkeletonName = None,
    limit: Limit = None,
    sigmas: Sigmas = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Error of each codec over the whole input and at its borders, and the AP that it leaves.

    Several sizes are compared: the second --heatmap belongs to the second --input, and so on; one alone
    belongs to all. With --data the AP ceiling is measured on its annotations, through the crop of each
    person; images are not read.
    """
    if demo:
        if size is None:
            size = [demo_size for demo_size, _, _ in DEMO_SIZES]
            heatmap = heatmap or [cells for _, cells, _ in DEMO_SIZES]
            sigma = sigma or [cells for _, _, cells in DEMO_SIZES]
        codec = codec or ["quarter", "udp", "simcc"]
    check_limit(limit)
    check_file(out, *REPORT_ENDINGS)
    setups = _setups(size or ["192x256"], heatmap, sigma, split, simcc_sigma, blur)
    from workbench.evaluation.codecs import codec_errors
    from workbench.evaluation.protocol import judged_with

    pose_set = data.open("codec", skeleton=skeleton) if data.data is not None else None
    if pose_set is None and sigmas is not None:
        raise ValueError("--sigmas: expected --data, whose keypoints they are; --person is judged by COCO's")
    if pose_set is not None and sigmas is not None:
        pose_set = judged_with(pose_set, numbers_of(sigmas))
    ids = None if pose_set is None or limit is None else pose_set.first_images(limit)
    report = run_in_job(
        "encoding and decoding", codec_errors, setups, codec, person=_person(person, padding),
        pose_set=pose_set, image_ids=ids,
    )  # fmt: skip
    return written(Answer(report.to_json(), report.text()), out, report)


def _setups(
    sizes: list[str],
    heatmaps: list[str] | None,
    sigmas: list[float] | None,
    splits: list[float] | None,
    simcc_sigma: str | None,
    blur: int,
) -> list[Setup]:
    """The sizes that were asked for; the n-th of each option belongs to the n-th input, one alone to all.

    Raises:
        ValueError: a size is none, or an option was given neither once nor as often as --input.
    """
    from workbench.decoding.codecs import size_of
    from workbench.evaluation.codecs import Setup

    columns: list[list[Any]] = []
    for name, given in (("--heatmap", heatmaps), ("--sigma", sigmas), ("--split", splits)):
        values: list[Any] = list(given or [None])
        if len(values) not in (1, len(sizes)):
            raise ValueError(
                f"{name}: {counted(len(values), 'value')} for {len(sizes)} --input; expected one for all or "
                "each"
            )
        columns.append(values if len(values) == len(sizes) else values * len(sizes))
    bins = _pair(simcc_sigma)
    return [
        Setup(
            size_of(size),
            None if cells is None else size_of(cells),
            sigma,
            2.0 if split is None else split,
            bins,
            blur,
        )
        for size, cells, sigma, split in zip(sizes, *columns, strict=True)
    ]


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise ValueError(f"--simcc-sigma: expected one number of bins, or two with a comma, got {text!r}")
    return values[0], values[-1]


def _person(text: str, padding: float) -> Person:
    from workbench.decoding.codecs import size_of
    from workbench.evaluation.codecs import Person

    height, width = size_of(text)
    return Person(float(width), float(height), padding)
