"""Commands that show more of what a diagnosis names: one line each, ready to be run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.checkpoints.config_reader import read_config
from workbench.core import Conditioned, Groups
from workbench.core.capabilities import RollsOut
from workbench.core.command_line import command_line
from workbench.core.errors import USER_ERRORS
from workbench.diagnosis.case import Case
from workbench.diagnosis.targets import Given

Words = list[Any]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        shows: what it shows, in a few words.
        line: to be typed.
    """

    shows: str
    line: str


def commands_of(case: Case) -> tuple[Command, ...]:
    """Commands for what was given, the most general first.

    Args:
        case: after its causes were tested.
    """
    return tuple(
        Command(shows + _note(case, words), command_line(["workbench", *words]))
        for shows, words in _all(case)
    )


def _note(case: Case, words: Words) -> str:
    """What the command does that the diagnosis did not: a config named as --config is run as code."""
    config = case.config_path()
    only_read = case.options.config is None or not case.options.run_config
    if "--config" not in words or config is None or not only_read:
        return ""
    return f" (--config runs {config.name}, which was only read here)"


def _all(case: Case) -> Iterator[tuple[str, Words]]:
    given = case.given
    loaded: Any = case.peek("loaded")
    model = loaded.model if loaded is not None else None
    if given.checkpoint is not None:
        yield "what the file is, and what it should reach", ["open", given.checkpoint]
    other = case.peek("against")
    if given.logs:
        yield "the curves of the training log", ["curves", *_logs(given), *(_logs(other) if other else [])]
    yield from _of_texts(case)
    if model is None:
        return
    files = _model(case)
    if isinstance(model, Conditioned):
        yield "what each switch gives back, with intervals", ["clinic", *files, *_data(case), *_against(case)]
        yield "scale and shift of the text (gamma, beta) as histograms", ["film", *files, *_data(case)]
        yield "training pass against inference pass, layer by layer", ["paths", *files, *_data(case)]
    elif isinstance(model, RollsOut):
        yield "errors teacher-forced and free-running, step by step", ["rollout", *files, *_data(case)]
    elif isinstance(model, Groups):
        yield "where AP is lost, part by part", ["oracle", *files, *_data(case)]
        yield "each step of the protocol left out", ["ablate", "grouping", *files, *_data(case)]
        yield "what the tag maps are worth, one by one", ["ablate", "tags", *files, *_data(case)]
    elif _data(case):
        yield "every alternative of the input, with intervals", ["probe", "input", *files, *_data(case)]
        yield "the outputs read by every decoder", ["decode", *files, *_data(case)]
    if given.media:
        yield (
            "keypoints with their scores on the picture or video",
            ["predict", *files, "--image", given.media[0], "--out", f"pose{_suffix(given.media[0])}"],
        )


def _of_texts(case: Case) -> Iterator[tuple[str, Words]]:
    given = case.given
    if given.errors:
        yield "the error message explained", ["doctor", "--error", given.errors[0].message]
        yield "all package versions, and what they matter for", ["doctor"]
    if given.statements:
        yield (
            "every statement with line, published value and source",
            ["audit", "--claims", given.statements[0]],
        )
    config = case.config_path() or next(iter(given.configs), None)
    if config is not None:
        yield "the config against the published recipe", ["audit", config]
    sizes = case.peek("codec sizes")
    if sizes is not None:
        words = ["codec"]
        for size in sizes:
            (H, W), (h, w) = size.input_size, size.heatmap_size
            words += ["--input", f"{W}x{H}", "--heatmap", f"{w}x{h}"]
        yield "what encoding and decoding alone cost", words


def _logs(given: Given) -> Words:
    if given.folder is not None and given.folder.is_dir():
        return [given.folder]
    return [*given.logs[:1]]


def _model(case: Case) -> Words:
    """The words that name the model, as every verb takes them."""
    options = case.options
    files: Words = [*case.given.parts] or [case.given.checkpoint] * (case.given.checkpoint is not None)
    config = None if case.peek("config failure") or _holds_config(case) else case.model_config()
    for name, value in (("--config", config), ("--adapter", options.adapter)):
        files += [name, value] if value is not None else []
    given = [("--family", options.family)] if options.family else []
    given += [("--output", value) for value in options.output]
    given += [("--assume", value) for value in options.assume]
    return files + [word for pair in given for word in pair]


def _holds_config(case: Case) -> bool:
    """Whether the checkpoint holds the config that was found among the targets: it opens alike without it."""
    if case.options.config is not None or case.given.checkpoint is None or case.given.named_config is None:
        return False
    try:
        text = case.checkpoint().config_text
        return bool(text) and read_config(text) == read_config(case.given.named_config)
    except USER_ERRORS:
        return False


def _data(case: Case) -> Words:
    name = case.options.data or next(iter(map(str, case.given.annotations)), "")
    try:
        # A set that cannot be read, or has no labels, is of no use to any verb.
        if not name or not case.read_set().labelled:
            return []
    except USER_ERRORS:
        return []
    options = case.options
    words: Words = ["--data", name, *(["--images", options.images] if options.images else [])]
    words += ["--bits", str(options.bits)] if options.bits else []
    return words + (["--as-stored"] if options.as_stored else [])


def _against(case: Case) -> Words:
    other = case.peek("against")
    if other is None or other.checkpoint is None:
        return []
    return ["--against", other.folder or other.checkpoint]


def _suffix(path: Path) -> str:
    from workbench.diagnosis.targets import VIDEOS

    return ".mp4" if path.suffix.lower() in VIDEOS else ".png"
