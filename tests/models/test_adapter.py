import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.checkpoints.demo import demo_checkpoints
from workbench.core import DecodeOptions, NotAvailable, PoseModel, Sample
from workbench.core.run import run
from workbench.models import open_model
from workbench.models.adapter import imported

ADAPTERS = Path(__file__).parents[1] / "adapters"
TINY = (ADAPTERS / "tiny_heatmap.py").read_text()


def written(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(text))
    return path


def sample():
    return Sample(np.full((64, 48, 3), 9, np.uint8), (0, 0, 48, 64))


def test_an_adapter_without_a_checkpoint_is_a_model():
    loaded = open_model(None, adapter=ADAPTERS / "tiny_heatmap.py")
    assert isinstance(loaded.model, PoseModel)
    assert (loaded.family, loaded.title, loaded.sha256, loaded.load) == ("adapter", "tiny_heatmap", "", None)
    assert loaded.model.padding == 1.25


def test_movenet_loads_every_tensor_and_finds_the_skier(shared):
    """Case: OKS .75 or more on a COCO photograph with the annotated box."""
    from workbench.data import read_coco

    loaded = open_model(shared / "data/weights/movenet_mbv3.pth", adapter=ADAPTERS / "movenet.py")
    assert loaded.load.loaded_fraction == 1
    assert not loaded.load.unexpected
    pose_set = read_coco(shared / "data/coco/test_coco.json")
    skier = next(i for i in pose_set.labelled if pose_set.instances[i].image_id == 785)
    done = run(loaded.model, [pose_set.sample(skier)], record=["backbone.stage4"])
    (truth,), (found,), (one,) = done.truth, done.keypoints, done.samples
    square = (
        ((found - truth[:, :2]) ** 2).sum(1) / (2 * np.array(pose_set.skeleton.sigmas)) ** 2 / one.area / 2
    )
    oks = np.nan_to_num(np.exp(-square))[truth[:, 2] > 0].mean()
    assert oks >= 0.75
    assert done.fields["offsets"].shape == (1, 17, 2, 48, 48)
    assert done.activation("backbone.stage4").shape == (1, 192, 12, 12)


def test_a_mistake_while_importing_is_told_by_line(tmp_path):
    path = written(
        tmp_path,
        """
        x = 1
        y = x.nothing
        """,
    )
    with pytest.raises(ValueError, match=r"mine\.py, line 3: AttributeError: .*nothing"):
        open_model(None, adapter=path)


def test_a_mistake_without_words_shows_the_line_itself(tmp_path):
    path = written(tmp_path, "\nraise RuntimeError()\n")
    with pytest.raises(ValueError, match=r"mine\.py, line 2: RuntimeError at raise RuntimeError\(\)"):
        open_model(None, adapter=path)


def test_a_syntax_error_is_told_by_line(tmp_path):
    with pytest.raises(ValueError, match=r"mine\.py, line 2: SyntaxError"):
        open_model(None, adapter=written(tmp_path, "x = 1\ndef load(:\n"))


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ("torch.zeros(2, 3) @ torch.zeros(2, 3)", r"RuntimeError: mat1 and mat2"),
        ("torch.load('weights/stats.pth')", r"FileNotFoundError: .*No such file .*'weights/stats\.pth'"),
        ("subprocess.run(['false'], check=True)", r"CalledProcessError: .*'false'.* exit status 1"),
        ("b'K\\xf6pfe'.decode()", r"UnicodeDecodeError: 'utf-8' codec can't decode byte 0xf6 in position 1"),
    ],
)
def test_a_mistake_in_load_is_told_by_its_own_line_with_the_whole_reason(tmp_path, mistake, reason):
    path = written(
        tmp_path,
        f"""
        import subprocess, torch

        def load(checkpoint, device):
            return {mistake}
        """,
    )
    with pytest.raises(ValueError, match=rf"mine\.py, line 5: {reason}"):
        open_model(None, adapter=path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"_base_ = ['../no/base.py']\n", r"FileNotFoundError: .*no/base\.py"),
        (b"# K\xf6pfe\nx = 1\n", r"UnicodeDecodeError: 'utf-8' codec can't decode byte 0xf6"),
    ],
    ids=["a base that is not there", "not UTF-8"],
)
def test_a_config_that_cannot_be_read_is_told_with_the_whole_reason(tmp_path, config, reason):
    (tmp_path / "mine.py").write_bytes(config)
    with pytest.raises(ValueError, match=rf"mine\.py, line 1: {reason}"):
        open_model(demo_checkpoints()[-1], config=tmp_path / "mine.py")


def test_a_file_without_load_says_what_to_define(tmp_path):
    with pytest.raises(ValueError, match=r"expected a function load\(checkpoint, device\)"):
        open_model(None, adapter=written(tmp_path, "def loads(): pass"))


def test_what_is_no_model_is_told_what_it_lacks(tmp_path):
    path = written(
        tmp_path,
        """
        from types import SimpleNamespace

        def load(checkpoint, device):
            return SimpleNamespace(module=None, skeleton=None, taps={}, codec=None, forward=print)
        """,
    )
    with pytest.raises(ValueError, match=r"lacks prepare \(prepare\(samples\) -> Batch\), decode") as caught:
        open_model(None, adapter=path)
    assert "workbench.models.TopDown" in str(caught.value)


def test_taps_that_lead_nowhere_are_named(tmp_path):
    path = written(
        tmp_path,
        """
        from torch import nn
        from workbench.models import TopDown
        from workbench.core import Codec, Skeleton

        def load(checkpoint, device):
            codec = Codec("heatmap", (64, 48), (16, 12))
            return TopDown(nn.Conv2d(3, 1, 1), Skeleton("one", ("nose",)), codec, taps={"stem": "stemm"})
        """,
    )
    with pytest.raises(ValueError, match="taps that lead nowhere: 'stem' -> 'stemm'"):
        open_model(None, adapter=path)


BROKEN = """
    from torch import nn
    from workbench.models import TopDown
    from workbench.core import Codec, Skeleton

    class Net(nn.Module):
        def forward(self, pixels):
            return pixels.reshape(7)

    def load(checkpoint, device):
        return TopDown(Net(), Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (16, 12)))
    """


def test_a_mistake_in_the_forward_pass_is_told_by_line(tmp_path):
    model = open_model(None, adapter=written(tmp_path, BROKEN)).model
    with pytest.raises(ValueError, match=r"mine\.py, line 8: RuntimeError: shape '\[7\]' is invalid"):
        run(model, [sample()])


def test_outputs_that_are_no_numbers_are_blamed_on_no_line(tmp_path):
    maps = BROKEN.replace("pixels.reshape(7)", "pixels[:, :1, ::4, ::4] * float('nan')")
    model = open_model(None, adapter=written(tmp_path, maps)).model
    with pytest.raises(ValueError, match=r"mine\.py: ValueError: heatmap of sample 0, keypoint 0 holds a"):
        run(model, [sample()])


def test_a_decode_that_forgets_samples_is_told(tmp_path):
    path = written(
        tmp_path,
        """
        import torch
        from torch import nn
        from workbench.core import Batch, Outputs, Skeleton

        class Mine:
            module, skeleton, taps, codec = nn.Identity(), Skeleton("one", ("nose",)), {}, None

            def prepare(self, samples):
                import numpy as np
                N = len(samples)
                return Batch(torch.zeros(N, 3, 4, 4), np.zeros((N, 2, 3)), tuple(samples))

            def forward(self, batch):
                return Outputs(heatmaps=batch.pixels)

            def decode(self, outputs, batch, options):
                return []

        def load(checkpoint, device):
            return Mine()
        """,
    )
    model = open_model(None, adapter=path).model
    with pytest.raises(ValueError, match=r"decode gave 0 Prediction for 1 sample"):
        run(model, [sample()])


def test_not_available_passes_as_it_is(tmp_path):
    path = written(
        tmp_path,
        """
        from workbench.core import NotAvailable

        def load(checkpoint, device):
            raise NotAvailable("this variant has no head")
        """,
    )
    with pytest.raises(NotAvailable, match=r"^this variant has no head$"):
        open_model(None, adapter=path)


def test_an_edited_adapter_is_read_anew_and_two_of_one_name_do_not_meet(tmp_path):
    for folder, padding in (("a", 1.1), ("b", 1.2)):
        (tmp_path / folder).mkdir()
        text = (
            (ADAPTERS / "tiny_heatmap.py")
            .read_text()
            .replace("device=device)", f"device=device, padding={padding})")
        )
        (tmp_path / folder / "model.py").write_text(text)
    first, second = (open_model(None, adapter=tmp_path / f / "model.py").model for f in "ab")
    assert (first.padding, second.padding) == (1.1, 1.2)
    text = (tmp_path / "a/model.py").read_text().replace("padding=1.1", "padding=1.35")
    (tmp_path / "a/model.py").write_text(text)
    assert open_model(None, adapter=tmp_path / "a/model.py").model.padding == 1.35


def test_a_module_beside_the_adapter_can_be_imported(tmp_path):
    (tmp_path / "beside_it.py").write_text("PADDING = 1.5\n")
    text = (
        (ADAPTERS / "tiny_heatmap.py")
        .read_text()
        .replace("device=device)", "device=device, padding=PADDING)")
    )
    path = written(tmp_path, "from beside_it import PADDING\n" + text)
    assert open_model(None, adapter=path).model.padding == 1.5


def test_an_edited_module_beside_the_adapter_is_read_anew_and_two_of_one_name_do_not_meet(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shared_name.py").write_text(f"value = {folder!r}\n")
        (tmp_path / folder / "between.py").write_text("from shared_name import value\n")
        (tmp_path / folder / "own.py").write_text("from between import value\n")
    one, other = tmp_path / "one", tmp_path / "other"
    assert [imported(f / "own.py").value for f in (one, other, one)] == ["one", "other", "one"]
    (one / "shared_name.py").write_text("value = 'edited since'\n")
    assert imported(one / "own.py").value == "edited since"
    assert imported(other / "own.py").value == "other"


def test_the_contract_of_a_model_holds_from_samples_to_predictions():
    model = open_model(None, adapter=ADAPTERS / "tiny_heatmap.py").model
    batch = model.prepare([sample(), sample()])
    outputs = model.forward(batch).detach()
    found = model.decode(outputs, batch, DecodeOptions())
    assert batch.pixels.shape == (2, 3, *model.codec.input_size)
    assert outputs.heatmaps.shape[1:] == (len(model.skeleton), *model.codec.output_size)
    assert len(found) == 2
    assert found[0].keypoints.shape == (2, 2)


REMAPPED = """
    from torch import nn
    from workbench.checkpoints.loading import load_state
    from workbench.models import TopDown
    from workbench.core import Codec, Skeleton

    def load(checkpoint, device):
        net = nn.Sequential(nn.Conv2d(3, 2, 3, 4, 1))
        report = load_state(net, checkpoint)
        return TopDown(net, Skeleton("two", ("a", "b")), Codec("heatmap", (64, 64), (16, 16)))RETURNED
    """


@pytest.fixture
def lightning(tmp_path):
    """A Lightning checkpoint: every name begins with ``model.``."""
    weights = {"model.0.weight": torch.rand(2, 3, 3, 3), "model.0.bias": torch.rand(2)}
    torch.save(
        {"epoch": 3, "pytorch-lightning_version": "2.5", "state_dict": weights}, tmp_path / "best.ckpt"
    )
    return tmp_path / "best.ckpt"


def test_the_wish_to_rename_reaches_the_adapters_load_state(tmp_path, lightning):
    path = written(tmp_path, REMAPPED.replace("RETURNED", ", report"))
    with pytest.raises(ValueError, match="apply with --remap"):
        open_model(lightning, adapter=path)
    loaded = open_model(lightning, adapter=path, remap=True)
    assert loaded.load.loaded_fraction == 1
    assert loaded.load.applied


def test_a_wish_to_rename_that_the_adapter_cannot_follow_is_told(tmp_path, lightning):
    path = written(tmp_path, REMAPPED.replace("RETURNED", ""))
    with pytest.raises(ValueError, match=r"--remap reaches an adapter through load_state"):
        open_model(lightning, adapter=path, remap=True)


def test_the_pattern_of_the_readme_starts_from_first_weights_without_a_checkpoint():
    import torch

    from workbench.checkpoints.loading import load_state

    net = torch.nn.Linear(2, 2)
    before = net.weight.detach().clone()
    assert load_state(net, None) is None
    assert torch.equal(net.weight, before)
