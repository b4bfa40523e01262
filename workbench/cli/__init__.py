"""Every capability as `workbench VERB ... [--json] [--demo]`; nothing heavy is imported before it is used."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import gc
import importlib
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, cast, get_args

import typer

from workbench.cli.output import Answer, as_text, reading_notes, with_notes
from workbench.cli.usage import check_words, usage_sentence
from workbench.core.files import open_targets

VERBS: dict[str, str] = {
    "diagnose": "Find out why a run is worse than expected, with evidence.",
    "open": "What a checkpoint is: format, family, epoch, metrics.",
    "diff": "What changed between two checkpoints, tensor by tensor.",
    "load": "How much of a checkpoint loads into the model.",
    "convert": "Rename ViTPose weights for another code base.",
    "port": "Find the first layer where two implementations differ.",
    "predict": "Keypoints on images, folders and videos.",
    "look": "Show one inspector: heatmaps, peaks, weights ...",
    "evaluate": "AP and AR of a checkpoint, with their protocol.",
    "score": "AP and AR of a result file, with their protocol.",
    "errors": "Which kinds of error cost how much AP.",
    "decode": "AP with every decoder, flip test and score rule.",
    "codec": "Error of encoding and decoding alone, at any size.",
    "compare": "Compare epochs or result files, with intervals.",
    "report": "Write one HTML file about a run, to share.",
    "history": "Store and compare predictions of all epochs of a run.",
    "sweep": "AP of every checkpoint of a run with every variant.",
    "graft": "Which part of the network lost or gained AP.",
    "curves": "Read training logs and flag what stands out.",
    "overfit": "Overfit one image; if that fails, find the cause.",
    "distill": "What a student learned from its teacher's heatmaps.",
    "rollout": "Sequence model: teacher-forced or free-running.",
    "oracle": "Where AP is lost: replace parts by the ground truth.",
    "experiment": "AP gained by each switch of a text fusion model.",
    "text": "Encode descriptions as vectors; show similar ones.",
    "group": "Group detections into people, and explain each step.",
    "ablate": "AP without single parts of a model or of its protocol.",
    "probe": "Check input and flip test by trying alternatives.",
    "data": "Describe a keypoint data set; draw built-in scenes.",
    "clinic": "Defects of a model with text, and what each costs.",
    "film": "Scale and shift of a text neck, epoch by epoch.",
    "paths": "Compare training and inference pass, layer by layer.",
    "app": "Serve the workbench on 127.0.0.1.",
    "audit": "Compare a training config with a reference recipe.",
    "doctor": "Check installed versions for known problems.",
}
"""Verb -> one line of help. The verb's module is imported when it is used, never before."""

# What a user can cause: wrong values, missing names (NotAvailable is a LookupError), unreadable files.
MISTAKES = (ValueError, LookupError, OSError)


# An unknown verb, option or value; typer keeps the name of this class to itself.
USAGE: Any = typer.BadParameter.__base__
# Why the standard output takes no more: a full disk, a used-up quota, the largest file, a broken device.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# Options whose files a verb writes.
WRITTEN = frozenset({"out", "arrows", "folder"})
# Values that name no file. The parser hands --claims the option that follows it, as in --claims --demo.
_WORDS = {"boxes": ("", "annotation", "whole"), "claims": ("--demo",)}

# Words of a call that choose what to do, and are no input.
_CHOICES = frozenset({"experiment"})
# Words of a call that --adapter makes a model of.
_CHECKPOINTS = frozenset({"file", "files", "a", "b", "run", "targets"})


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `workbench`; the process's own by default.

    Returns:
        0, 1 for a finding that a script should stop at, 2 for a user's mistake.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        check_words(argv)
    except ValueError as mistake:
        typer.echo(f"workbench: {mistake}", err=True)
        return 2
    argv = _with_demo_part(argv)
    try:
        done = application(argv)(args=argv, prog_name="workbench", standalone_mode=False)
    except USAGE as mistake:
        typer.echo(f"workbench: {usage_sentence(mistake, argv, VERBS)}", err=True)
        return 2
    except SystemExit as left:  # somebody's own adapter or config may leave
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        from workbench.core.plain_text import printable_lines

        typer.echo(f"workbench: {printable_lines(str(left.code))}", err=True)
        return 1
    except typer.Abort as abort:
        return _stopped(abort.__cause__)
    except OSError as failed:  # a verb says its own; what is left comes from writing the answer
        if failed.errno not in UNWRITABLE:
            raise
        return _unwritten(failed)
    return done if isinstance(done, int) else 0


def entry() -> None:
    """Entry point of the installed script."""
    from workbench.cli import signals
    from workbench.core.processes import import_nothing_from_the_current_folder, reserve_standard_streams

    if not reserve_standard_streams():  # said now, and not after the hour that an answer may take
        typer.echo("workbench: the standard output is closed; expected one that takes the answer", err=True)
        sys.exit(2)
    import_nothing_from_the_current_folder()
    # Imports make hundreds of thousands of objects, and none of them is garbage: Python would look at them
    # all again after each 700 new ones.
    gc.set_threshold(10_000)
    signals.listen()
    try:
        code = main()
        signals.ignore()
    except KeyboardInterrupt as pressed:  # before or after the verb itself
        code = _stopped(pressed)
    finally:
        # Also where the interrupted code, or typer, turned the interruption into something else.
        if signals.exit_code():
            if not signals.is_reported():
                _stopped(None)
            signals.leave(signals.exit_code())
    sys.exit(code)


def _unwritten(failed: OSError) -> int:
    """Say that the answer could not be written; the exit code."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file keeps nothing back
        # What the stream still holds would fail once more at the interpreter's end, which says so itself.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    typer.echo(
        f"workbench: the answer could not be written to the standard output: {failed.strerror}; "
        "free some space, or send it elsewhere",
        err=True,
    )
    return 2


def _stopped(pressed: BaseException | None) -> int:
    """Say what ended the verb, and what it left; the exit code."""
    from workbench.cli import signals

    left = f"; {pressed}" if isinstance(pressed, KeyboardInterrupt) and pressed.args else ""
    signals.mark_reported()
    typer.echo(f"workbench: stopped by {signals.reason()}{left}", err=True)
    return signals.exit_code() or 130


def _with_demo_part(argv: list[str]) -> list[str]:
    """The words of a call; where a verb with parts is given `--demo` and no part, with the one it shows."""
    verb = next((word for word in argv if not word.startswith("-")), "")
    at = argv.index(verb) + 1 if verb in VERBS else len(argv)
    rest = argv[at:]
    if "--demo" not in rest or not rest[0].startswith("-") or {"-h", "--help"} & set(rest):
        return argv
    part = getattr(_module(verb), "DEMO_PART", None)
    if part is None:
        return argv
    typer.echo(
        f"workbench: the demo is that of {verb} {part}; `workbench {verb} -h` lists the others", err=True
    )
    return [*argv[:at], part, *rest]


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"workbench.cli.{verb.replace('-', '_')}")


def application(argv: list[str]) -> typer.Typer:
    """All verbs by name; only the one that `argv` asks for is imported."""
    app = _typer()
    app.callback(help=_HELP, invoke_without_command=True)(_version)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for verb, line in VERBS.items():
        if verb != chosen:
            app.command(verb, help=line)(_elsewhere)
            continue
        module = _module(verb)
        # A verb with a command of its own is a group only where the second word names one of its parts.
        second = [word for word in argv if not word.startswith("-")][1:2]
        grouped = hasattr(module, "SUBVERBS")
        if grouped and (not hasattr(module, "command") or set(second) & set(module.SUBVERBS)):
            app.add_typer(
                _group(module, argv), name=verb, help=line, invoke_without_command=True, no_args_is_help=False
            )
        else:
            app.command(verb, help=line)(answering(module.command))
    return app


def _group(module: Any, argv: list[str]) -> typer.Typer:
    """The second level of a verb such as `look`: names from SUBVERBS, functions from subcommand(name)."""
    app = _typer()
    app.callback(invoke_without_command=True)(_listing(module.SUBVERBS))
    words = [word for word in argv if not word.startswith("-")]
    for name, line in module.SUBVERBS.items():
        function = answering(module.subcommand(name)) if words[1:2] == [name] else _elsewhere
        # short_help: typer cuts the help of a list at some fifty characters.
        app.command(name, help=line, short_help=line)(function)
    return app


def answering(verb: Callable[..., Answer]) -> Callable[..., None]:
    """Give a verb that returns an Answer its `--json`, its printing and its one-line errors.

    A parameter of the verb whose type is a group of options (a dataclass) becomes one option for each field;
    a field may be a group itself.
    """
    parameters, groups = _parameters(verb)

    @functools.wraps(verb)
    def call(*, as_json: bool, debug: bool = False, **options: Any) -> None:
        try:
            # Libraries print to stdout (mmengine does); stdout belongs to the answer alone. Warnings of
            # libraries about each other are of no use to the user.
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                if not os.environ.get("WORKBENCH_TRACEBACK"):
                    warnings.simplefilter("ignore")
                with reading_notes() as notes, _shown_tracebacks(debug):
                    check_demo_alone(call.__annotations__, options)
                    check_given_paths(call.__annotations__, options)
                    targets = [options[name] for name in WRITTEN if isinstance(options.get(name), Path)]
                    for name, group in groups.items():  # a group may refuse its options
                        options[name] = _made(group, options)
                    with open_targets(targets):
                        answer = verb(**options)
            answer = with_notes(answer, notes)
        except MISTAKES as mistake:
            if os.environ.get("WORKBENCH_TRACEBACK"):
                raise
            typer.echo(f"workbench: {sentence(mistake)}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as pressed:
            raise typer.Exit(_stopped(pressed)) from None
        typer.echo((as_text(answer.facts) if as_json else printed(answer)).rstrip("\n"))
        if answer.exit_code:
            raise typer.Exit(answer.exit_code)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    # typer follows __wrapped__ to the bare verb, which knows neither --json nor --debug.
    del call.__wrapped__  # type: ignore[attr-defined]
    return call


@contextlib.contextmanager
def _shown_tracebacks(wanted: bool) -> Iterator[None]:
    """With --debug, print the traceback of what ends a verb, and of errors in the user's code that do not."""
    if not wanted:
        yield
        return
    from workbench.core.errors import tracebacks_of_user_code

    last = ""
    with tracebacks_of_user_code() as found:
        try:
            yield
        except MISTAKES as mistake:
            last = "".join(traceback.format_exception(mistake))
            raise
        finally:
            for text in [one for one in found if one not in last] + [last] * bool(last):
                typer.echo(text.rstrip("\n"), err=True)


def _parameters(verb: Callable[..., Answer]) -> tuple[list[inspect.Parameter], dict[str, type]]:
    """The options of a verb, and the class of each parameter that is a group."""
    # Not typing.get_type_hints: on Python 3.10 it wraps what defaults to None in Optional, and typer then
    # sees no argument in it.
    hints = inspect.get_annotations(verb, eval_str=True)
    wanted: list[tuple[str, Any, Any]] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        group: Any = hints[name]
        if not dataclasses.is_dataclass(group):
            wanted.append((name, group, parameter.default))
            continue
        groups[name] = cast("type", group)
        wanted += _options_of(groups[name])
    as_json = typer.Option("--json", help="Print the facts as JSON, alone on stdout.")
    debug = typer.Option("--debug", help="On an error, show the traceback, your own code included.")
    wanted += [("as_json", Annotated[bool, as_json], False), ("debug", Annotated[bool, debug], False)]
    kind = inspect.Parameter.KEYWORD_ONLY
    made = [inspect.Parameter(name, kind, default=default, annotation=of) for name, of, default in wanted]
    return made, groups


def _options_of(group: type) -> list[tuple[str, Any, Any]]:
    """Name, type and default of every option of a group."""
    types, found = inspect.get_annotations(group, eval_str=True), []
    for field in dataclasses.fields(group):
        name, kind = field.name, cast("type", types[field.name])
        found += _options_of(kind) if dataclasses.is_dataclass(kind) else [(name, kind, field.default)]
    return found


def _made(group: type, options: dict[str, Any]) -> Any:
    """A group out of the options of a call, which are taken away."""
    types, given = inspect.get_annotations(group, eval_str=True), {}
    for field in dataclasses.fields(group):
        name, kind = field.name, cast("type", types[field.name])
        given[name] = _made(kind, options) if dataclasses.is_dataclass(kind) else options.pop(name)
    return group(**given)


def printed(answer: Answer) -> str:
    """What a person reads: nothing that came from a file can move the cursor or begin a line of its own."""
    from workbench.core.plain_text import printable, printable_lines

    text, names, pieces, done = answer.text, set(_of_several_lines(answer.facts)), [], 0
    for start, end in _spans(text, names):
        if end > done:
            pieces += [text[done:start], printable(text[max(start, done) : end])]
            done = end
    return printable_lines("".join([*pieces, text[done:]]))


_BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # where str.splitlines ends a line


def _spans(text: str, names: Collection[str]) -> list[tuple[int, int]]:
    """Begin and end of each name of several lines in a text, sorted; spans may overlap.

    Looked up from each line break of the text by the part of the name before its first break: a search of
    the text for each of 12,000 names takes minutes.
    """
    by_head: dict[str, set[int]] = {}  # part before the first line break -> lengths of such names
    for name in names:
        by_head.setdefault(_BREAK.split(name, maxsplit=1)[0], set()).add(len(name))
    heads = sorted({len(head) for head in by_head})
    found, line = [], 0
    for at in _BREAK.finditer(text) if names else ():
        for length in heads:
            start = at.start() - length
            if start < line:
                break
            ends = (start + n for n in by_head.get(text[start : at.start()], ()))
            found += [(start, end) for end in ends if text[start:end] in names]
        line = at.end()
    return sorted(found)


def _of_several_lines(value: Any) -> Iterator[str]:
    """Names and values among the facts that hold a line break."""
    if isinstance(value, str):
        if len(value.splitlines()) > 1 and value.strip():
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _of_several_lines(str(key))
            yield from _of_several_lines(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _of_several_lines(one)


def sentence(mistake: BaseException) -> str:
    """An error as one line for a person."""
    from workbench.core.errors import sentence as one_line

    return one_line(mistake)


_HELP = """Find out why a pose network fails: open, load, look, compare, evaluate.

Every verb takes --json (facts on stdout) and --demo (built-in checkpoints and data, offline).
"""


def _typer() -> typer.Typer:
    # Plain help, plain errors: rich costs a quarter of a second at every start.
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _version(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from workbench import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _elsewhere() -> None:
    """Stand for a verb that this call does not use."""


def _listing(names: dict[str, str]) -> Callable[..., None]:
    """What a group of verbs answers when none of them is named: what there is."""

    def listing(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="The names as JSON, alone on stdout.")] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            width = max(map(len, names))
            lines = "\n".join(f"{name:{width}}  {line}" for name, line in names.items())
            typer.echo(as_text(names) if as_json else lines)

    # Postponed annotations are strings, and typer looks for their names in this module.
    listing.__annotations__ = inspect.get_annotations(listing, eval_str=True)
    return listing


def check_demo_alone(annotations: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse --demo beside an input of the user's own that the demo brings: one of them would be ignored.

    Options such as --data, --image or --config stay: the demo's model is then shown on them.

    Args:
        annotations: of the options, by name, as typer reads them.
        options: their values.

    Raises:
        ValueError: there is such an input.
    """
    if not options.get("demo"):
        return
    words = [name for name in options if _is_word(annotations.get(name)) and name not in _CHOICES]
    given = [str(one) for name in words for one in _given(options[name])]
    # Elsewhere --adapter is about another file: the --model of `data lint`, the runs that `app` serves.
    if set(words) & _CHECKPOINTS:
        adapters = [name for name in options if name.startswith("adapter") and options[name] is not None]
        given += [f"--{name.replace('_', '-')}" for name in adapters]
    if given:
        raise ValueError(f"--demo brings its own input; leave {', '.join(given)} out")


def _is_word(annotation: Any) -> bool:
    """Whether typer takes this parameter from the words of a call that belong to no option."""
    return type((*get_args(annotation), None, None)[1]) is type(typer.Argument())


def check_given_paths(annotations: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse an option that names a file, a folder or a data set which does not exist.

    Positional arguments are left to the verbs: what they are, a name or a path, differs.

    Args:
        annotations: of the options, by name, as typer reads them.
        options: their values.

    Raises:
        FileNotFoundError: there is no such file or folder.
        KeyError: there is no data set of that name.
    """
    for name, value in options.items():
        kind, info = (*get_args(annotations.get(name)), None, None)[:2]
        if not is_path_option(name, kind, info):
            continue
        for one in _given(value):
            _check(name, flag_of(name, info), one)


def flag_of(name: str, info: Any) -> str:
    """How an option is typed.

    Args:
        name: of the parameter.
        info: what typer knows of it; in `Annotated` the first name stands where a default would.
    """
    typed = str(info.default)
    return typed if typed.startswith("--") else f"--{name.replace('_', '-')}"


def is_path_option(name: str, kind: Any, info: Any) -> bool:
    """Whether an option names something that has to be there.

    Args:
        name: of the option, with underscores.
        kind: its type.
        info: what typer knows of it.
    """
    # typer's class of options is not exported under a public name
    if type(info) is not type(typer.Option()) or name in WRITTEN:
        return False
    return "Path" in str(kind) or name in ("data", "boxes")


def _given(value: Any) -> Iterator[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from value
    elif value is not None:
        yield value


def _check(name: str, flag: str, value: Path | str) -> None:
    from workbench.core.errors import beside

    if name == "data":
        from workbench.data.opening import check_data_name

        check_data_name(value)
        return
    if str(value) in _WORDS.get(name, ()):
        return
    path = Path(value)
    if not path.exists():
        raise FileNotFoundError(f"{flag}: no such file or folder {value}{beside(path.absolute())}")
