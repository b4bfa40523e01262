"""Files whose containers are sound and whose values are odd end in values or one sentence."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.checkpoints.test_mutated_files import everything, predictions, sample, vectors
from tests.mutation import ODD, odd_values, read_all
from workbench.checkpoints import open_checkpoint
from workbench.evaluation.predictions import PROTOCOL_KEY, SHAPE_KEY, read_predictions, write_predictions
from workbench.text.vectors import read_text, write_text

FEW, MANY = 150, 10_000
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]
ERRORS = (ValueError, FileNotFoundError)


def training_state() -> dict:
    weight = {"a.conv.weight": np.ones((2, 3), np.float32), "a.bn.running_mean": np.ones(2, np.float32)}
    return {
        "state_dict": weight, "epoch": 3, "global_step": 9, "best_score": 0.5,
        "pytorch-lightning_version": "2.1",
        "meta": {"epoch": 3, "iter": 9, "cfg": "a = 1", "env_info": "PyTorch: 1.9\n", "mmpose_version": "1.0",
                 "dataset_meta": {"keypoints": ["a"]}},
        "message_hub": {"log_scalars": {"loss": [1.0, 2.0], "val/AP": np.ones(3)},
                        "runtime_info": {"best_score": 0.5}},
        "ema_state_dict": {"steps": 5, **{f"module.{k}": v for k, v in weight.items()}},
        "optimizer": {"state": {0: {"exp_avg": 1.0, "exp_avg_sq": 1.0}}, "param_groups": [{"lr": 1e-3}]},
        "callbacks": {"ModelCheckpoint{'monitor': 'AP'}": {"best_model_score": 0.5}},
        "train_stats": {"loss": 1.0},
    }  # fmt: skip


KEYS = (*ODD, {("a", 1): {"w": np.ones(2)}}, {1: 2, None: 3, 2.5: 4, b"k": 5}, {"state_dict": {}},
        np.float32("inf"), np.array([np.nan]), np.array(["text"]), np.zeros((0, 3), np.float32),
        {"weight": np.ones(2, np.complex64)})  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
def test_odd_values_in_training_checkpoints(tmp_path, count):
    made = (pickle.dumps(value, 4) for value in odd_values(training_state(), count, odd=KEYS))
    assert read_all(tmp_path / "odd.pkl", everything, made, ERRORS) > count / 4


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_odd_values_in_exported_programs(tmp_path, count):
    with zipfile.ZipFile(io.BytesIO(sample("torch.export"))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listed = next(name for name in members if name.endswith("weights_config.json"))
    content = json.loads(members[listed])

    def made() -> Iterator[bytes]:
        for value in odd_values(
            content, count, odd=tuple(v for v in ODD if not isinstance(v, (bytes, tuple)))
        ):
            yield zipped({**members, listed: json.dumps(value).encode()})

    read_all(tmp_path / "odd.pt2", everything, made(), ERRORS)


@pytest.mark.parametrize("count", COUNTS)
def test_odd_headers_in_numpy_archives(tmp_path, count):
    header = {"descr": "<f4", "fortran_order": False, "shape": (2, 3)}
    kinds = (
        *ODD,
        "<f1",
        "|O",
        "<U9999999",
        ">f2",
        "<c4",
        "<M8[s]",
        (-1,),
        (1 << 62, 4),
        (2.0, 3),
        (True, 6),
        (6,),
    )

    def made() -> Iterator[bytes]:
        for value in odd_values(header, count, odd=kinds):
            text = f"{value!r}".encode("latin1", "replace").ljust(100) + b"\n"
            head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(4, "little")[:2] + text
            yield zipped({"w.npy": head + bytes(24), "v.npy": head[:10] + text + bytes(24)})

    read_all(tmp_path / "odd.npz", everything, made(), ERRORS)


@pytest.mark.parametrize("count", COUNTS)
def test_odd_headers_in_safetensors(tmp_path, count):
    data = sample("safetensors")
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    plain = tuple(value for value in ODD if not isinstance(value, (bytes, tuple)))

    def made() -> Iterator[bytes]:
        for value in odd_values(header, count, odd=plain):
            text = json.dumps(value).encode()
            yield len(text).to_bytes(8, "little") + text + data[8 + size :]

    read_all(tmp_path / "odd.safetensors", everything, made(), ERRORS)


@pytest.mark.parametrize("count", COUNTS)
def test_odd_descriptions_of_text_vectors(tmp_path, count):
    write_text(vectors(), tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        arrays = {name: file[name] for name in file.files}
    description = json.loads(str(arrays["told"]))

    def made() -> Iterator[bytes]:
        for value in odd_values(
            description, count, odd=tuple(v for v in ODD if not isinstance(v, (bytes, tuple)))
        ):
            buffer = io.BytesIO()
            np.savez(buffer, **{**arrays, "told": np.array(json.dumps(value))})
            yield buffer.getvalue()

    read_all(tmp_path / "odd.npz", read_text, made())
    for name, odd in (("keypoint_vectors", np.ones(3)), ("keypoint_vectors", np.full((2, 3), np.inf)),
                      ("subject_vectors", np.array([["a"]])), ("told", np.ones(2))):  # fmt: skip
        np.savez(tmp_path / "odd.npz", **{**arrays, name: odd})
        with pytest.raises(ValueError, match=r"odd\.npz"):
            read_text(tmp_path / "odd.npz")


@pytest.mark.parametrize("count", [50, pytest.param(2000, marks=pytest.mark.slow)])
def test_odd_notes_in_files_of_predictions(tmp_path, count):
    pq = pytest.importorskip("pyarrow.parquet")
    from workbench.evaluation.protocol import Protocol

    write_predictions(tmp_path / "p.parquet", predictions(), protocol=Protocol())
    table = pq.read_table(tmp_path / "p.parquet")
    notes = {key: json.loads(table.schema.metadata[key]) for key in (SHAPE_KEY, PROTOCOL_KEY)}
    plain = tuple(value for value in ODD if not isinstance(value, (bytes, tuple)))

    def made() -> Iterator[bytes]:
        for value in odd_values(notes, count, odd=plain):
            entries = value if isinstance(value, dict) else {SHAPE_KEY: value}
            written = {k: json.dumps(v).encode() for k, v in entries.items() if isinstance(k, bytes)}
            pq.write_table(table.replace_schema_metadata(written), tmp_path / "made")
            yield (tmp_path / "made").read_bytes()

    read_all(tmp_path / "odd.parquet", read_predictions, made())


def test_what_torch_itself_saves_of_odd_values_is_read(tmp_path):
    for value in odd_values(training_state(), 60, seed=1, odd=KEYS):
        torch.save(value, tmp_path / "odd.pth")
        try:
            everything(tmp_path / "odd.pth")
        except ValueError as error:
            assert "odd.pth" in str(error)  # noqa: PT017
    torch.save(
        {"state_dict": {"a": torch.ones(2)}, "epoch": float("inf"), "best_ap": 10**400}, tmp_path / "a.pth"
    )
    got = open_checkpoint(tmp_path / "a.pth")
    assert (got.epoch, got.metrics) == (None, {})
