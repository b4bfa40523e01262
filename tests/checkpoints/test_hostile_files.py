"""Nothing in a file is executed; what is no checkpoint, cut off or a bomb ends in one sentence, quickly."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.checkpoints.refused import assert_refused
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.budget import Limits


class Evil:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
def test_calls_of_the_system_stay_words(tmp_path, net, zipped):
    pwned = tmp_path / "pwned"
    state = {
        "state_dict": net.state_dict(),
        "a": Evil(os.system, f"touch {pwned}"),
        "b": Evil(eval, f"open({str(pwned)!r}, 'w')"),
        "c": Evil(getattr, os, "system"),
        "d": Evil(os.mkdir, str(pwned)),
        "e": {Evil(exec, "raise SystemExit"): 1},
    }
    torch.save(
        {k: v for k, v in state.items() if k not in "ce"},
        tmp_path / "evil.pth",
        _use_new_zipfile_serialization=zipped,
    )
    got = open_checkpoint(tmp_path / "evil.pth")
    assert not pwned.exists()
    assert {f"{os.name}.system", "builtins.eval"} <= set(got.inert)
    assert torch.equal(got.read("head.bias"), net.head.bias)


@pytest.mark.parametrize("protocol", range(6))
def test_bare_evil_pickles_are_refused_unexecuted(tmp_path, protocol):
    pwned = tmp_path / "pwned"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(os.system, f"touch {pwned}"), protocol))
    with pytest.raises(ValueError, match=r"evil\.pkl"):
        open_checkpoint(tmp_path / "evil.pkl")
    assert not pwned.exists()


def test_a_call_of_what_a_call_gave_is_inert_too(tmp_path):
    # getattr(os, 'system')('touch pwned'), by hand: the getattr becomes a text, and texts are not called.
    data = b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR(X\x05\x00\x00\x00touchtR."
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(ValueError, match="no checkpoint of a network"):
        open_checkpoint(tmp_path / "x.pkl")


def bomb(body: bytes) -> bytes:
    return b"\x80\x04" + body


BOMBS = {
    "bytes longer than the file": bomb(b"\x8e" + struct.pack("<Q", 1 << 60) + b"x."),
    "text longer than the file": bomb(b"\x8d" + struct.pack("<Q", 1 << 62) + b"x."),
    "a number of 2 GB": bomb(b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b"\x01."),
    "negative length": bomb(b"\x8b" + struct.pack("<i", -5) + b"."),
    "memo index of 4 billion": bomb(b"]r\xff\xff\xff\xff0j\xff\xff\xff\xff."),
    "lists of lists": bomb(b"]\x94" + b"](h\x00h\x00e" * 30_000 + b"."),
    "marks": bomb(b"(" * 30_000 + b"."),
    "sets": bomb(b"\x8f0" * 30_000 + b"."),
    "memo": bomb(b"N" + b"\x94" * 30_000 + b"."),
    "dup": bomb(b"N" + b"2" * 30_000 + b"."),
    "a key that hashes for ever": bomb(b"}N" + b"2\x86" * 60 + b"Ns."),
    "copied text": bomb(
        b"c_codecs\nencode\n\x94X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"\x94X\x06\x00\x00\x00latin1\x94"
        b"]\x94(" + b"h\x00h\x01h\x02\x86R" * 50 + b"e."
    ),
    "copied dicts": bomb(
        b"ccollections\nOrderedDict\n\x940}\x94("
        + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(5000))
        + b"u0]("
        + b"h\x00h\x01\x85R" * 2000
        + b"e."
    ),
    "unknown classes": bomb(b"".join(b"cm%d\nx\n0" % i for i in range(5000)) + b"N."),
    "opcodes": bomb(b"N0" * 60_000 + b"N."),
}


# A hundredth of what real files are allowed, so that the bombs can be small and the test quick.
SMALL = Limits(opcodes=100_000, objects=20_000, text=4 << 20)


@pytest.mark.parametrize("name", BOMBS)
def test_pickle_bombs_are_refused_in_little_time_and_memory(tmp_path, name):
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ValueError, match=r"bomb\.pkl"):
            open_checkpoint(tmp_path / "bomb.pkl", limits=SMALL)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5
    assert peak < 40e6


@pytest.mark.slow
def test_the_largest_bomb_that_the_limits_let_through_stays_within_seconds_and_a_gigabyte(tmp_path):
    for body in (b"\x8f0" * 3_000_000, b"N0" * 6_000_000, b"](" * 3_000_000):
        (tmp_path / "bomb.pkl").write_bytes(bomb(body + b"N."))
        began = time.process_time()
        with pytest.raises(ValueError, match="refused as a bomb"):
            open_checkpoint(tmp_path / "bomb.pkl")
        assert time.process_time() - began < 30


def test_doubling_lists_in_meta_are_cut_off_and_not_unfolded(tmp_path, net):
    value: list = ["x"]
    for _ in range(60):
        value = [value, value]
    torch.save(
        {"state_dict": net.state_dict(), "meta": {"bomb": value, "tuple": tuple(value)}}, tmp_path / "a.pth"
    )
    began = time.process_time()
    got = open_checkpoint(tmp_path / "a.pth")
    assert len(json.dumps(got.meta)) < 10_000_000
    assert time.process_time() - began < 10
    loop: dict = {"state_dict": net.state_dict()}
    loop["self"] = loop
    torch.save(loop, tmp_path / "b.pth")
    assert list(open_checkpoint(tmp_path / "b.pth").tensors) == list(net.state_dict())


def test_arrays_beyond_their_bytes_are_refused(tmp_path):
    data = pickle.dumps({"w": np.zeros((3, 5), np.float32)}, 2)
    (tmp_path / "a.pkl").write_bytes(data.replace(b"K\x03K\x05\x86", b"K\x04K\x05\x86"))
    with pytest.raises(ValueError, match=r"a\.pkl: .*reaches beyond its storage"):
        open_checkpoint(tmp_path / "a.pkl")


OTHERS = {
    "photo.jpg": (b"\xff\xd8\xff\xe0" + b"\0" * 100, "a JPEG image"),
    "a.png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "a PNG image"),
    "empty.pth": (b"", "is empty"),
    "notes.pth": (b"epoch 3\nloss 0.2\n", "a text file beginning 'epoch 3'"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n", "git lfs pull"),
    "page.pth": (b"<!DOCTYPE html><html>", "a web page"),
    "last_checkpoint": (b"/runs/a/epoch_20.pth", "names a checkpoint"),
    "a.json": (b'{"images": []}', "no index of weights"),
    "empty.tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 64, "a TensorFlow Lite model without weights"),
    "cut.tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 10, "damaged or cut off TensorFlow Lite model"),
    # Its model (vtable at 8, table at 24) has a vector of 200,000 buffers, which all are one table.
    "many.tflite": (
        struct.pack("<I4s8Hi", 24, b"TFL3", 14, 12, 0, 0, 0, 0, 4, 0, 16)
        + struct.pack("<II", 4, 200_000)
        + bytes(800_000),
        "a list of 200,000 parts",
    ),
    "a.pth.gz": (b"\x1f\x8b\x08" + b"\0" * 50, "gzip"),
    "noise.pth": (bytes(range(128, 256)) * 4, "is damaged or cut off|no checkpoint that is known"),
    "clip.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 50, "a video"),
    "m.onnx": (b"\x99" * 40, "no ONNX model"),
    "numbers.pkl": (pickle.dumps({"a": 1, "b": [2.0]}), "it holds no tensors, only the keys 'a', 'b'"),
    "cut.pkl": (pickle.dumps({"a": np.zeros(100)})[:-20], "damaged or cut off"),
    "cut.safetensors": (struct.pack("<Q", 1 << 40) + b"{}", "no checkpoint that is known"),
    "bad.safetensors": (struct.pack("<Q", 2) + b"{,", "no JSON"),
    "long.safetensors": (
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'.ljust(60),
        "is cut off",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, name):
    assert_refused(tmp_path / name, *OTHERS[name])


def test_names_that_no_network_has_are_refused(tmp_path):
    torch.save({"token_embed" * 1000 + "x": torch.zeros(1), "w": torch.zeros(1)}, tmp_path / "n.pth")
    with pytest.raises(ValueError, match="longer names, than any network"):
        open_checkpoint(tmp_path / "n.pth")


def test_folders_and_missing_files_are_told(tmp_path, net):
    with pytest.raises(FileNotFoundError, match="no file"):
        open_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(
        FileNotFoundError, match="an option stands before each NAME=VALUE: --assume mean=0 --"
    ):
        open_checkpoint(tmp_path / "std=255")
    with pytest.raises(ValueError, match="is a folder, not a checkpoint; it holds none"):
        open_checkpoint(tmp_path)
    for epoch in (1, 2):
        torch.save(net.state_dict(), tmp_path / f"epoch_{epoch}.pth")
    with pytest.raises(ValueError, match=r"holds 2 checkpoints, name one, .*: epoch_1\.pth, epoch_2\.pth"):
        open_checkpoint(tmp_path)


def test_the_tar_format_of_old_torch_is_named(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match=r"before 0\.1\.10"):
        open_checkpoint(tmp_path / "old.pth")


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of a tar archive, with its checksum."""
    head = bytearray(512)
    head[: len(name)], head[124 : 124 + len(size)] = name, size
    head[156:157], head[257:263] = kind, b"ustar\0"
    head[148:156] = b"%06o\0 " % (sum(head) + 8 * 32)
    return bytes(head)


PAX_RECORD = b"1" * 1_000_000 + b" "
TARS = {
    # By Python's tarfile 3.11.7 three of these were MemoryError, RecursionError, and more than 10 s.
    "negative size": (tar_header(b"a", b"\xff" * 10 + b"\xfe\x00"), "a damaged tar archive"),
    "pax of 8 GB": (tar_header(b"a", b"7" * 11, b"x"), "a damaged tar archive"),
    "long names": (tar_header(b"a", b"0", b"L") * 2000, "a tar archive: unpack it first"),
    "pax record": (
        tar_header(b"a", b"%o" % len(PAX_RECORD), b"x")
        + PAX_RECORD.ljust(-(-len(PAX_RECORD) // 512) * 512, b"\0")
        + tar_header(b"b", b"0"),
        r"a tar archive \(b\)",
    ),
    "one name": (tar_header(b"a", b"0") * 20_000, r"a tar archive \(a\)"),
    "beyond the file": (tar_header(b"a", b"\x80" + (1 << 62).to_bytes(11, "big")), "a damaged tar archive"),
    "checksum": (tar_header(b"a", b"0").replace(b"a", b"b", 1), "a damaged tar archive"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_archive_is_named_from_its_first_headers(tmp_path, name):
    data, said = TARS[name]
    (tmp_path / "a.pth").write_bytes(data + bytes(1024))
    began = time.process_time()
    with pytest.raises(ValueError, match=said):
        open_checkpoint(tmp_path / "a.pth")
    assert time.process_time() - began < 0.5


def whole(net) -> dict[str, bytes]:
    """One file of each kind, in memory."""
    state = collections.OrderedDict(net.state_dict())
    found = {}
    for name, zipped in (("zip", True), ("legacy", False)):
        buffer = io.BytesIO()
        torch.save({"state_dict": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
        found[name] = buffer.getvalue()
    found["pickle"] = pickle.dumps({"model": {k: v.numpy() for k, v in state.items()}})
    safetensors = pytest.importorskip("safetensors.torch")
    found["safetensors"] = safetensors.save({k: v.contiguous() for k, v in state.items()})
    return found


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_a_file_cut_off_anywhere_is_told(tmp_path, net, kind):
    data = whole(net)[kind]
    path = tmp_path / "cut.pth"
    # The last opcode or the last bytes of a zip comment may be dispensable: stop before.
    for keep in np.linspace(0, len(data) - 2, 60, dtype=int):
        path.write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            open_checkpoint(path)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_files_with_changed_bytes_end_in_a_checkpoint_or_one_error(tmp_path, data):
    kind = data.draw(st.sampled_from(["zip", "legacy", "pickle", "safetensors"]))
    content = bytearray(_files(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.pth"
    path.write_bytes(content)
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint.tensors:
            checkpoint.read(name)
        checkpoint.state_dict()
        assert checkpoint.identity.family
    except (ValueError, OSError, LookupError):
        pass


_CACHE: dict[str, dict[str, bytes]] = {}


def _files(kind):
    if not _CACHE:
        _CACHE.update(all=whole(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))))
    return _CACHE["all"][kind]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", b"(", b"\x08"])
)
def test_any_bytes_end_in_one_error(tmp_path, data, head):
    path = tmp_path / "random.pth"
    path.write_bytes(head + data)
    with pytest.raises((ValueError, OSError)):
        open_checkpoint(path)


OPCODES = [
    bytes([n])
    for n in b"(.0127FIJKLMNPQRSTUVX)]}aBbcCdeghijloqrstupG\x80\x81\x85\x86\x87\x88\x89\x8a"
    b"\x8b\x8c\x8f\x90\x91\x92\x93\x94\x95"
]
WORDS = [
    b"cos\nsystem\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"cnumpy._core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cbuiltins\ngetattr\n",
    b"c_codecs\nencode\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cdatetime\ndatetime\n",
    b"cpathlib\nPosixPath\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\ndefaultdict\n",
    b"cbuiltins\ncomplex\n",
    b"cbuiltins\nbytes\n",
    b"X\x01\x00\x00\x00a",
    b"X\x02\x00\x00\x00f4",
    b"K\x05",
    b"C\x02ab",
]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(OPCODES + WORDS * 4), max_size=40))
def test_any_order_of_opcodes_ends_in_one_error(tmp_path, parts):
    path = tmp_path / "random.pkl"
    path.write_bytes(b"\x80\x04" + b"".join(parts) + b".")
    with pytest.raises((ValueError, OSError)):
        open_checkpoint(path)
