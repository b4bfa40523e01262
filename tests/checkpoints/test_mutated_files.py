"""Damaged files of every format end in a documented error or in what was written; nothing in them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch

from tests.mutation import mutations, survivors, watch
from workbench.checkpoints import open_checkpoint
from workbench.evaluation.predictions import Predictions, read_predictions, write_predictions
from workbench.text.vectors import TextVectors, plain_vectors, read_text, write_text

FEW, MANY = 120, 4000


class Call:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch /tmp/executed",)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4)).eval()


def saved(value, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def state():
    return {
        "state_dict": network().state_dict(), "epoch": 3,
        "meta": {"epoch": 3, "cfg": "a = 1", "call": Call()},
        "message_hub": {"log_scalars": {"loss": [1.0]}, "runtime_info": {"best_score": np.float64(0.5)}},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]},
        "ema_state_dict": {"steps": torch.tensor(3)}
        | {f"module.{name}": value for name, value in network().state_dict().items()},
    }  # fmt: skip


def arrays() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network().state_dict().items()}


def npz(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays())
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network(), torch.zeros(1, 2, 8, 8)), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(network(), (torch.zeros(1, 2, 8, 8),)), buffer)
    return buffer.getvalue()


def onnx() -> bytes:
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    weights = [numpy_helper.from_array(v, k) for k, v in arrays().items()]
    weights.append(helper.make_tensor("plain", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [image], [], weights)
    return helper.make_model(graph).SerializeToString()


def safetensors() -> bytes:
    return pytest.importorskip("safetensors.torch").save(
        {k: v.contiguous() for k, v in network().state_dict().items()}, {"format": "pt"}
    )


# Format -> a valid file, its ending, and whether the format keeps checksums of what it holds.
CHECKPOINTS = {
    "torch zip": (lambda: saved(state()), "pth", True),
    "torch before 1.6": (lambda: saved(state(), _use_new_zipfile_serialization=False), "pth", False),
    "pickle 2": (lambda: pickle.dumps({"model": arrays(), "call": Call()}, 2), "pkl", False),
    "pickle 5": (lambda: pickle.dumps({"model": arrays(), "call": Call()}, 5), "pkl", False),
    "TorchScript": (scripted, "pt", True),
    "torch.export": (exported, "pt2", True),
    "npz": (lambda: npz(np.savez), "npz", True),
    "packed npz": (lambda: npz(np.savez_compressed), "npz", True),
    "ONNX": (onnx, "onnx", False),
    "safetensors": (safetensors, "safetensors", False),
}
_MADE: dict[str, bytes] = {}


def sample(name: str) -> bytes:
    if name not in _MADE:
        _MADE[name] = CHECKPOINTS[name][0]()
    return _MADE[name]


def everything(path):
    """All that a checkpoint file gives: its tensors, and what is said of it."""
    got = open_checkpoint(path)
    tensors = got.state_dict()
    for ema, there in ((True, got.averages.averaged), (False, got.averages.raw)):
        if there:
            got.state_dict(ema=ema)
    json.dumps(
        [got.meta, got.metrics, got.versions, got.parts(), got.shared, got.unread_text, dict(got.facts)]
    )
    return tensors


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_mutated_checkpoints(tmp_path, name, count, bitwise):
    _, ending, checked = CHECKPOINTS[name]
    data = sample(name)
    (tmp_path / f"whole.{ending}").write_bytes(data)
    want = everything(tmp_path / f"whole.{ending}")
    path = tmp_path / f"changed.{ending}"
    accepted = 0
    for _, got in survivors(data, path, everything, count=count, errors=(ValueError, FileNotFoundError)):
        accepted += 1
        if checked:
            assert got.keys() == want.keys()
            assert all(bitwise(got[key], want[key]) for key in want), name
    assert accepted < count


def vectors() -> TextVectors:
    rng = np.random.default_rng(0)
    both = rng.normal(size=(2, 2, 3))
    names, subjects, sentences = ("a", "b"), ("cow", "dog"), (("the a", "the b"), ("a cow", "a dog"))
    return TextVectors("t", "e", names, both[0], subjects, both[1], (1, 2), *sentences)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_mutated_text_vectors(tmp_path, count):
    want = read_text(write_text(vectors(), tmp_path / "t.npz"))
    data = (tmp_path / "t.npz").read_bytes()
    for _, got in survivors(data, tmp_path / "changed.npz", read_text, count=count):
        assert np.array_equal(got.keypoint_vectors, want.keypoint_vectors)
        assert np.array_equal(got.subject_vectors, want.subject_vectors)
        assert (got.keypoints, got.subjects, got.categories) == (
            want.keypoints,
            want.subjects,
            want.categories,
        )


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_mutated_vectors_of_the_published_pipeline(tmp_path, count):
    np.save(tmp_path / "subject.npy", np.ones(4, np.float32))
    np.save(tmp_path / "keypoints.npy", np.ones((2, 4), np.float32))

    def read(path):
        return plain_vectors("p", tmp_path / "subject.npy", path, ("a", "b"))

    for _, got in survivors((tmp_path / "keypoints.npy").read_bytes(), tmp_path / "k.npy", read, count=count):
        assert len(got.keypoint_vectors) == 2


def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(np.arange(3), np.ones(3, int), rng.normal(size=(3, 4)), rng.normal(size=(3, 5, 2)),
                       rng.random((3, 5)), rng.random(3), np.arange(3))  # fmt: skip


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_mutated_predictions(tmp_path, count):
    want, _ = read_predictions(write_predictions(tmp_path / "p.parquet", predictions(), epoch=3))
    data = (tmp_path / "p.parquet").read_bytes()
    for _, (got, _) in survivors(data, tmp_path / "changed.parquet", read_predictions, count=count):
        # The checksums are those of the pages: the footer (names, counts, statistics) has none.
        assert got.keypoints.shape[-1] == 2
        assert len(got.keypoints) == len(got.image_id)
    assert want.keypoints.shape == (3, 5, 2)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_mutated_shard_indices(tmp_path, count):
    name = "model.safetensors.index.json"
    (tmp_path / "model-1.safetensors").write_bytes(sample("safetensors"))
    index = {"metadata": {"total_size": 100}, "weight_map": dict.fromkeys(arrays(), "model-1.safetensors")}
    errors = (ValueError, FileNotFoundError)
    for _, got in survivors(
        json.dumps(index).encode(), tmp_path / name, open_checkpoint, count=count, errors=errors
    ):
        assert all(path.parent == tmp_path for path in got.paths)


def test_the_tool_itself_sees_calls_and_makes_the_same_files_again(tmp_path):
    data = sample("npz")
    assert list(mutations(data, 40, 1)) == list(mutations(data, 40, 1)) != list(mutations(data, 40, 2))
    assert sum(changed != data for changed in mutations(data, 200)) > 190

    def writing(path):
        (tmp_path / "written").write_text("x")
        raise ValueError("refused")

    try:
        with pytest.raises(AssertionError, match="open"):
            list(survivors(data, tmp_path / "a.npz", writing, count=1))
    finally:
        watch().seen.clear()
    with pytest.raises(ZeroDivisionError):
        list(survivors(data, tmp_path / "a.npz", lambda path: 1 / 0, count=1))
    assert zipfile.is_zipfile(io.BytesIO(data))
