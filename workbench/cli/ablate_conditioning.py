"""workbench ablate conditioning: what do condition, neck and refiner cost or give, with intervals?"""

from __future__ import annotations

from workbench.cli.conditioned import FilmTap, Limit, Text
from workbench.cli.options import Adapter, Config, Data, Demo, Device, Files, Images, Out
from workbench.cli.output import Answer


def conditioning(
    files: Files = None,
    config: Config = None,
    adapter: Adapter = None,
    film_tap: FilmTap = None,
    text: Text = None,
    data: Data = None,
    images: Images = None,
    limit: Limit = None,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """AP with and without every part, compared with the same path with the part."""
    from workbench.cli.conditioned import DEMO_LIMIT, demo_file, keep, newest, opened
    from workbench.cli.evaluate import Progress
    from workbench.cli.looking import as_columns, check_writable
    from workbench.data.opening import open_data
    from workbench.evaluation.protocol import judged_by
    from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
    from workbench.inspectors.conditioning.passes import spread

    if out is not None:
        check_writable(out)
    if demo:
        files, limit = files or [demo_file()], limit or DEMO_LIMIT
    loaded = opened(newest(files), text, film_tap, config=config, adapter=adapter, device=device)
    pose_set = open_data(data or "scenes-val", images)
    pose_set = judged_by(pose_set, loaded.model.skeleton)
    found = predicted(
        loaded.model, pose_set, spread(pose_set, limit), title=loaded.title,
        progress=Progress(f"all paths through {loaded.title}"),
    )  # fmt: skip
    report, order = ablation(found, loaded.title), ranking(found, pose_set, loaded.title)
    facts = {**report.to_json(), "ranking": order.to_json()}
    figures = report.reference.figures
    lines = [
        f"{'as it is':28} AP {figures['AP']:.3f}  AR {figures['AR']:.3f}",
        *as_columns(report.table()),
        "",
        report.summary(),
        "",
        *as_columns(order.table()),
        "",
        order.summary(),
        f"protocol: {report.reference.protocol.text()}",
    ]
    return Answer(facts, "\n".join(lines + keep(report, facts, out)))
