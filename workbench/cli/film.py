"""workbench film: what do scale and shift (FiLM) do to the features, epoch by epoch?"""

from __future__ import annotations

from workbench.cli.conditioned import Files, FilmTap, Samples, Text
from workbench.cli.options import Adapter, Config, Data, Demo, Device, Images, Out
from workbench.cli.output import Answer


def command(
    files: Files = None,
    config: Config = None,
    adapter: Adapter = None,
    film_tap: FilmTap = None,
    text: Text = None,
    data: Data = None,
    images: Images = None,
    samples: Samples = 8,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Scales and shifts against the identity, and whether they carry anything about the image."""
    from workbench.cli.conditioned import DEMO, epochs_of, keep, one_pass, opened
    from workbench.cli.report_output import as_columns, check_writable
    from workbench.data.opening import open_data
    from workbench.inspectors.conditioning import film
    from workbench.inspectors.conditioning.over_epochs import over_epochs
    from workbench.inspectors.conditioning.passes import several

    if out is not None:
        check_writable(out)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_data

        files, data = files or demo_checkpoints(DEMO), data or demo_data(DEMO)
    chosen = several(open_data(data or "scenes-val", images), samples)
    reports = []
    for file in epochs_of(files or []) or [None]:
        loaded = opened(file, text, film_tap, config=config, adapter=adapter, device=device)
        reports.append(film.compute(one_pass(loaded, chosen), film.Params()))
    epochs = over_epochs(reports)
    report = reports[-1]
    facts = {**report.to_json(), "epochs": epochs.table()}
    lines = [f"{report.title}: {report.summary()}", "", *as_columns(report.table())]
    if len(reports) > 1:
        lines += ["", *as_columns(epochs.table()), "", epochs.summary()]
    return Answer(facts, "\n".join(lines + keep(report, facts, out)))
