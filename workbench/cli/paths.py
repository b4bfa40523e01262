"""workbench paths: does inference do what training did, tap by tap on the same input?"""

from __future__ import annotations

from workbench.cli.conditioned import ConditionedOptions, Samples, demo_file, newest, one_pass
from workbench.cli.options import Demo, Files, Out
from workbench.cli.output import REPORT_ENDINGS, Answer, as_columns, check_file, written
from workbench.core.report import counted


def command(
    files: Files = None,
    *,
    options: ConditionedOptions,
    samples: Samples = 4,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Compare every tap of the training pass and the predict pass; name the first that differs."""
    from workbench.inspectors.conditioning import paths
    from workbench.inspectors.conditioning.passes import several

    check_file(out, *REPORT_ENDINGS)
    if demo:
        files = [demo_file()]
    loaded = options.open(newest(files))
    chosen = several(options.pose_set(), samples)
    report = paths.compute(one_pass(loaded, chosen), paths.Params())
    facts = {"title": loaded.title, **report.to_json()}
    table = report.table()
    lines = [f"{loaded.title}: {report.summary()}", "", *as_columns([table[i] for i in report.shown])]
    if hidden := len(table) - len(report.shown):
        lines += ["", f"{counted(hidden, 'deeper tap')} compared and not listed: --json lists all"]
    return written(Answer(facts, "\n".join(lines)), out, report)
