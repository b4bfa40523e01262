"""workbench ablate faults: which mistake of an inference script is in this pipeline?"""

from __future__ import annotations

from workbench.cli.ablate import Category, Limit, swept
from workbench.cli.options import (
    Adapter,
    Config,
    Data,
    Demo,
    Device,
    Family,
    Files,
    Flip,
    Images,
    Out,
    Partial,
    Remap,
    Rule,
    model_files,
)
from workbench.cli.output import Answer
from workbench.core import FLIP_BY_DEFAULT


def faults(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    device: Device = "cpu",
    rule: Rule = None,
    flip: Flip = FLIP_BY_DEFAULT,
    limit: Limit = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Which mistake is in this pipeline? AP with each of the usual ones undone, one at a time."""
    from workbench.evaluation.ablation import fault_variants

    opening = {
        "config": config,
        "family": family,
        "adapter": adapter,
        "remap": remap,
        "allow_partial": allow_partial,
        "device": device,
    }
    return swept(
        lambda model: lambda outputs: fault_variants(model, outputs, flip),
        "faults",
        (model_files(files), data, images, category),
        opening,
        rule or [],
        flip,
        None,
        limit,
        out,
        demo,
    )
