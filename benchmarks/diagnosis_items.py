"""What `diagnose` has to find, item by item: where the cases plant it, and what became of them.

`ITEMS` is the list of causes that the verb was built for. An item takes the cases of one row or several of
the coverage table (`diagnosis_coverage.KINDS`), or the part of them whose names match a pattern.
"""

# ruff: noqa: E501 - one item a line
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from benchmarks.diagnosis_coverage import KINDS, NO_DEGREE, kind_of
from tests.diagnosis.systems import Case


class Judged(Protocol):
    """What the tables read of a row of the page."""

    @property
    def rank(self) -> int:
        """Of the true cause; 0 where it was missed, and for a control."""
        ...

    @property
    def said(self) -> tuple[str, ...]:
        """Causes that were named and are not there."""
        ...


@dataclass(frozen=True)
class Item:
    """One item of the list.

    Attributes:
        group: of causes.
        name: of the item.
        kinds: rows of the coverage table.
        only: regular expression that the name of a case must match, where a row holds several items.
    """

    group: str
    name: str
    kinds: tuple[str, ...]
    only: str = ""

    def holds(self, case: Case) -> bool:
        """Whether a planted case is of this item."""
        kind = kind_of(case) if case.cause else None
        return kind is not None and kind.cause in self.kinds and re.search(self.only, case.name) is not None


PARTLY, NORMS = "weights only partly loaded", "batch-norm statistics do not fit"
IN_EVALUATION = "batch norm in evaluation mode while training"
NOT_FINITE, PLACING = "weights that are not finite", "offset and placing"
SCORES = "score does not rank the poses"
RENAMED = "renamed|name|prefix|sizes"
HALF = "half precision"
EXCHANGED_SIDES = ("left and right exchanged in part of the labels", "left and right exchanged")

ITEMS: tuple[Item, ...] = (
    Item("file", "partly loaded", (PARTLY,), rf"^(?!.*({RENAMED}))"),
    Item("file", "remap needed", (PARTLY, "error message"), RENAMED + "|missing keys"),
    Item("file", "averaged and raw weights exchanged", ("raw and averaged weights exchanged",)),
    Item("file", "batch-norm statistics never updated", (NORMS, IN_EVALUATION), "as new|norms|statistics|evaluation"),
    Item("file", "frozen or never trained layers", ("layers that never learned",)),
    Item("file", "nan", (NOT_FINITE,), f"^(?!.*{HALF})"),
    Item("file", "dead units", ("layers with all weights zero", "units with all weights zero")),
    Item("file", "half precision overflow", (NOT_FINITE, "half precision overflows in training"), f"{HALF}|overflow"),
    Item("file", "config that differs from the recipe", (
        "config against itself", "config keys at a wrong place", "file is not what its name or config says",
        "learning rate 10 times off"), "config"),
    Item("file", "package pairs that break", ("package versions that do not fit",)),
    Item("input", "channel order", ("channel order",)),
    Item("input", "value range", ("value range", "mean and std"), "0 to 1|raw pixels|range|divided|percent|255|depth|bits|half the|twice|clipped"),
    Item("input", "mean and std", ("mean and std",)),
    Item("input", "width and height exchanged", ("width and height exchanged",)),
    Item("input", "crop padding", ("crop padding",)),
    Item("input", "crop aspect", ("crop aspect",)),
    Item("input", "half-pixel shift", ("half-pixel shift",)),
    Item("input", "UDP against plain affine", ("UDP against plain affine",)),
    Item("input", "EXIF", ("EXIF rotation not applied",)),
    Item("input", "wrong boxes: corners as width and height", ("boxes as corners or centre",)),
    Item("input", "wrong boxes: normalised", ("boxes normalised",)),
    Item("output", "decoder of another codec", ("decoder of another codec",)),
    Item("output", "SimCC axes exchanged", ("output axes exchanged",)),
    Item("output", "split ratio", ("SimCC split ratio",)),
    Item("output", "stride", ("stride",)),
    Item("output", "offset .5", ("half-pixel shift", PLACING), "half"),
    Item("output", "flip pairs wrong", ("flip pairs",)),
    Item("output", "flip shift wrong", ("flip shift",)),
    Item("output", "sigma", ("sigma of the targets", "sigmas of another skeleton"), "sigma"),
    Item("output", "score rule", (SCORES, "person scores taken after refine"), "^(?!.*(all 1|one digit|clipped))"),
    Item("output", "scores tied", (SCORES,), "all 1|one digit|clipped"),
    Item("labels", "left and right swapped in part of the set", EXCHANGED_SIDES),
    Item("labels", "mirror pairs", ("flip pairs",), "pair|mirrors"),
    Item("labels", "keypoint order permuted, the permutation recovered", (
        "keypoint order permuted", "keypoints named in another order")),
    Item("labels", "sigmas of another skeleton", ("sigmas of another skeleton",)),
    Item("labels", "visibility convention", ("visibility",)),
    Item("labels", "points outside boxes", ("points outside boxes or images", "boxes moved or too small")),
    Item("labels", "duplicates", ("instances annotated twice",)),
    Item("labels", "train images in the validation set", ("training images in the validation set",)),
    Item("evaluation", "simplified OKS", ("simplified OKS",)),
    Item("evaluation", "PCK with the wrong normaliser", ("PCK with another normaliser",)),
    Item("evaluation", "PCK in wrong coordinates", ("coordinates disagree",), "PCK"),
    Item("evaluation", "NMS absent", ("no NMS: poses found twice",)),
    Item("evaluation", "maxDets", ("maxDets",)),
    Item("evaluation", "area from boxes", ("area from boxes",)),
    Item("evaluation", "ground truth against detected boxes", ("detected boxes in place of annotated ones",)),
    Item("evaluation", "wrong category ids", ("wrong category ids",)),
    Item("evaluation", "a subset evaluated as the whole", ("only part of the images has results",)),
    *(
        Item(kind.group, kind.cause, (kind.cause,))
        for kind in KINDS
        if kind.group in ("grouping", "sequence", "conditioning")
    ),
    Item("training", "learning rate 10 times off", ("learning rate 10 times off", "learning rate is not the config's")),
    Item("training", "warm-up longer than the run", ("warm-up longer than the run",)),
    Item("training", "weight decay on norms and biases", ("weight decay on norms and biases",)),
    Item("training", "optimizer that misses parameters", ("optimizer misses parameters",)),
    Item("training", "clipping too small", ("gradient clipping too small",)),
    Item("training", "batch norm in evaluation mode while training", (IN_EVALUATION,)),
    Item("training", "loss scaled in the log", ("loss in the log is scaled",)),
    Item("training", "data not shuffled", ("training data not shuffled",)),
    Item("training", "gradients not cleared", ("gradients are not cleared",)),
    Item("training", "overfitting", ("overfitting",)),
    Item("training", "mixed precision", (
        "half precision overflows in training", "half precision without its loss scale")),
    Item("training", "schedule per epoch instead of iteration", ("schedule per epoch instead of iteration",)),
    Item("training", "resume that restarted the schedule", ("resume restarted the schedule",)),
)  # fmt: skip

CONTROLS: Mapping[str, str] = {
    "few epochs": r"epoch (1|2|5|10|20|30)\b|few epochs|short run",
    "small data": "(tenth|sixth) of the data|quarter of the new|(six|five) (images|pictures)|sheep alone|one animal",
    "hard data": "hard|tiny|narrow|low quality|crowds|three animals|without keypoints|fewer keypoints|loose boxes",
    "other protocols": "protocol|claimed|own rules|skeleton|labels$|alone are labelled|of the body alone",
    "a good model with an odd config": "odd|config|yaml|std, pixels|stem of BGR|twice as large",
    "healthy runs of every family": "people|vitpose|cape|sequence|text|heatmaps|other run|epoch 40",
    "result files": "results|poses",
    "logs": "log|csv|events",
    "code": "script|code|trained|trainer|lightning|data set",
    "files written otherwise": "precision|average|ONNX|bfloat|torch 1|PNG|WebP|EXIF|versions|files alone",
    "a training set beside, or another run": "training set|against|sides that the model",
}
"""Kinds of healthy controls, and what their names say; a control may be of several kinds."""

FIVE_CASES: Mapping[str, tuple[str, ...]] = {
    "000 V2 is 8 points worse than the base model": (
        "test_case_000_the_fusion_run_is_explained_and_every_view_is_one_command_away",),
    "001 heatmaps look good, AP is .418 instead of .698": (
        "test_case_001_the_step_that_gives_the_claimed_figure_is_named",),
    "002 mat1 and mat2 shapes cannot be multiplied": (
        "test_case_002_says_what_the_file_is_and_what_the_two_shapes_mean",
        "test_case_002_scores_keypoints_on_the_users_video"),
    "003 loss goes to zero on one image, PCK stays at 44 %": (
        "test_case_003_the_sequence_run_is_explained_and_every_view_is_one_command_away",
        "test_case_003_the_bisector_names_the_switch_beside_what_the_lab_measures"),
    "004 our Sapiens reproduction will not reach the paper": (
        "test_case_004_tells_right_statements_from_wrong_ones",
        "test_case_004_says_why_the_head_cannot_load_the_published_weights",
        "test_case_004_counts_the_keypoints_that_pass_the_mask",
        "test_case_004_measures_what_the_codec_leaves"),
}  # fmt: skip
"""Cases of users from end to end, and the tests in tests/diagnosis/test_cases.py that close them."""


def listed(item: Item, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases that plant an item."""
    return tuple(case for case in cases if item.holds(case))


def lacks(item: Item, cases: Iterable[Case]) -> str:
    """What an item has neither in the cases nor as a reason in the coverage table; "" for nothing."""
    held = listed(item, cases)
    kinds = [kind for kind in KINDS if kind.cause in item.kinds]
    systems = {case.system.partition(",")[0] for case in held}
    strengths = {case.strength for case in held}
    if any(kind.no_case for kind in kinds):
        return ""
    short = []
    if len(systems) < 2 and not any(kind.one_system for kind in kinds):
        short.append(f"{len(systems)} systems")
    if len(strengths) < 2 and not any(kind.one_strength for kind in kinds):
        short.append(f"{len(strengths)} strengths")
    return ", ".join(short)


def items_table(cases: Iterable[Case], rows: Mapping[str, Judged]) -> list[str]:
    """The lines of the table of items.

    Args:
        cases: of the suite.
        rows: by the name of a case; one that was not run counts as not run.
    """
    cases = tuple(cases)
    held = {item: listed(item, cases) for item in ITEMS}
    places = {
        item: (len({c.system.partition(",")[0] for c in own}), len({c.strength for c in own}))
        for item, own in held.items()
    }
    two = sum(systems > 1 and strengths > 1 for systems, strengths in places.values())
    # A cause that is there or not has one strength wherever it is planted.
    plain = sum(
        systems > 1 and strengths == 1 and _no_degree(item) for item, (systems, strengths) in places.items()
    )
    return [
        f"{len(ITEMS)} items: {two} in two systems or more and at both strengths, {plain} that are there or "
        f"not in two systems or more, {len(ITEMS) - two - plain} others. A reason stands with each that has "
        "less than two systems and two strengths. A case may be of two items.",
        "",
        "| group | item | systems and strengths | planted | true cause first | missed or second | why not more |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_item_line(item, own, rows) for item, own in held.items()),
    ]


def _no_degree(item: Item) -> bool:
    return any(kind.one_strength == NO_DEGREE for kind in KINDS if kind.cause in item.kinds)


def _item_line(item: Item, own: tuple[Case, ...], rows: Mapping[str, Judged]) -> str:
    where: dict[str, set[str]] = {}
    for case in own:
        where.setdefault(case.system.partition(",")[0], set()).add(case.strength)
    judged = [case for case in own if case.name in rows]
    first = sum(rows[case.name].rank == 1 for case in judged)
    not_first = "; ".join(case.name for case in judged if rows[case.name].rank != 1)
    strengths = set().union(*where.values())
    kinds = [kind for kind in KINDS if kind.cause in item.kinds]
    reasons = [kind.no_case for kind in kinds if kind.no_case and not own]
    reasons += [kind.one_system for kind in kinds if kind.one_system and len(where) < 2]
    reasons += [kind.one_strength for kind in kinds if kind.one_strength and len(strengths) < 2]
    systems = "; ".join(f"{system}: {', '.join(sorted(s))}" for system, s in sorted(where.items()))
    planted = str(len(own)) if len(judged) == len(own) else f"{len(own)}, {len(judged)} run"
    return (
        f"| {item.group} | {item.name} | {systems or '-'} | {planted} | {first} | {not_first or '-'} "
        f"| {'; '.join(dict.fromkeys(reasons)) or '-'} |"
    )


def controls_table(cases: Iterable[Case], rows: Mapping[str, Judged]) -> list[str]:
    """The lines of the table of healthy controls, by kind."""
    controls = [case for case in cases if not case.cause]
    lines = [
        f"{len(controls)} healthy controls. One may be of two kinds.",
        "",
        "| kind | controls | for example | something false said |",
        "| --- | --- | --- | --- |",
    ]
    for kind, pattern in CONTROLS.items():
        own = [case for case in controls if re.search(pattern, case.name)]
        accused = [case.name for case in own if case.name in rows and rows[case.name].said]
        examples = "; ".join(case.name for case in own[:3])
        lines.append(f"| {kind} | {len(own)} | {examples or '-'} | {'; '.join(accused) or '-'} |")
    return lines


def cases_table() -> list[str]:
    """The lines of the table of the five cases."""
    return [
        "Each is closed by one command; `make diagnosis-suite` does not run them, the tests do.",
        "",
        "| case | tests in tests/diagnosis/test_cases.py |",
        "| --- | --- |",
        *(f"| {case} | {'; '.join(tests)} |" for case, tests in FIVE_CASES.items()),
    ]
