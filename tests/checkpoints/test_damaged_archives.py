"""Damaged and odd zip archives: checksums, tables of contents, storages; a refusal names file and tensor."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint, zip_archive


def rezipped(source, target, change, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compress) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def test_zip_bombs_are_refused_and_compressed_checkpoints_are_read(tmp_path, net, bitwise):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    rezipped(tmp_path / "a.pth", tmp_path / "packed.pth", lambda n, d: d, zipfile.ZIP_DEFLATED)
    got, want = open_checkpoint(tmp_path / "packed.pth"), net.state_dict()
    assert all(bitwise(got.read(k), want[k]) for k in want)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02]" + b"\0" * (1 << 26))
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="refused as a bomb"):
        open_checkpoint(tmp_path / "bomb.pth")


def flipped(source, target, entry, at=5):
    """The file with one bit of one member changed, everything else as it was."""
    data = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo(next(n for n in archive.namelist() if n.endswith(entry)))
    name, extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
    data[info.header_offset + 30 + name + extra + at] ^= 1
    target.write_bytes(data)
    return target


def refusal(checkpoint, tensor) -> str:
    try:
        checkpoint.read(tensor)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_damaged_bytes_of_an_archive_are_named_with_entry_and_tensor_when_they_are_read(tmp_path, net):
    state = net.state_dict()
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    torch.jit.trace(net.eval(), torch.zeros(1, 3, 8, 8)).save(tmp_path / "t.pt")
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), tmp_path / "e.pt2")
    arrays = {name.replace(".", "_"): value.numpy() for name, value in state.items()}
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "stored.npz") as archive:
        assert archive.testzip() is None
    for name, entry, at in (("a.pth", "data/7", 5), ("t.pt", "data/1", 5), ("e.pt2", "weights/weight_1", 5),
                            ("stored.npz", "head_weight.npy", 200)):  # fmt: skip
        path = flipped(tmp_path / name, tmp_path / f"bad_{name}", entry, at)
        got = open_checkpoint(path)  # opening stays lazy: no tensor is read
        refused = {tensor: says for tensor in got.tensors if (says := refusal(got, tensor))}
        assert len(refused) == 1, name
        for tensor, says in refused.items():
            assert says.startswith(f"bad_{name} is damaged: the bytes of ")
            assert entry in says
            assert f"({tensor}) do not fit their CRC-32" in says
        with pytest.raises(ValueError, match="do not fit their CRC-32"):
            got.state_dict()
    # A changed bit of compressed data breaks the compression or the checksum.
    with pytest.raises(ValueError, match=r"packed\.npz"):
        open_checkpoint(
            flipped(tmp_path / "packed.npz", tmp_path / "bad_packed.npz", "head_weight.npy", 40)
        ).state_dict()
    with pytest.raises(ValueError, match=r"bad\.pth is damaged: the bytes of a/data\.pkl do not fit"):
        open_checkpoint(flipped(tmp_path / "a.pth", tmp_path / "bad.pth", "data.pkl", 60))


def checked_bytes(monkeypatch) -> list[int]:
    """How many bytes each later call of crc32 looks at."""
    counted: list[int] = []
    real = zip_archive.zlib.crc32

    def counting(data, *rest):
        counted.append(len(data))
        return real(data, *rest)

    monkeypatch.setattr(zip_archive.zlib, "crc32", counting)
    return counted


def test_views_of_a_damaged_storage_are_refused_and_sound_ones_checked_once(tmp_path, monkeypatch):
    base = torch.arange(100_000.0)
    torch.save({f"v{i}": base[i * 1000 : i * 1000 + 500] for i in range(50)}, tmp_path / "a.pth")
    bad = open_checkpoint(flipped(tmp_path / "a.pth", tmp_path / "bad.pth", "data/0", 399_000))
    with pytest.raises(ValueError, match=r"data/0 \(v3\) do not fit"):  # the changed byte is in no view
        bad.read("v3")
    got = open_checkpoint(tmp_path / "a.pth")
    counted = []
    real = zip_archive.zlib.crc32
    monkeypatch.setattr(
        zip_archive.zlib, "crc32", lambda data, *a: counted.append(len(data)) or real(data, *a)
    )
    for i in range(50):
        assert torch.equal(got.read(f"v{i}"), base[i * 1000 : i * 1000 + 500])
    assert sum(counted) == 400_000


def test_archives_without_checksums_are_read_and_called_so(tmp_path, net, bitwise):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(net.state_dict(), tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    got = open_checkpoint(tmp_path / "a.pth")
    assert all(bitwise(v, net.state_dict()[k]) for k, v in got.state_dict().items())
    assert got.facts["checksums"].startswith("none (written without CRC-32)")
    torch.save(net.state_dict(), tmp_path / "b.pth")
    assert "checksums" not in open_checkpoint(tmp_path / "b.pth").facts
    # One checksum of zero among others is no sign of such a file.
    data = bytearray((tmp_path / "b.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "b.pth") as archive:
        info = archive.getinfo("b/data/7")
    at = data.index(struct.pack("<I", info.CRC), data.rindex(b"b/data/7") - 46)
    data[at : at + 4] = bytes(4)
    (tmp_path / "c.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"b/data/7 \(head\.weight\) do not fit their CRC-32"):
        open_checkpoint(tmp_path / "c.pth").state_dict()


def test_opening_reads_no_bytes_of_tensors(tmp_path, monkeypatch):
    torch.save({f"w{i}": torch.zeros(100_000) for i in range(4)}, tmp_path / "a.pth")
    counted = []
    real = zip_archive.zlib.crc32
    monkeypatch.setattr(
        zip_archive.zlib, "crc32", lambda data, *a: counted.append(len(data)) or real(data, *a)
    )
    assert len(open_checkpoint(tmp_path / "a.pth").tensors) == 4
    assert sum(counted) < 10_000


def table_changed(path, target, change):
    """The archive with its table of contents and its end record changed by a function of (table, end)."""
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    size, offset = struct.unpack("<II", data[end + 12 : end + 20])
    table, last = change(bytearray(data[offset : offset + size]), bytearray(data[end:]))
    last[12:20] = struct.pack("<II", len(table), offset)
    target.write_bytes(data[:offset] + table + last)
    return target


def test_archives_whose_table_is_wrong_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in "abc":
            buffer = io.BytesIO()
            np.save(buffer, np.arange(5.0))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    assert len(open_checkpoint(tmp_path / "a.npz").tensors) == 3
    one = 46 + len("a.npy")

    def broken_entry(table, end):
        table[one : one + 4] = b"XXXX"
        return table, end

    def fewer(table, end):
        return table[:-one], end

    def twice(table, end):
        end[8:12] = struct.pack("<HH", 4, 4)
        return table + table[:one], end

    def renamed(table, end):
        table[46:51] = b"d.npy"
        return table, end

    def overlapping(table, end):
        table[one + 42 : one + 46] = struct.pack("<I", 3)
        return table, end

    def beyond(table, end):
        table[20:28] = struct.pack("<II", 1 << 20, 1 << 20)
        return table, end

    def commented(table, end):
        end[20:22] = struct.pack("<H", 7)
        return table, end

    for change, says in ((broken_entry, "should have 3 entries .* 1 in 51 bytes can be read"),
                         (fewer, "should have 3 entries .* 2 in"), (twice, r"names a\.npy twice"),
                         (overlapping, "overlaps what follows it"), (beyond, "overlaps what follows it"),
                         (renamed, "names d.npy where another lies"),
                         (commented, "does not fit into the file")):  # fmt: skip
        path = table_changed(tmp_path / "a.npz", tmp_path / f"{change.__name__}.npz", change)
        with pytest.raises(ValueError, match=says):
            open_checkpoint(path)


def test_zip64_archives_are_read_and_their_numbers_checked(tmp_path, monkeypatch, net):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    rezipped(tmp_path / "a.pth", tmp_path / "wide.pth", lambda n, d: d)
    data = (tmp_path / "wide.pth").read_bytes()
    at = data.rindex(b"PK\x06\x06")
    assert torch.equal(open_checkpoint(tmp_path / "wide.pth").read("head.bias"), net.head.bias)
    for where, number in ((32, 5), (40, 1 << 40), (48, 1 << 62), (48, 3)):
        changed = bytearray(data)
        changed[at + where : at + where + 8] = struct.pack("<Q", number)
        (tmp_path / "bad.pth").write_bytes(changed)
        with pytest.raises(ValueError, match=r"bad\.pth"):
            open_checkpoint(tmp_path / "bad.pth")


def test_storages_that_are_missing_or_short_are_told(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    rezipped(tmp_path / "a.pth", tmp_path / "gone.pth", lambda n, d: None if n.endswith("/data/0") else d)
    rezipped(tmp_path / "a.pth", tmp_path / "short.pth", lambda n, d: d[:8] if n.endswith("/data/0") else d)
    with pytest.raises(ValueError, match=r"gone\.pth is damaged: storage 0 is missing"):
        open_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match=r"short\.pth is damaged: storage 0 is too short"):
        open_checkpoint(tmp_path / "short.pth")


def test_tensors_beyond_their_storage_are_refused(tmp_path, net):
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    # K is the opcode of a one-byte integer: the shape (4,) becomes (200,).
    rezipped(
        tmp_path / "a.pth",
        tmp_path / "b.pth",
        lambda n, d: d.replace(b"K\x04\x85", b"K\xc8\x85") if n.endswith("pkl") else d,
    )
    with pytest.raises(ValueError, match="reaches beyond its storage"):
        open_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize("beside", ["data.pkl", "other/data.pkl"])
def test_an_archive_with_two_pickles_is_refused(tmp_path, net, beside):
    """torch reads that of the first entry; the one with the shorter name was read here, in silence."""
    torch.save(net.state_dict(), tmp_path / "archive.pth")
    with zipfile.ZipFile(tmp_path / "archive.pth", "a") as archive:
        archive.writestr(beside, pickle.dumps({"a": 1}, 2))
    with pytest.raises(
        ValueError, match=rf"holds 2 pickles where torch writes one \(archive/data\.pkl, {beside}"
    ):
        open_checkpoint(tmp_path / "archive.pth")
