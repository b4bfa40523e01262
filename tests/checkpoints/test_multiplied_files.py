"""Small files that name one thing many times: reading them is bounded, whatever they are multiplied to."""

from __future__ import annotations

import io
import json
import pickle
import resource
import time
import zipfile

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.budget import Limits
from workbench.checkpoints.state_dicts import WRAPPERS
from workbench.cli.open import as_text, facts_of

SECONDS, MEGABYTES = 5, 500


class Module:
    """Pickled as torch pickles its modules."""

    def __init__(self, parameters, modules):
        self._parameters, self._buffers, self._modules = parameters, {}, modules


def wrapped_keys(keys: int = 20_000) -> bytes:
    """Many keys, each with all wrappers, of one dict with 2,000 arrays."""
    shared = {f"w{i}": np.zeros(1, np.float32) for i in range(2000)}
    item = dict.fromkeys(WRAPPERS, shared)
    return pickle.dumps({f"k{i}": item for i in range(keys)})


def shared_modules(parts: int = 12, depth: int = 12) -> bytes:
    """Modules that hold the next one under several names: parts ** depth paths to one parameter."""
    module = Module({"w": np.zeros(2, np.float32)}, {})
    for _ in range(depth):
        module = Module({}, {f"{'a_long_name' * 5}{i}": module for i in range(parts)})
    return pickle.dumps(module)


def broad_modules() -> bytes:
    """Wide layers of shared modules without any parameter: nothing but paths."""
    module = Module({}, {})
    for _ in range(6):
        module = Module({}, {f"{'n' * 100}{i}": module for i in range(200)})
    return pickle.dumps({"model": module, "w": {"a.weight": np.zeros(2, np.float32)}})


def one_history() -> bytes:
    """One log history of 100,000 numbers under 2,000 names."""
    history = np.arange(100_000.0)
    hub = {"log_scalars": {f"train/loss{i}": history for i in range(2000)}}
    return pickle.dumps({"state_dict": {"a.weight": np.zeros(2, np.float32)}, "message_hub": hub})


def one_text() -> bytes:
    """A text of 1 MB named 90,000 times in meta, as value and in lists."""
    text = "x" * 1_000_000
    meta = {f"k{i}": [text] * 9 for i in range(10_000)}
    return pickle.dumps({"state_dict": {"a.weight": np.zeros(2, np.float32)}, "meta": meta})


def joined_texts() -> bytes:
    """Long keys of a group of metrics, joined with the long keys inside."""
    inside = {f"{i}{'y' * 100_000}": 1.0 for i in range(300)}
    groups = {f"stats{i}{'x' * 100}": inside for i in range(3000)}
    return pickle.dumps({"state_dict": {"a.weight": np.zeros(2, np.float32)}, **groups})


def nested_names() -> bytes:
    """Dicts in dicts with long keys: the joined names would be gigabytes."""
    value = {f"w{i}": np.zeros(1, np.float32) for i in range(2000)}
    for i in range(35):
        value = {f"{i}{'x' * 20_000}": value}
    return pickle.dumps(value)


def one_storage() -> bytes:
    """20,000 tensors that are all of one storage of 2 MB: 40 GB together."""
    buffer = io.BytesIO()
    block = torch.zeros(500_000)
    torch.save({f"w{i}": block for i in range(20_000)}, buffer)
    return buffer.getvalue()


def expanded() -> bytes:
    """One number, expanded to a hundred tensors of a gigabyte."""
    buffer = io.BytesIO()
    torch.save({f"w{i}": torch.zeros(1).expand(250_000_000) for i in range(100)}, buffer)
    return buffer.getvalue()


def packed(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def array(numbers: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, numbers)
    return buffer.getvalue()


def many_members(nbytes: int = 15_000_000) -> bytes:
    """40 members that pack to a thousandth each."""
    return packed(*((f"w{i}.npy", array(np.zeros(nbytes, np.uint8))) for i in range(40)))


def packed_pickle() -> bytes:
    return packed(("a/data.pkl", b"\x80\x02]" + b"0]" * 30_000_000 + b"."))


def one_weight_file(names: int = 90_000) -> bytes:
    """A torch.export archive whose list names one pickled file many times."""
    buffer = io.BytesIO()
    torch.save(torch.zeros(4), buffer)
    listed = {f"w{i}": {"path_name": "one", "use_pickle": True} for i in range(names)}
    config = json.dumps({"config": listed}).encode()
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("a/data/weights/weights_config.json", config)
        archive.writestr("a/data/weights/one", buffer.getvalue())
    return outer.getvalue()


def newlines() -> bytes:
    meta = {"env_info": "\n" * 22_000, "mmcv_version": "1.7"}
    return pickle.dumps({"state_dict": {"a.weight": np.zeros(2, np.float32)}, "meta": meta})


# What makes the file -> its ending, and whether it is refused (the others are read, in bounded time).
FILES = {
    wrapped_keys: ("pkl", True),
    shared_modules: ("pkl", True),
    broad_modules: ("pkl", True),
    one_history: ("pkl", False),
    one_text: ("pkl", False),
    joined_texts: ("pkl", False),
    nested_names: ("pkl", True),
    one_storage: ("pth", True),
    expanded: ("pth", True),
    many_members: ("npz", True),
    packed_pickle: ("pth", True),
    one_weight_file: ("pt2", False),
    newlines: ("pkl", False),
}
# Quick files for the default run, and limits that are as much smaller.
QUICK = {wrapped_keys: 2000, many_members: 1_000_000, one_weight_file: 3000}
FEWER = Limits(tensors=5000)


@pytest.mark.parametrize("make", [make for make in FILES if make is not broad_modules])
def test_what_a_small_file_multiplies_to_is_bounded(tmp_path, make):
    bounded(tmp_path, make, make(QUICK[make]) if make in QUICK else make(), FEWER)


@pytest.mark.slow
@pytest.mark.parametrize("make", FILES)
def test_what_a_larger_file_multiplies_to_is_bounded(tmp_path, make):
    bounded(tmp_path, make, make(), Limits())


def bounded(folder, make, data, limits):
    ending, refused = FILES[make]
    path = folder / f"bomb.{ending}"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    if refused:
        with pytest.raises(ValueError, match=r"bomb\.\w+.*refused"):
            open_checkpoint(path, limits=limits)
    else:
        facts = facts_of(open_checkpoint(path, limits=limits))
        assert len(json.dumps(facts)) + len(as_text(facts)) < 100e6
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def test_a_long_log_history_is_read_and_not_refused(tmp_path):
    hub = {"log_scalars": {f"train/loss{i}": np.arange(300_000.0) + i for i in range(12)}}
    state = {"state_dict": {"a.weight": np.zeros(2, np.float32)}, "message_hub": hub}
    (tmp_path / "long.pkl").write_bytes(pickle.dumps(state, 4))
    got = open_checkpoint(tmp_path / "long.pkl")
    assert [got.metrics[f"train/loss{i}"] for i in range(12)] == [299_999.0 + i for i in range(12)]
    assert got.history.series["train/loss0"][-2:] == [299_998.0, 299_999.0]
