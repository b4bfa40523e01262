"""workbench film: what do scale and shift (FiLM) do to the features, epoch by epoch?"""

from __future__ import annotations

import dataclasses

from workbench.cli.conditioned import DEMO, ConditionedOptions, Files, Samples, epochs_of, one_pass
from workbench.cli.options import Demo, Out
from workbench.cli.output import REPORT_ENDINGS, Answer, as_columns, check_file, written


def command(
    files: Files = None,
    *,
    options: ConditionedOptions,
    samples: Samples = 8,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Scales and shifts against the identity, and whether they carry anything about the image."""
    from workbench.inspectors.conditioning import film
    from workbench.inspectors.conditioning.film import over_epochs
    from workbench.inspectors.conditioning.passes import several

    check_file(out, *REPORT_ENDINGS)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_data

        files = demo_checkpoints(DEMO)
        options = dataclasses.replace(options, data=options.data or demo_data(DEMO))
    chosen = several(options.pose_set(), samples)
    reports = []
    for file in epochs_of(files or []) or [None]:
        loaded = options.open(file)
        reports.append(film.compute(one_pass(loaded, chosen), film.Params()))
    epochs = over_epochs(reports)
    report = reports[-1]
    facts = {**report.to_json(), "epochs": epochs.table()}
    lines = [f"{report.title}: {report.summary()}", "", *as_columns(report.table())]
    if len(reports) > 1:
        lines += ["", *as_columns(epochs.table()), "", epochs.summary()]
    return written(Answer(facts, "\n".join(lines)), out, report)
