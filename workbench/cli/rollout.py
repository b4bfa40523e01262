"""workbench rollout: what does a sequence model lose when it has to read its own answers?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import Adapter, Data, Demo, Device, Images, Out

if TYPE_CHECKING:
    from workbench.records import Sample
    from workbench.rollout.lab import Rollout

Files = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(help="Checkpoints of one run, in the order of their epochs; the last one is looked into."),
]
Instance = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--instance", help="Key of the instance: image/annotation; the first labelled by default."),
]
Category = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--category", help="The category to read, where the json has several (MP-100)."),
]
Support = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--support", help="Key of the support example; by default the instance itself."),
]
Threshold = Annotated[float, typer.Option("--threshold", help="Of PCK, share of the normaliser.")]
Normaliser = Annotated[
    str, typer.Option("--normaliser", help="longer side (MP-100), diagonal, or root of area; of the box.")
]
DEMO = "cape-demo"


def command(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    instance: Instance = None,
    support: Support = None,
    adapter: Adapter = None,
    threshold: Threshold = 0.2,
    normaliser: Normaliser = "longer side",
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Errors step by step with the truth given and without, and what the support does."""
    from workbench.models import open_model
    from workbench.rollout import forced_and_free
    from workbench.rollout.lab import compute
    from workbench.rollout.pck import PckRule
    from workbench.run import run

    if demo:
        files, data = files or _demo_files(), data or "scenes-val"
    if not files and not adapter:
        raise ValueError("rollout: expected a checkpoint or --adapter; --demo shows the built-in one")
    rule = PckRule(threshold, normaliser)  # type: ignore[arg-type] - PckRule refuses others
    knobs = forced_and_free.Params(rule.threshold, rule.normaliser)
    sample, helper, others = _samples(data or "scenes-val", images, category, instance, support)
    runs = []
    for file in files or [None]:
        loaded = open_model(file, adapter=adapter, device=device)
        model: Any = loaded.model
        if helper is not None:
            if not hasattr(model, "supported_by"):
                raise ValueError("--support: this model takes no support example of its own")
            model = model.supported_by([helper])
        runs.append(run(model, [sample], title=loaded.title))
    report = compute(runs[-1], rule, others)
    compared = [(looked.title, forced_and_free.compute(looked, knobs)) for looked in runs[:-1]]
    epochs = [
        {"title": title, "pck_forced": steps.pck_forced, "pck_free": steps.pck_free, "gap": steps.gap}
        for title, steps in [*compared, (report.title, report.steps)]
    ]
    if out is not None:
        report.plot().write_html(out)
    return Answer({**report.to_json(), "epochs": epochs}, _text(report, epochs))


def _demo_files() -> list[Path]:
    from workbench.records import NotAvailable

    folder = Path(__file__).resolve().parents[2] / "checkpoints" / DEMO
    found = sorted(folder.glob("epoch_*.pth"), key=lambda path: int(path.stem.rpartition("_")[2]))
    if not found:
        raise NotAvailable(f"{DEMO}: no checkpoints in {folder}; they come with the repository")
    return found


def _samples(
    data: str, images: Path | None, category: str | None, instance: str | None, support: str | None
) -> tuple[Sample, Sample | None, list[Sample]]:
    """The instance, its support if one was named, and an example of another image."""
    from workbench.data import open_data
    from workbench.records import nearest

    chosen = open_data(data, images, category)
    keys = {
        f"{chosen.images[chosen.instances[i].image_id].path.stem}/{chosen.instances[i].annotation_id}": i
        for i in chosen.labelled
    }
    if not keys:
        raise ValueError(f"{data}: no instance has a visible keypoint")
    for option, key in (("--instance", instance), ("--support", support)):
        if key is not None and key not in keys:
            raise ValueError(f"{option}: no {key!r} in {data}; nearest: {nearest(key, keys)}")
    first = keys[instance] if instance else chosen.labelled[0]
    image = chosen.instances[first].image_id
    others = [i for i in chosen.labelled if chosen.instances[i].image_id != image][:1]
    helper = chosen.sample(keys[support]) if support else None
    return chosen.sample(first), helper, chosen.samples(others)


def _text(report: Rollout, epochs: list[dict[str, Any]]) -> str:
    lines = [report.summary(), "", f"{'step':<4} {'keypoint':<20} forced   free"]
    for row in report.table():
        lines.append(
            f"{row['step']:<4} {row['keypoint']:<20} {_number(row['forced'])}  {_number(row['free'])}"
        )
    curve = ", ".join(f"{row['k']}: {row['pck']:.2f}" for row in report.prefix.curve)
    lines += ["", f"PCK with the first k tokens given   {curve}"]
    if report.support is not None:
        uses = ", ".join(f"{k} {v:.2f}" for k, v in report.support.by_kind.items())
        lines += [f"PCK by support                      {uses}", report.support.summary()]
    for part in (report.corruption, report.types, report.coordinates):
        if part is not None:
            lines.append(part.summary())
    lines += [f"{question}: {why}" for question, why in report.missing.items()]
    for epoch in epochs:
        lines.append(f"{epoch['title']}: PCK {epoch['pck_forced']:.2f} forced, {epoch['pck_free']:.2f} free")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "      " if value is None else f"{value:6.3f}"
