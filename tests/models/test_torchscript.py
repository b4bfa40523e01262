import zipfile

import pytest
import torch
from torch import nn

from tests.checkpoints.test_damaged_archives import flipped
from workbench.core import NotAvailable, Sample
from workbench.core.job import current_checkpoint
from workbench.core.run import run
from workbench.models import open_model

CONFIG = """
codec = dict(type='MSRAHeatmap', input_size=(48, 64), heatmap_size=(12, 16), sigma=2)
model = dict(type='exported', data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=True))
val_pipeline = [dict(type='GetBBoxCenterScale'), dict(type='TopdownAffine', input_size=(48, 64))]
"""


class Red(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        return nn.functional.max_pool2d(pixels[:, :2] * self.one, 4)


@pytest.fixture
def scripted(tmp_path):
    (tmp_path / "own.py").write_text(CONFIG)
    path = tmp_path / "red.pt"
    torch.jit.save(torch.jit.trace(Red(), torch.zeros(1, 3, 64, 48)), str(path))
    return path


def lit():
    image = torch.zeros(64, 48, 3, dtype=torch.uint8)
    image[20, 8, 0] = image[4, 36, 1] = 255
    return Sample(image.numpy(), (4.8, 6.4, 43.2, 57.6))


def test_a_program_is_not_opened_unless_asked_for(scripted):
    with pytest.raises(NotAvailable, match="loading it runs it; pass --family torchscript"):
        open_model(scripted)


def test_a_program_asked_for_is_read_with_its_config(scripted):
    opened = open_model(scripted, family="torchscript", config=scripted.parent / "own.py", run_config=False)
    assert run(opened.model, [lit()]).keypoints.round(3).tolist() == [[[8, 20], [36, 4]]]


def test_without_a_config_its_input_size_is_unknown(scripted):
    with pytest.raises(NotAvailable, match=r"input size.*--config"):
        open_model(scripted, family="torchscript")


def test_an_exported_program_knows_its_input_size(tmp_path):
    program = torch.export.export(Red(), (torch.zeros(1, 3, 64, 48),))
    torch.export.save(program, str(tmp_path / "red.pt2"))
    opened = open_model(tmp_path / "red.pt2", family="torchscript")
    assert opened.model.input_size == (64, 48)
    assert run(opened.model, [lit()]).keypoints.round(3).tolist() == [[[8, 20], [36, 4]]]
    with pytest.raises(NotAvailable, match="no modules that can be hooked"):
        run(opened.model, [lit()], record=["stem"])


@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_a_cancelled_job_ends_within_a_program(tmp_path, scripted, jobs, monkeypatch, kind):
    """The hooks that end the pass of another network are not called in a program."""
    path = scripted
    if kind == "exported":
        path = tmp_path / "red.pt2"
        torch.export.save(torch.export.export(Red(), (torch.zeros(1, 3, 64, 48),)), str(path))
    model = open_model(path, family="torchscript", config=scripted.parent / "own.py", run_config=False).model
    asked, seen, running = [], [], []

    def checkpoint():
        asked.append(True)
        if len(asked) == 2:
            running[0].cancel()
        current_checkpoint()

    def work(job):
        running.append(job)
        seen.append(model.forward(model.prepare([lit()])))
        monkeypatch.setattr("workbench.models.torchscript.current_checkpoint", checkpoint)
        seen.append(model.forward(model.prepare([lit()])))

    job = jobs.start("key", "title", work)
    assert job.wait(60)
    assert (job.state, job.error, len(seen)) == ("cancelled", None, 1)
    assert len(asked) <= 3
    assert torch.equal(seen[0].heatmaps, model.forward(model.prepare([lit()])).heatmaps)


class Maps(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 17, 3, 4, 1)

    def forward(self, pixels):
        return self.conv(pixels)


@pytest.mark.parametrize(
    ("dtype", "batch", "channels"),
    [
        (torch.bfloat16, 1, 3), (torch.float16, 1, 3), (torch.float64, 1, 3), (torch.float32, 4, 3),
        (torch.float32, 2, 1), (torch.float16, 4, 1),
    ],
)  # fmt: skip
def test_a_program_of_any_type_batch_and_channels_runs(tmp_path, dtype, batch, channels):
    plain = Maps(channels).eval()
    program = torch.export.export(
        Maps(channels).to(dtype).eval(), (torch.rand(batch, channels, 64, 48).to(dtype),)
    )
    torch.export.save(program, str(tmp_path / "maps.pt2"))
    opened = open_model(tmp_path / "maps.pt2", family="torchscript")
    done = run(opened.model, [lit()] * 5)
    assert done.heatmaps.shape == (5, 17, 16, 12)
    pixels = done.batch.pixels
    if channels == 1:
        pixels = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        assert "one channel" in opened.note
    wanted = plain(pixels).detach()
    assert torch.allclose(torch.from_numpy(done.heatmaps), wanted, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_scripted_program_of_half_precision_runs(tmp_path, dtype):
    path = tmp_path / "half.pt"
    torch.jit.save(torch.jit.script(Maps().to(dtype).eval()), str(path))
    opened = open_model(path, family="torchscript", assume=["input=48x64"])
    assert run(opened.model, [lit()]).heatmaps.shape == (1, 17, 16, 12)


def test_what_a_program_raises_is_one_sentence(tmp_path):
    class Fixed(Red):
        def forward(self, pixels):
            return (pixels * self.one).view(3, 7, 5)

    path = tmp_path / "fixed.pt"
    torch.jit.save(torch.jit.script(Fixed()), str(path))
    with pytest.raises(ValueError, match=r"fixed\.pt: torch refuses it: .*(view|shape|size)"):
        open_model(path, family="torchscript", assume=["input=48x64"])


class Spread(Red):
    """Its output takes no memory: every cell is the same number. As float32 it would be 68 TB."""

    def forward(self, pixels):
        return (pixels.sum() * self.one.double()).expand(1, 17, 1_000_000, 1_000_000)


class Raises(Red):
    def forward(self, pixels):
        if bool(pixels.sum() > -1):
            raise NotImplementedError("no such thing")
        return pixels


@pytest.mark.parametrize(("kind", "says"), [(Spread, "allocate"), (Raises, "no such thing")])
def test_what_comes_of_a_program_is_refused_as_what_it_does(tmp_path, kind, says):
    path = tmp_path / "odd.pt"
    torch.jit.save(torch.jit.script(kind()), str(path))
    with pytest.raises(ValueError, match=rf"odd\.pt: torch refuses it: .*{says}"):
        open_model(path, family="torchscript", assume=["input=48x64"])


def rewritten(path, new, change):
    """A copy of an archive, each member as `change` of its name and bytes gives it."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(new, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, change(name, archive.read(name)))
    return new


@pytest.mark.parametrize("target", ["torch.hub.load", "torch.load", "math.factorial", "os.system"])
def test_a_node_that_calls_something_else_than_an_operator_is_refused_and_not_called(tmp_path, target):
    torch.export.save(torch.export.export(Red(), (torch.zeros(1, 3, 64, 48),)), str(tmp_path / "red.pt2"))

    def change(name, data):
        return data.replace(b"torch.ops.aten.mul.Tensor", target.encode()) if "/models/" in name else data

    path = rewritten(tmp_path / "red.pt2", tmp_path / "odd.pt2", change)
    with pytest.raises(ValueError, match=r"odd\.pt2: torch refuses it: "):
        open_model(path, family="torchscript")


NESTED = {
    "brackets": "(" * 9000 + "1" + ")" * 9000,
    "lists": "[" * 9000 + "]" * 9000,
    "signs": "-" * 90_000 + "1",
    "sum": "+".join(["1"] * 90_000),
    "sum of brackets over lines": "(" + "+\n(1)" * 90_000 + ")",
    "choices": "1 if True else " * 90_000 + "1",
}


@pytest.mark.parametrize("kind", NESTED)
def test_code_that_would_overflow_the_stack_of_torchs_parser_is_refused(tmp_path, scripted, kind):
    """The process ended without a word (SIGSEGV)."""

    def change(name, data):
        if not name.endswith(".py"):
            return data
        return data.replace(b"    one = self.one\n", f"    a = {NESTED[kind]}\n    one = self.one\n".encode())

    path = rewritten(scripted, tmp_path / "deep.pt", change)
    with pytest.raises(ValueError, match=r"deep\.pt: its code .* nests more than 500 operators and brackets"):
        open_model(path, family="torchscript", assume=["input=48x64"])


def test_code_of_long_lists_and_texts_is_read(tmp_path, scripted):
    def change(name, data):
        line = f"    a = [{', '.join(['(-1)'] * 3000)}]\n    b = {'(' * 3000!r}\n    one = self.one\n"
        return data.replace(b"    one = self.one\n", line.encode()) if name.endswith(".py") else data

    path = rewritten(scripted, tmp_path / "long.pt", change)
    assert len(open_model(path, family="torchscript", assume=["input=48x64"]).model.skeleton) == 2


@pytest.mark.parametrize(("ending", "entry"), [("pt", "data/0"), ("pt2", "weights/weight_0")])
def test_a_damaged_program_is_refused_before_torch_runs_it(tmp_path, scripted, ending, entry):
    """torch compares no checksum of a program's archive: it ran with the changed weight."""
    path = scripted
    if ending == "pt2":
        path = tmp_path / "red.pt2"
        torch.export.save(torch.export.export(Red(), (torch.zeros(1, 3, 64, 48),)), str(path))
    bad = flipped(path, tmp_path / f"bad.{ending}", entry, 2)
    with pytest.raises(ValueError, match=rf"bad\.{ending} is damaged: the bytes of \S+{entry} do not fit"):
        open_model(bad, family="torchscript", assume=["input=48x64"])


@pytest.mark.parametrize(
    ("ending", "old", "new", "says"),
    [
        (
            "models/model.json",
            b"torch.ops.aten.mul.Tensor",
            b"torch.ops.mine.mul.Tensor",
            "torch.ops.mine.mul",
        ),
        ("models/model.json", b'"schema_version"', b'"schema_versiom"', "schema_version"),
        ("archive_version", b"0", b"99", "version 99"),
        ("models/model.json", None, None, "holds no program"),
    ],
)
def test_a_refused_program_names_the_reason_of_torch(tmp_path, capfd, caplog, ending, old, new, says):
    """torch logs the reason with a traceback and raises 'Please check the warnings above'."""
    whole = tmp_path / "whole.pt2"
    torch.export.save(torch.export.export(Red(), (torch.zeros(1, 3, 64, 48),)), str(whole))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "red.pt2", "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith(ending):
                assert old is None or old in data
                data = None if old is None else data.replace(old, new)
            if data is not None:
                changed.writestr(name, data)
    with pytest.raises(ValueError, match=rf"red\.pt2: torch refuses it: .*{says}") as caught:
        open_model(tmp_path / "red.pt2", family="torchscript", assume=["input=48x64"])
    assert "warnings above" not in str(caught.value)
    assert not [record for record in caplog.records if record.name == "torch.export"]
    assert "Traceback" not in capfd.readouterr().err


def test_names_of_a_programs_dict_tell_its_outputs(tmp_path):
    class Named(Red):
        def forward(self, pixels):
            red, green = pixels[:, :2] * self.one, pixels[:, :2]
            return {"simcc_y": red.amax(3), "simcc_x": green.amax(2)}

    torch.export.save(torch.export.export(Named(), (torch.rand(1, 3, 48, 48),)), str(tmp_path / "named.pt2"))
    opened = open_model(tmp_path / "named.pt2", family="torchscript", assume=["padding=1"])
    image = torch.zeros(48, 48, 3, dtype=torch.uint8)
    image[20, 8, 0] = image[4, 36, 1] = 255
    done = run(opened.model, [Sample(image.numpy(), (0, 0, 48, 48))])
    assert done.keypoints.tolist() == [[[8, 20], [36, 4]]]


def test_a_program_of_something_else_than_one_image_says_what_it_takes(tmp_path):
    class Two(Red):
        def forward(self, pixels, box):
            return pixels * box * self.one

    program = torch.export.export(Two(), (torch.rand(1, 3, 8, 8), torch.rand(1)))
    torch.export.save(program, str(tmp_path / "two.pt2"))
    with pytest.raises(NotAvailable, match=r"expected one image.*\[1, 3, 8, 8\].*\[1\]"):
        open_model(tmp_path / "two.pt2", family="torchscript")
