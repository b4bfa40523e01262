"""Diagnose: every cause that can be tested is tested, the cheapest first; findings are ranked by proof."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core import NotAvailable, PoseModel, Sample
from workbench.core.errors import USER_ERRORS, available, beside, sentence
from workbench.core.finding import Finding
from workbench.core.job import Cancelled, current_checkpoint
from workbench.core.report import counted
from workbench.data.images import ImageReading
from workbench.data.opening import check_data_name
from workbench.diagnosis.candidates import Candidates, of_claim, of_separation, of_symptoms
from workbench.diagnosis.case import BudgetSpent, Case, Options
from workbench.diagnosis.cause import (
    GIVEN_BACK,
    LEVELS,
    SHOWN_BY_POSES,
    SPENT,
    UNUSED,
    Cause,
    LeftOpen,
    Level,
    NotTestable,
    RuledOut,
    all_causes,
)
from workbench.diagnosis.commands import commands_of
from workbench.diagnosis.fixes import diff_of_change, edits_of_change
from workbench.diagnosis.report import Diagnosis, by_proof, joined
from workbench.diagnosis.run_logs import of_this_log
from workbench.diagnosis.targets import VIDEOS, exists, sorted_targets
from workbench.diagnosis.texts import is_message

ANOTHER_RESULT = "the same test on other data or on another checkpoint of the run, with another result"
Answered = Mapping[Cause, "list[Finding] | RuledOut | NotTestable | Candidates"]
"""What the test of each cause said."""

CLAIMS = ("AP", "AP50", "AP75", "AR", "PCK")
# Frames of a video that are looked at: enough for the range of scores.
FRAMES, EVERY = 8, 15


def diagnose(
    targets: Iterable[Path | str] | Path | str,
    *,
    against: Path | str | None = None,
    data: str | Path | None = None,
    images: Path | str | None = None,
    config: Path | str | None = None,
    adapter: Path | str | None = None,
    claim: Mapping[str, float] | None = None,
    budget: float | None = None,
    level: Level = "evaluate",
    causes: Sequence[Cause] | None = None,
    progress: Callable[[int, int], None] | None = None,
    testing: Callable[[Cause, Answered], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> Diagnosis:
    """Why is a run worse than it should be?

    Args:
        targets: run folder, checkpoint, log, config, result file, annotations, code, a text with statements
            about a recipe, an error message in a file or as text, in any order.
        against: a run or checkpoint to compare with.
        data: a COCO-format json or a built-in set.
        images: folder of its images.
        config: of the model, the user's own code: it is run. A config among the targets is only read.
        adapter: the user's own model as a Python file.
        claim: figure by name that the run should reach or was seen to reach.
        budget: seconds; what is not tested by then is reported as untested.
        level: the most costly kind of test: files, forward, evaluate, train.
        causes: that are tested; all by default.
        progress: called with (causes tested, causes in all), first with 0.
        testing: called before each test with its cause and the answers of the causes before it.
        cancelled: asked before each piece of work.
        options: other fields of workbench.diagnosis.case.Options.

    Raises:
        ValueError: a level, claim or budget that there is not.
        NotAvailable: sigmas were given, and they do not fit the data set, or there is none.
        FileNotFoundError: none of the targets exists.
        Cancelled: as asked for.

    Example:
        >>> from workbench.checkpoints.demo import demo_checkpoints
        >>> from workbench.diagnosis import diagnose
        >>> report = diagnose(demo_checkpoints()[-1], level="files")
        >>> report.findings, "weights that are not finite" in report.ruled_out
        ((), True)
    """
    started = time.monotonic()
    listed = [targets] if isinstance(targets, (str, Path)) else list(targets)
    _check(listed, level, claim, budget, adapter, data)

    def stepped() -> None:
        current_checkpoint()
        if cancelled is not None and cancelled():
            raise Cancelled

    chosen = all_causes() if causes is None else tuple(causes)
    given = sorted_targets(listed, options.get("within", ()), options.get("one_run", False))
    wanted = Options(
        against=None if against is None else Path(against),
        data=None if data is None else str(data),
        images=None if images is None else Path(images),
        config=None if config is None else Path(config),
        adapter=None if adapter is None else Path(adapter),
        claim=dict(claim or {}),
        level=level,
        budget=budget,
        **options,
    )
    case = Case(given, wanted, chosen, stepped)
    if wanted.sigmas:
        case.pose_set()
    answers = _asked(case, chosen, progress, testing)
    case.answered = True
    left = sum(isinstance(answer, NotTestable) and answer.needs == SPENT for answer in answers.values())
    if left:
        case.notes.append(
            f"the budget of {wanted.budget:g} s was spent before {counted(left, 'cause was', 'causes were')} "
            "tested: nothing is known of them; give more with --budget"
        )
    report = _report(case, answers, time.monotonic() - started)
    return dataclasses.replace(report, repeat=_repeat(listed, wanted))


def _repeat(targets: Sequence[Path | str], options: Options) -> dict[str, Any]:
    """Arguments of the same call, as plain values; what has its default is left out."""
    usual, given = Options(), {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        # What a server keeps to is no part of the question.
        if field.name != "within" and value != getattr(usual, field.name):
            given[field.name] = str(value.resolve()) if isinstance(value, Path) else value
    named = [str(Path(target).resolve()) if exists(Path(target)) else str(target) for target in targets]
    if options.data is not None and exists(Path(options.data)):
        given["data"] = str(Path(options.data).resolve())
    return {"targets": named, "level": options.level, **given}


def _check(
    targets: Sequence[Path | str],
    level: str,
    claim: Mapping[str, float] | None,
    budget: float | None,
    adapter: Path | str | None,
    data: str | Path | None,
) -> None:
    if level not in LEVELS:
        raise ValueError(f"level: expected {', '.join(LEVELS)}, got {level!r}")
    for name, value in (claim or {}).items():
        if name not in CLAIMS or not 0 <= value <= 1:
            raise ValueError(
                f"claim: expected one of {', '.join(CLAIMS)} with a figure from 0 to 1, got {name}={value:g}"
            )
    if budget is not None and not budget > 0:
        raise ValueError(f"budget: expected more than 0 seconds, got {budget:g}")
    if not targets and adapter is None and data is None:
        raise ValueError("expected at least one target: a run folder, checkpoint, log, config or result file")
    if targets and not any(exists(Path(target)) or is_message(str(target)) for target in targets):
        raise FileNotFoundError(f"{targets[0]}: no such file or folder{beside(Path(targets[0]))}")
    if data is not None:
        check_data_name(data)


def _asked(
    case: Case,
    causes: Sequence[Cause],
    progress: Callable[[int, int], None] | None,
    testing: Callable[[Cause, Answered], None] | None,
) -> Answered:
    """The answer of every cause, the cheapest tests first."""
    answers: dict[Cause, list[Finding] | RuledOut | NotTestable | Candidates] = {}
    order = sorted(causes, key=lambda cause: LEVELS.index(cause.level))
    spent = False
    for number, cause in enumerate(order):
        if progress is not None:
            progress(number, len(order))
        if testing is not None:
            testing(cause, answers)
        if not case.reaches(cause.level):
            answers[cause] = NotTestable(f"a test of level {cause.level}; give --level {cause.level}")
        elif spent:
            answers[cause] = NotTestable(SPENT)
        else:
            try:
                answers[cause] = _tested(case, cause)
            except BudgetSpent:
                spent = True
                answers[cause] = NotTestable(SPENT)
    if progress is not None:
        progress(len(order), len(order))
    return answers


def _tested(case: Case, cause: Cause) -> list[Finding] | RuledOut | NotTestable | Candidates:
    case.step()
    try:
        answer = cause.test(case)
    except NotAvailable as missing:
        return NotTestable(str(missing))
    except (*USER_ERRORS, RuntimeError) as error:  # torch's, of shapes that do not fit
        return NotTestable(sentence(error))
    except Exception as error:
        if isinstance(error, (Cancelled, BudgetSpent)) or type(cause).__module__.startswith("workbench."):
            raise
        # A mistake in another package's test takes nothing from the others.
        return NotTestable(f"its own test failed ({type(error).__name__}: {sentence(error)})")
    if isinstance(answer, (RuledOut, NotTestable, Candidates)):
        return answer
    return [answer] if isinstance(answer, Finding) else list(answer)


@dataclasses.dataclass
class _Said:
    """What the tests of all causes said, by kind; the fields are those of Diagnosis."""

    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    by_cause: list[list[Finding]] = dataclasses.field(default_factory=list)
    ruled_out: dict[str, str] = dataclasses.field(default_factory=dict)
    not_testable: dict[str, str] = dataclasses.field(default_factory=dict)
    symptom_of: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    suspected: list[Candidates] = dataclasses.field(default_factory=list)


def _said(case: Case, answers: Answered) -> _Said:
    said = _Said()
    for cause, answer in answers.items():
        if isinstance(answer, LeftOpen):
            said.not_testable[cause.name] = answer.evidence
        elif isinstance(answer, RuledOut):
            said.ruled_out[cause.name] = answer.evidence
        elif isinstance(answer, NotTestable):
            said.not_testable[cause.name] = answer.needs
        elif isinstance(answer, Candidates):
            said.suspected.append(answer)
        else:
            stay = []
            for finding in answer:
                if with_it := cause.vanishes_with(case, finding):
                    said.ruled_out[finding.cause] = (
                        f"{finding.evidence}; it vanishes once '{with_it}' is undone"
                    )
                elif first := cause.waits_for(finding, _of_poses(answers, cause)) or _behind_weights(
                    case, cause, finding
                ):
                    said.not_testable[finding.cause] = first
                else:
                    stay.append(finding)
            found = [_refutable(finding, cause) for finding in stay]
            said.by_cause.append([of_this_log(case, one) if "log" in cause.needs else one for one in found])
            said.groups = {finding.cause: cause.group for finding in answer} | said.groups
            said.symptom_of |= {finding.cause: cause.symptom_of for finding in answer}
        said.groups.setdefault(cause.name, cause.group)
    return said


def _report(case: Case, answers: Answered, seconds: float) -> Diagnosis:
    said = _said(case, answers)
    findings = _with_diffs(case, _each_once(said.by_cause))
    candidates = _candidates(case, findings, said)
    # What another test found, or what may explain a symptom, is not ruled out.
    named = {one.cause for group in candidates for one in group.causes} | {one.cause for one in findings}
    case.notes += _notes_of(case)
    figures, protocol, sample, together = _measured(case)
    return Diagnosis(
        title=_title(case),
        given=case.given.text(),
        findings=tuple(by_proof(findings, said.symptom_of)),
        candidates=candidates,
        groups=said.groups,
        ruled_out={cause: seen for cause, seen in said.ruled_out.items() if cause not in named},
        not_testable=said.not_testable,
        figures=figures,
        protocol=protocol,
        sample=sample,
        together=together,
        notes=tuple(dict.fromkeys(case.notes)),
        worth_adding=_worth_adding(case, said.not_testable),
        level=case.options.level,
        seconds=seconds,
        cost=_cost(case),
        subject=_subject(case),
        commands=commands_of(case),
        experiment=_experiment(case, findings),
    )


def _candidates(case: Case, findings: Sequence[Finding], said: _Said) -> tuple[Candidates, ...]:
    """Causes that what was given does not distinguish."""
    # Where a cause of the run's figure was found, what only might explain it is not named beside it.
    wrong = [one for one in findings if one.severity != "remark"]
    refuted_by = {cause.name: cause.refuted_by for cause in case.causes if cause.refuted_by}
    found = of_separation(case.peek("separated"), [one.cause for one in wrong], refuted_by)
    found += of_symptoms(findings, said.ruled_out, said.symptom_of)
    if not wrong:
        found += said.suspected
        found += [] if found else of_claim(case, said.not_testable)
    return tuple(found)


def _each_once(by_cause: Sequence[Sequence[Finding]]) -> list[Finding]:
    """All findings; what the tests of two causes name alike is one, with the evidence of both."""
    found: list[Finding] = []
    for new in by_cause:
        alike = [one for one in found if any(one.cause == other.cause for other in new)]
        found = [
            joined([one, *(other for other in new if other.cause == one.cause)]) if one in alike else one
            for one in found
        ]
        found += [other for other in new if all(other.cause != one.cause for one in alike)]
    return found


def _measured(case: Case) -> tuple[dict[str, float], str, tuple[int, ...], tuple[float, ...]]:
    """Figures of the run as it is, protocol, instances of how many, and what all proved causes give back."""
    evidence = case.peek("measured") or case.peek("evidence")
    if evidence is None:
        return {}, "", (), ()
    base = evidence.measure()
    figures = {**base.figures, "mean OKS": base.mean_oks}
    apart = case.peek("separated")
    together: tuple[float, ...] = ()
    if apart is not None and len(apart.chosen) > 1 and apart.together is not None:
        found = apart.together
        # An interval that holds 0 gives nothing back; one that could not be had is nan.
        together = () if found.AP_low <= 0 else (found.AP, found.AP_low, found.AP_high)
    figures = {k: v for k, v in figures.items() if not math.isnan(v)}
    return figures, evidence.protocol(), (len(evidence.indices), len(evidence.pose_set.labelled)), together


def _cost(case: Case) -> tuple[int, ...]:
    """What the network was given, and what one evaluation gives to it; () without a model and a set."""
    return available(lambda: (case.forwarded, case.evaluation_size()), ())


def _of_poses(answers: Answered, but: Cause) -> list[Finding]:
    """What other causes that poses tell have found."""
    groups = (*SHOWN_BY_POSES, "conditioning")
    found = [a for c, a in answers.items() if c is not but and c.group in groups]
    return [one for answer in found if isinstance(answer, list) for one in answer]


def _behind_weights(case: Case, cause: Cause, finding: Finding) -> str:
    """Why an effect that is not proved waits for weights that are; "" where it does not."""
    effect, apart = finding.effect, case.peek("separated")
    if effect is None or not effect.low <= 0 or cause.group not in (*SHOWN_BY_POSES, "file"):
        return ""
    proved = [change.cause for change in case.peek(GIVEN_BACK) or ()]
    if apart is not None and all(change.cause != finding.cause for change in apart.chosen):
        proved += [change.cause for change in apart.chosen if change.stage == "weights"]
    first = next((name for name in proved if name != finding.cause), "")
    return f"undo '{first}' first: beside these weights undoing it gives no AP back" if first else ""


def _refutable(finding: Finding, cause: Cause) -> Finding:
    """The finding with what would refute it, in the words of its cause where it has none of its own."""
    refuted_by = finding.refuted_by or cause.refuted_by or ANOTHER_RESULT
    return dataclasses.replace(finding, refuted_by=refuted_by)


def _with_diffs(case: Case, findings: Sequence[Finding]) -> list[Finding]:
    """Findings with the change of the config or the adapter that makes what undid them permanent."""
    apart = case.peek("separated")
    undone = {} if apart is None else {change.cause: change for change in apart.chosen}
    return [
        dataclasses.replace(finding, diff=diff_of_change(case, undone[finding.cause]))
        if finding.cause in undone and not finding.diff
        else finding
        for finding in findings
    ]


def _experiment(case: Case, findings: Sequence[Finding]) -> dict[str, Any]:
    """The fix of the first proved finding as a change of a config file that was named."""
    apart, path = case.peek("separated"), case.config_path()
    if apart is None or path is None or case.options.adapter is not None:
        return {}
    for change in apart.chosen:
        if findings and any(finding.cause == change.cause for finding in findings):
            edits = edits_of_change(case, change)
            return {"config": str(path.resolve()), "edits": edits} if edits else {}
    return {}


def _subject(case: Case) -> str:
    """What the checkpoint is by its tensors, and what it should reach; "" without one that opens."""
    checkpoint = case.peek("checkpoint")
    if checkpoint is None:
        return ""
    identity = checkpoint.identity
    named = (
        f"{checkpoint.path.name} is {identity} ({checkpoint.format}, "
        f"{counted(len(checkpoint.tensors), 'tensor')})"
    )
    return f"{named}; {identity.expected}" if identity.expected else named


def _title(case: Case) -> str:
    loaded = case.peek("loaded")
    if loaded is not None:
        return loaded.title
    named = case.given.checkpoint or case.given.folder
    others = (*case.given.results, *case.given.predictions, *case.given.logs, *case.given.configs)
    named = named or next(iter(others), None)
    return named.name if named is not None else "the run"


def _worth_adding(case: Case, not_testable: Mapping[str, str]) -> tuple[str, ...]:
    """What would allow more tests, the most useful first."""
    given, options, wanted = case.given, case.options, []
    unbuilt = sum("--adapter" in why for why in not_testable.values())
    if given.checkpoint is not None and unbuilt:
        wanted.append(
            "the model: its mmpose config (--config) or a Python file that builds it (--adapter), without "
            f"which {unbuilt} cause{'s' * (unbuilt != 1)} could not be tested"
        )
    if given.checkpoint is None and options.adapter is None:
        wanted.append(
            "the checkpoint, or the folder of the run: weights, input and output can then be tested"
        )
    if options.data is None and not given.annotations:
        text = "a data set with annotations (--data, --images): effects can then be measured"
        wanted.insert(0 if given.results or given.predictions else len(wanted), text)
    if unused := next((note for note in case.notes if note.startswith(UNUSED)), ""):
        wanted.insert(0, f"a data set that can be used ({unused.removeprefix(UNUSED)})")
    if not given.logs:
        wanted.append("the training log: schedule, loss and validation can then be tested")
    if given.configs == () and case.peek("config") is None:
        wanted.append("the config: the recipe and the schedule can then be tested")
    if len(given.epochs) < 2 and given.checkpoint is not None:
        wanted.append("an earlier epoch beside the checkpoint: layers that never learn then show")
    if not options.claim:
        wanted.append("the figure that you expect (--claim AP=.70)")
    return tuple(wanted)


def _notes_of(case: Case) -> list[str]:
    """What is worth knowing of the set, the scores and the run that it is compared with."""
    found = []
    if (pose_set := case.peek("data")) is not None and not pose_set.labelled:
        found.append(f"{pose_set.name}: no instance is annotated, so nothing is compared with the truth")
    if case.reaches("forward") and (scores := note_of_scores(case)):
        found.append(scores)
    if case.options.against is not None:
        found += [f"--against: {note}" for note in case.against().notes]
    return found


def note_of_scores(case: Case) -> str:
    """The range of the keypoint scores and what it means; "" where nothing was predicted."""
    try:
        model = case.model()
        scores, where = _scores(case, model)
    except (NotAvailable, BudgetSpent):
        return ""
    except (*USER_ERRORS, RuntimeError) as error:
        return f"{case.given.media[0].name if case.given.media else 'the data'}: {sentence(error)}"
    scores = scores[np.isfinite(scores)]
    codec = model.codec
    if not scores.size or codec is None:
        return ""
    note = (
        f"keypoint scores {where} go from {scores.min():.2f} to {scores.max():.2f}, median "
        f"{np.median(scores):.2f}"
    )
    if codec.kind == "simcc" and scores.max() > 1:
        return (
            f"{note}; above 1 is normal here: each is the smaller of the two raw SimCC peaks (x and y), "
            "without a softmax, so it orders keypoints and is no probability"
        )
    return note if case.given.media else ""


def _scores(case: Case, model: PoseModel) -> tuple[np.ndarray, str]:
    """Keypoint scores, and where they are from.

    Raises:
        NotAvailable: there are neither pictures nor predictions.
    """
    from workbench.evaluation.predict import predict_pictures

    if not case.given.media:
        evidence = case.evidence()
        if evidence.model is None:
            raise NotAvailable("the poses are those of a result file")
        return evidence.measure().predictions.scores, f"on {case.pose_set().name}"
    path = case.given.media[0]
    case.step()
    reading = ImageReading(case.options.bits, case.options.as_stored)
    shown = ((path.name, [sample]) for sample in _samples(path, reading))
    found = [one.scores for _, poses in predict_pictures(model, shown) for one in poses]
    if not found:
        raise NotAvailable(f"{path.name}: nobody was found in it")
    where = f"on {path.name} (whole pictures as boxes)"
    return np.concatenate([np.ravel(scores) for scores in found]), where


def _samples(path: Path, reading: ImageReading) -> Iterator[Sample]:
    """The picture, or some frames of the video, each with the whole picture as its box."""
    from workbench.data.video import frames

    if path.suffix.lower() in VIDEOS:
        images = (frame.image for frame in itertools.islice(frames(path, EVERY), FRAMES))
    else:
        images = iter([reading.pixels(path)])
    for image in images:
        H, W = image.shape[:2]
        yield Sample(image, (0.0, 0.0, float(W), float(H)), key=path.name, path=str(path))
