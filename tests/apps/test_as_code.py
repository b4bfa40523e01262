"""Copied code opens what the page shows, and a name out of a folder or file stays a name in it."""

import ast
import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from apps.pages.inspectors import restored
from apps.pages.overfit.choices import Choices, setup_of
from apps.pages.report_section import command_in, literal, opening_model, opening_of, printing, report_code
from apps.pages.subject import able_runs, subject_of
from apps.pages.sweep_section import Sweeping
from apps.server.context import Context
from tests.apps.test_overfit_page import SMALL
from workbench.data import read_coco
from workbench.data.images import ImageReading
from workbench.inspectors import get

HOSTILE = 'x").model; open("written", "w"); ("'


@pytest.fixture
def opened(settings):
    made = []

    def of(**changed):
        made.append(Context.of(dataclasses.replace(settings, **changed)))
        return made[-1]

    yield of
    for context in made:
        context.jobs.close()


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "back\\slash",
        "two\nlines",
        "ein Löwe",
        "not UTF-8 \udcff \U0001f600",
        "'",
        "\u202etxt",
        "\x1b\x7f",
    ],
)
def test_a_literal_is_the_text_again(text):
    assert ast.literal_eval(literal(text)) == text
    assert literal(text).isprintable()


def test_code_that_is_run_prints_its_reports_and_a_command_stays_as_it_is(capsys):
    exec(printing("word = 'AP'\n(word +\n ' 0.5')\n\nword"), {})
    assert capsys.readouterr().out == "AP 0.5\nAP\n"
    assert printing("workbench sweep run --data x").splitlines() == ["workbench sweep run --data x"]


def test_a_shown_command_names_what_lies_in_the_served_folder_from_there(tmp_path):
    served = tmp_path / "my runs"
    inside, outside = served / "a" / "my config.py", tmp_path / "my runs 2" / "a.json"
    command = shlex.join(["workbench", "overfit", "--config", str(inside), "--annotation", str(outside)])
    typed = command_in(served, command)
    assert shlex.split(typed)[2:] == ["--config", "a/my config.py", "--annotation", str(outside)]
    # Typed there, it is the same command.
    again = [str(served / word) if word.endswith(".py") else word for word in shlex.split(typed)]
    assert shlex.join(again) == command
    assert command_in(served, "workbench overfit rtmpose --steps 3") == "workbench overfit rtmpose --steps 3"


def test_a_folder_cannot_end_the_string_that_names_it(opened, painted, settings, tmp_path):
    painted.write_checkpoint(tmp_path / HOSTILE / "epoch_1.pth", 1, 0)
    context = opened(root=tmp_path)
    (run, *_) = context.registry.runs()
    subject = subject_of(context, run.id, *[None] * 9)
    code = report_code(context, subject, get("overlay"), get("overlay").params())
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert "open" not in [f.id for f in calls if isinstance(f, ast.Name)]


def test_what_the_command_line_said_of_the_models_is_repeated(opened):
    context = opened(adapter=None, output=("heatmaps=out",), assume=("padding=1.25", "std=255"), remap=True)
    assert opening_model(context, "file") == (
        'open_model(file, remap=True, output=["heatmaps=out"], assume=["padding=1.25", "std=255"])'
    ).replace('"', "'")


def test_missing_images_are_left_out_in_the_code_as_on_the_page(opened, painted, tmp_path):
    file = painted.write_data(tmp_path, 3)
    content = json.loads(file.read_text())
    context = opened(data=(file,))
    (name,) = (n for n in context.registry.sets.ids() if n.endswith(file.name))
    whole, shown = opening_of(context, name)[1], context.registry.sets.get(name)
    assert "with_present_images" not in whole
    shown.images[content["images"][0]["id"]].path.unlink()
    context = opened(data=(file,))
    imports, opening = opening_of(context, name)
    room: dict = {}
    exec(f"{imports}\nfound = {opening}", room)
    assert room["found"].sample(0).key == context.registry.sets.sample(name, 0).key
    assert len(room["found"]) == len(context.registry.sets.get(name)) < len(shown)


def test_what_the_command_line_said_of_images_is_repeated_and_swept_with(opened, painted, tmp_path):
    file, stated = painted.write_data(tmp_path, 1), ImageReading(bits=16, as_stored=True)
    context = opened(data=(file,), reading=stated, images=tmp_path, assume=("std=255", "mean=0"))
    imports, opening = opening_of(context, file.name)
    room: dict = {}
    exec(f"{imports}\nfound = {opening}", room)
    assert room["found"].reading == context.registry.sets.get(file.name).reading == stated
    sweep, usual = Sweeping(context), Sweeping(opened(data=(file,), images=tmp_path))
    wanted = sweep.asked(context.registry.runs()[0].id, file.name, ["flip"])
    words, own = shlex.split(sweep.code(wanted)), shlex.split(usual.code(wanted))
    line = ["--assume", "std=255", "--assume", "mean=0", "--bits", "16", "--as-stored"]
    assert words[words.index("--assume") :][:7] == line
    assert "--adapter" in words
    assert "--images" in own
    assert "--bits" not in own
    assert words[-1] != own[-1], "other rules are another folder"
    long = [sweep._out(dataclasses.replace(wanted, run=f"work/{'é' * 127}{end}")).name for end in "ab"]
    assert max(len(name.encode()) for name in long) < 250
    assert long[0] != long[1], "shortened names differ by their digests"
    drawn = sweep.asked(wanted.run, "scenes-val")
    assert sweep._images(drawn) is None, "built-in scenes bring their own images"


def test_a_first_visit_opens_on_a_run_that_can_answer(opened):
    context = opened(root=Path(__file__).parents[2] / "checkpoints", adapter=None, data=())
    firsts = {"tag_values": "higherhrnet-demo", "film": "rtmpose-text-fusion", "overlay": "rtmpose-demo"}
    for name, run in firsts.items():
        assert restored(context, get(name), "")[0]["value"] == run
    assert [r.id for r in able_runs(context, get("prefix"))][:1] == ["cape-demo"]
    assert [r.id for r in able_runs(context, get("consistency_mask"))] == ["higherhrnet-demo"]
    # The codec of a run is known once it is described.
    context.registry.described(context.registry.default_run()).result()
    assert [r.id for r in able_runs(context, get("simcc_curves"))][:1] == ["rtmpose-demo"]
    assert restored(context, get("consistency_mask"), "")[0]["value"] == "higherhrnet-demo"


def test_the_command_of_an_attempt_finds_the_images_and_the_sample_of_the_page(opened, painted, tmp_path):
    file = painted.write_data(tmp_path / "it's", 3)
    images = (tmp_path / "it's" / "images").rename(tmp_path / "my images")
    first = json.loads(file.read_text())["images"][0]["file_name"]
    (tmp_path / "small.py").write_text(SMALL)
    (images / first).unlink()
    context = opened(root=tmp_path, data=(file,), images=images, reading=ImageReading(12, as_stored=True))
    for sample in (None, 1):
        choices = Choices(config="small.py", data=file.name, sample=sample, steps=2)
        setup = setup_of(context, choices)
        words = shlex.split(setup.command)
        typed = {word: words[words.index(word) + 1] for word in ("--annotation", "--images", "--sample")}
        assert words[words.index("--bits") + 1] == "12"
        assert "--as-stored" in words
        there = read_coco(Path(typed["--annotation"]), Path(typed["--images"]))
        assert there.sample(int(typed["--sample"])).key == setup.samples[0].key
    words = shlex.split(setup_of(context, Choices(config="small.py", data="astronaut", steps=2)).command)
    assert not {"--images", "--bits", "--as-stored", "--sample"} & set(words), "a built-in set has its own"
