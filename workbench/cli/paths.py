"""workbench paths: does inference do what training did, tap by tap on the same input?"""

from __future__ import annotations

from workbench.cli.conditioned import ConditionedOptions, Samples, demo_file, keep, newest, one_pass
from workbench.cli.options import Demo, Files, Out
from workbench.cli.output import Answer


def command(
    files: Files = None,
    *,
    options: ConditionedOptions,
    samples: Samples = 4,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Compare every tap of the training pass and the predict pass; name the first that differs."""
    from workbench.cli.report_output import as_columns, check_writable
    from workbench.inspectors.conditioning import paths
    from workbench.inspectors.conditioning.passes import several

    if out is not None:
        check_writable(out)
    if demo:
        files = files or [demo_file()]
    loaded = options.open(newest(files))
    chosen = several(options.pose_set(), samples)
    report = paths.compute(one_pass(loaded, chosen), paths.Params())
    facts = {"title": loaded.title, **report.to_json()}
    table = report.table()
    lines = [f"{loaded.title}: {report.summary()}", "", *as_columns([table[i] for i in report.shown])]
    return Answer(facts, "\n".join(lines + keep(report, facts, out)))
