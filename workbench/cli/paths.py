"""workbench paths: does inference do what training did, tap by tap on the same input?"""

from __future__ import annotations

from workbench.cli.conditioned import FilmTap, Samples, Text
from workbench.cli.options import Adapter, Config, Data, Demo, Device, Files, Images, Out
from workbench.cli.output import Answer


def command(
    files: Files = None,
    config: Config = None,
    adapter: Adapter = None,
    film_tap: FilmTap = None,
    text: Text = None,
    data: Data = None,
    images: Images = None,
    samples: Samples = 4,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Compare every tap of the training pass and the predict pass; name the first that differs."""
    from workbench.cli.conditioned import demo_file, keep, newest, one_pass, opened
    from workbench.cli.report_output import as_columns, check_writable
    from workbench.data.opening import open_data
    from workbench.inspectors.conditioning import paths
    from workbench.inspectors.conditioning.passes import several

    if out is not None:
        check_writable(out)
    if demo:
        files = files or [demo_file()]
    loaded = opened(newest(files), text, film_tap, config=config, adapter=adapter, device=device)
    chosen = several(open_data(data or "scenes-val", images), samples)
    report = paths.compute(one_pass(loaded, chosen), paths.Params())
    facts = {"title": loaded.title, **report.to_json()}
    table = report.table()
    lines = [f"{loaded.title}: {report.summary()}", "", *as_columns([table[i] for i in report.shown])]
    return Answer(facts, "\n".join(lines + keep(report, facts, out)))
