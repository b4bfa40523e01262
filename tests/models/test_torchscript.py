import pytest
import torch
from torch import nn

from workbench.models import open_model
from workbench.records import NotAvailable, Sample
from workbench.run import run

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
