"""An overfit attempt for people on a terminal, and the command that repeats it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.training.overfit import OverfitReport
    from workbench.training.settings import Settings


def again(
    settings: Settings, unsaid: Settings, *, name: str | None = None, demo: bool = False, **given: Any
) -> str:
    """The command that repeats an attempt.

    Args:
        settings: of the attempt.
        unsaid: what the verb takes for this kind of model when nothing is said.
        name: of the family, where one was named.
        demo: with the built-in network and image.
        given: the other options by their names, as the user gave them; what is at its default is left out.
    """
    words = ["workbench", "overfit", *([name] if name else []), *(["--demo"] if demo else [])]
    given |= {"steps": settings.steps, "learning_rate": settings.learning_rate, "seed": settings.seed}
    for option in ("weight_decay", "ema", "schedule", "warm_up", "clip", "amp", "compile", "graphs"):
        if (value := getattr(settings, option)) != getattr(unsaid, option):
            given[option] = value
    plain = {"count": 1, "device": "cpu"}
    for option, value in given.items():
        if value not in (None, "") and value is not False and value != plain.get(option):
            word = f"--{option.replace('_', '-')}"
            words += [word] if value is True else [word, str(value)]
    return shlex.join(words)


def as_text(report: OverfitReport) -> str:
    """The report for people, on a terminal."""
    used = [f"config    used: {one}" for one in report.used]
    used += [f"config    not used: {one}" for one in report.unused]
    lines = [
        report.summary(),
        "",
        *used,
        f"expected  {report.verdict.expected}",
        f"came      {report.verdict.came}",
        f"speed     {report.steps_per_second:.1f} steps/s",
    ]
    for one in report.evidence:
        ends = f"; without {one.culprit} {one.mended}" if one.culprit else ""
        lines.append(f"{'remark' if one.remark else 'wrong':<10}{one.text}{ends}")
    for trial in report.trials:
        lines.append(f"without {trial.without:<16} {trial.verdict.outcome:<36} PCK {trial.verdict.pck:.2f}")
    if report.trials and not report.culprit:
        lines += [f"no switch for {one}" for one in report.cannot_switch]
    return "\n".join([*lines, f"again     {report.command}"])
