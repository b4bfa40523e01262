"""What is read equals what torch.load and safetensors read, bit for bit; what is said is what was written."""

from __future__ import annotations

import argparse
import collections
import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.cli.open import as_text, facts_of


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_type_and_layout_equals_torch_load(tmp_path, layouts, bitwise, zipped):
    if not zipped:
        layouts = {
            k: v for k, v in layouts.items() if not k.startswith(("float8", "uint16", "uint32", "uint64"))
        }
    torch.save(collections.OrderedDict(layouts), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    want = torch.load(tmp_path / "a.pth", weights_only=False)
    got = open_checkpoint(tmp_path / "a.pth")
    assert list(got.tensors) == list(want)
    assert got.container == ("torch zip" if zipped else "torch pickle before 1.6")
    together = got.state_dict()
    for name in want:
        assert bitwise(got.read(name), want[name]), name
        assert bitwise(together[name], want[name]), name
        assert got.read(name).stride() == want[name].stride(), name
    assert together["base"].untyped_storage().data_ptr() == together["tied"].untyped_storage().data_ptr()
    assert got.inert == ()


def test_files_of_big_endian_machines_are_turned(tmp_path, bitwise):
    values = {"w": torch.randn(3, 4), "n": torch.arange(5), "c": torch.randn(3, dtype=torch.complex64)}
    buffer = io.BytesIO()
    torch.save(values, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                width = {48: 4, 40: 8, 24: 4}[len(data)]
                data = np.frombuffer(data, f"u{width}").byteswap().tobytes()
            new.writestr(name, data)
    want = torch.load(tmp_path / "b.pth")
    got = open_checkpoint(tmp_path / "b.pth").state_dict()
    assert all(bitwise(got[k], values[k]) and bitwise(got[k], want[k]) for k in values)


def test_legacy_views_of_one_storage_stay_one(tmp_path, bitwise):
    base = torch.arange(12.0)
    torch.save(
        {"a": base[2:5], "b": base[4:].view(2, 4), "c": base},
        tmp_path / "v.pth",
        _use_new_zipfile_serialization=False,
    )
    want, got = torch.load(tmp_path / "v.pth"), open_checkpoint(tmp_path / "v.pth")
    together = got.state_dict()
    assert all(bitwise(got.read(k), want[k]) and bitwise(together[k], want[k]) for k in want)
    together["c"][4] = -1  # the copy in memory, not the file
    assert together["b"][0, 0] == -1 == together["a"][2]
    assert got.read("b")[0, 0] == 4


def test_safetensors_equal_its_own_reader(tmp_path, layouts, bitwise):
    safetensors = pytest.importorskip("safetensors.torch")
    values = {
        k: v.detach().clone().contiguous() for k, v in layouts.items() if not k.startswith("complex128")
    }
    safetensors.save_file(values, tmp_path / "a.safetensors", metadata={"format": "pt"})
    want, got = safetensors.load_file(tmp_path / "a.safetensors"), open_checkpoint(tmp_path / "a.safetensors")
    assert got.format == "safetensors"
    assert got.facts == {"format": "pt"}
    assert set(got.tensors) == set(want)
    assert all(bitwise(got.read(k), want[k]) for k in want)


def test_scripted_and_exported_programs_give_their_state_dict(tmp_path, net, bitwise):
    net.eval()
    torch.jit.trace(net, torch.zeros(1, 3, 8, 8)).save(tmp_path / "t.pt")
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), tmp_path / "e.pt2")
    torch.save(net, tmp_path / "whole.pth")
    want = net.state_dict()
    for name, container in (("t.pt", "TorchScript"), ("e.pt2", "torch.export"), ("whole.pth", "torch zip")):
        got = open_checkpoint(tmp_path / name)
        assert got.container == container
        assert set(got.tensors) == set(want), name
        assert all(bitwise(got.read(k), want[k]) for k in want), name
    assert "torch.nn.modules.conv.Conv2d" in open_checkpoint(tmp_path / "whole.pth").inert


def test_exported_programs_of_older_torch_give_their_weights_too(tmp_path, net, bitwise):
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    layouts = {
        "2.6.pt2": {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": buffer.getvalue()},
        "2.8.pt2": {
            "a/archive_format": b"pt2",
            "a/models/model.json": b"{}",
            "a/data/weights/model.pt": buffer.getvalue(),
        },
    }
    for name, members in layouts.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        got = open_checkpoint(tmp_path / name)
        assert got.format == "torch.export"
        assert all(bitwise(got.read(k), v) for k, v in net.state_dict().items())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_sparse_and_ragged_tensors_are_counted_and_the_others_read(tmp_path, net):
    state = dict(net.state_dict())
    state["q"] = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    state["c"] = torch.quantize_per_channel(torch.ones(3, 2), torch.ones(3), torch.zeros(3), 0, torch.qint8)
    state["s"] = torch.eye(3).to_sparse()
    state["r"] = torch.eye(4).to_sparse_csr()
    state["n"] = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    state |= {f"layer.{k}": v for k, v in torch.ao.nn.quantized.dynamic.Linear(3, 4).state_dict().items()}
    for name, zipped in (("zip.pth", True), ("old.pth", False)):
        torch.save({"state_dict": state}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        got = open_checkpoint(tmp_path / name)
        packed = "layer._packed_params._packed_params"
        assert set(got.tensors) == {*net.state_dict(), "layer.scale", "layer.zero_point", f"{packed}.1"}
        assert {name: (tensor.kind, tensor.shape) for name, tensor in got.unread.items()} == {
            "q": ("quantised (qint8)", (3,)),
            "c": ("quantised (qint8)", (3, 2)),
            "s": ("sparse (sparse_coo)", (3, 3)),
            "r": ("sparse (sparse_csr)", (4, 4)),
            "n": ("nested (ragged)", None),
            f"{packed}.0": ("quantised (qint8)", (4, 3)),
        }
        assert got.unread_text == (
            "3 quantised (qint8), 1 sparse (sparse_coo), 1 sparse (sparse_csr) and 1 nested (ragged) "
            "tensors, not read"
        )
        assert got.inert == ()
        with pytest.raises(ValueError, match=r"q is quantised \(qint8\), which is not read"):
            got.read("q")
    facts = facts_of(got)
    assert {row["name"] for row in facts["unread"]} == set(got.unread)
    assert "3 quantised (qint8), 1 sparse" in as_text(facts)


def test_weights_that_tensors_share_are_counted_once_and_named(tmp_path):
    from apps.pages.checkpoint import summary as page_summary

    table = torch.zeros(10, 4)
    state = {"embed.weight": table, "head.weight": table, "row.weight": table[2:5],
             "own.weight": torch.ones(3), "wide.weight": torch.ones(1, 3).expand(5, 3)}  # fmt: skip
    flat = torch.arange(12.0)
    state |= {"flat.a": flat[:5], "flat.b": flat[5:], "flat.c": flat[3:7]}
    for zipped in (True, False):
        torch.save(state, tmp_path / "tied.pth", _use_new_zipfile_serialization=zipped)
        got = open_checkpoint(tmp_path / "tied.pth")
        assert got.parts() == {"embed": 40, "head": 0, "row": 0, "own": 3, "wide": 3, "flat": 12}
        assert got.parameters == 58
        assert ": 58 parameters, format " in page_summary(got)
        assert got.shared == ("head.weight", "row.weight", "flat.c")
    assert "3 tensors hold weights that others hold too, counted once" in as_text(facts_of(got))


def test_weights_in_a_file_that_are_not_taken_are_named(tmp_path, net):
    one, other = (
        {"conv.weight": torch.ones(4, 3)},
        {"fc.weight": torch.ones(17, 4), "fc.bias": torch.ones(17)},
    )
    torch.save({"backbone": one, "head": other, "epoch": 3}, tmp_path / "two.pth")
    got = open_checkpoint(tmp_path / "two.pth")
    assert list(got.tensors) == ["backbone.conv.weight", "head.fc.weight", "head.fc.bias"]
    assert (got.format, got.left, got.epoch) == ("weights under 'backbone', 'head', joined", (), 3)
    assert list(open_checkpoint(tmp_path / "two.pth", wrapper="head").tensors) == ["fc.weight", "fc.bias"]
    for state, wrapper, left in (
        ({"my_net": other, "loss": {"scale.weight": torch.ones(2)}}, "my_net", ("'loss' (1 tensor)",)),
        ({"state_dict": other, "best_state_dict": one}, "state_dict", ("'best_state_dict' (1 tensor)",)),
        ({"model": other, "optimizer": {"a": torch.ones(2)}, "mean": torch.ones(3), "n": 1},
         "model", ("'mean' (1 tensor beside them)",)),
        ({"net": one, "anchors": [torch.ones(2), torch.ones(2)]}, "net", ("'anchors' (2 tensors)",)),
        ({"first": {"state_dict": net.state_dict()}, "second": {"state_dict": net.state_dict()}},
         "first.state_dict", ("'second' (9 tensors)",)),
        ({**net.state_dict(), "extra": {"w.weight": torch.ones(2)}}, "", ("'extra' (1 tensor)",)),
    ):  # fmt: skip
        torch.save(state, tmp_path / "a.pth")
        got = open_checkpoint(tmp_path / "a.pth")
        assert (got.wrapper, got.left) == (wrapper, left)
        assert left[0] in as_text(facts_of(got))
    torch.save({"state_dict": net.state_dict(), "epoch": 2}, tmp_path / "plain.pth")
    assert open_checkpoint(tmp_path / "plain.pth").left == ()


def test_loading_and_the_page_name_what_is_left_too(tmp_path, net):
    from apps.pages.checkpoint import facts as page_facts
    from workbench.checkpoints.loading import load_state

    state = {"state_dict": {**net.state_dict(), "s": torch.eye(3).to_sparse()}, "other": net.state_dict()}
    torch.save(state, tmp_path / "a.pth")
    got = open_checkpoint(tmp_path / "a.pth")
    report = load_state(net, got)
    assert "1 sparse (sparse_coo) tensors of the file, not read" in report.summary()
    assert "the file holds more weights, which are not read: 'other' (9 tensors)" in report.summary()
    rows = dict(page_facts(got))
    assert rows["not read"] == "1 sparse (sparse_coo) tensor, not read"
    assert rows["left in the file"] == ["'other' (9 tensors), not read"]


def test_lists_and_single_tensors_are_called_what_they_are(tmp_path, net):
    torch.save([{"conv.weight": torch.ones(4)}, {"fc.weight": torch.ones(2)}], tmp_path / "list.pth")
    got = open_checkpoint(tmp_path / "list.pth")
    assert list(got.tensors) == ["0.conv.weight", "1.fc.weight"]
    torch.save([net.state_dict(), net.state_dict()], tmp_path / "copies.pth")
    with pytest.raises(ValueError, match="list of 2 values, 2 of them state dicts with the same names"):
        open_checkpoint(tmp_path / "copies.pth")
    assert list(open_checkpoint(tmp_path / "copies.pth", wrapper="1").tensors) == list(net.state_dict())
    torch.save(torch.zeros(13, 8, 8), tmp_path / "tensor.pt")
    got = open_checkpoint(tmp_path / "tensor.pt")
    assert (got.format, list(got.tensors)) == ("a single tensor, no state dict", ["tensor"])
    (tmp_path / "cameras.pkl").write_bytes(pickle.dumps({("S1", "cam"): {"R": np.eye(3)}}))
    with pytest.raises(ValueError, match=r"only the keys \('S1', 'cam'\)"):
        open_checkpoint(tmp_path / "cameras.pkl")


def test_a_whole_module_in_a_legacy_file_gives_its_state_dict(tmp_path, net, bitwise):
    torch.save(net, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": net, "epoch": 2}, tmp_path / "w.pth")
    for name in ("m.pth", "w.pth"):
        got = open_checkpoint(tmp_path / name)
        assert list(got.tensors) == list(net.state_dict())
        assert all(bitwise(got.read(k), v) for k, v in net.state_dict().items())
    assert got.epoch == 2


def test_onnx_gives_initializers_and_graph(tmp_path, bitwise):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(17, 4)).astype(np.float32)
    half = helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["w", "x"], ["simcc_x"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, "n"])],
        [helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, [17, "n"])],
        [numpy_helper.from_array(weight, "w"), half],
    )
    onnx.save(helper.make_model(graph, producer_name="tests"), tmp_path / "m.onnx")
    got = open_checkpoint(tmp_path / "m.onnx")
    assert got.facts["inputs"] == {"x": [4, "n"]}
    assert got.facts["outputs"] == {"simcc_x": [17, "n"]}
    assert bitwise(got.read("w"), torch.from_numpy(weight))
    assert bitwise(got.read("half"), torch.tensor([1.0, 2.0]).half())


def test_onnx_weights_outside_the_folder_are_not_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    (tmp_path / "secret.bin").write_bytes(b"s" * 16)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/near.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [])
    for name, location in (("w", "../secret.bin"), ("v", "near.bin")):
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="length", value="16")
        graph.initializer.append(tensor)
    (tmp_path / "model/m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    got = open_checkpoint(tmp_path / "model/m.onnx")
    assert got.read("v").tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="outside the model's folder"):
        got.read("w")
    assert onnx is not None
    # What lies beside the graph is the model too: in its size, and in its hash.
    assert [path.name for path in got.paths] == ["m.onnx", "near.bin"]
    before = got.sha256()
    (tmp_path / "model/near.bin").write_bytes(np.arange(1, 5, dtype=np.float32).tobytes())
    assert open_checkpoint(tmp_path / "model/m.onnx").sha256() != before


def test_plain_pickles_and_numpy_archives_of_arrays_are_weights(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "kernel": rng.normal(size=(300, 200)).astype(np.float32),  # long enough to stay on disk
        "fortran": np.asfortranarray(rng.normal(size=(4, 3))),
        "big": np.arange(4, dtype=">i4"),
        "scalar": np.array(2.5),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    for protocol in range(6):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol))
    for name in ("a.npz", *(f"{p}.pkl" for p in range(6))):
        got = open_checkpoint(tmp_path / name)
        assert set(got.tensors) == set(arrays), name
        for key, array in arrays.items():
            assert got.read(key).numpy().tolist() == array.tolist(), (name, key)


def test_nested_dicts_as_jax_writes_them_are_joined_by_dots(tmp_path):
    tree = {"params": {"Transformer": {"block_0": {"kernel": np.ones((2, 2), np.float32)}}}}
    (tmp_path / "j.pkl").write_bytes(pickle.dumps(tree))
    assert list(open_checkpoint(tmp_path / "j.pkl").tensors) == ["params.Transformer.block_0.kernel"]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "best_state_dict", "my_net"])
def test_usual_wrappers_are_seen_through(tmp_path, net, wrapper):
    torch.save(
        {"epoch": 7, wrapper: net.state_dict(), "best_ap": 0.5, "global_step": torch.tensor(900)},
        tmp_path / "w.pth",
    )
    got = open_checkpoint(tmp_path / "w.pth")
    assert got.wrapper == wrapper
    assert list(got.tensors) == list(net.state_dict())
    assert (got.epoch, got.iteration, got.metrics["best_ap"]) == (7, 900, 0.5)


def test_a_wrapper_can_be_chosen(tmp_path, net):
    other = {k: v * 0 for k, v in net.state_dict().items()}
    torch.save(
        {"state_dict": net.state_dict(), "best_state_dict": other, "model": "pose_higher_hrnet"},
        tmp_path / "h.pth",
    )
    assert open_checkpoint(tmp_path / "h.pth").wrapper == "state_dict"
    got = open_checkpoint(tmp_path / "h.pth", wrapper="best_state_dict")
    assert not got.read("head.weight").any()
    with pytest.raises(ValueError, match="no tensors under 'nothing'"):
        open_checkpoint(tmp_path / "h.pth", wrapper="nothing")


@pytest.mark.parametrize("prefix", ["module.", "1.", "_orig_mod.", "module._orig_mod.", "model."])
def test_wrapping_prefixes_are_named_and_names_are_kept(tmp_path, net, prefix):
    torch.save({prefix + k: v for k, v in net.state_dict().items()}, tmp_path / "p.pth")
    got = open_checkpoint(tmp_path / "p.pth")
    assert got.prefix == prefix
    assert next(iter(got.tensors)) == prefix + "backbone.0.weight"
    assert got.parts() == {"backbone": 3 * 4 * 9 + 4 + 8, "head": 4 * 17 + 17}


def test_a_namespace_of_arguments_is_read_as_data(tmp_path, net):
    args = argparse.Namespace(num_bins=44, seq_len=200, lr=1e-4, out=Path("runs/x"), shape=(2, 3))
    state = {
        "model": net.state_dict(),
        "args": args,
        "epoch": 15,
        "best_pck": 0.5556,
        "train_stats": {"loss": 1.65},
    }
    torch.save(state, tmp_path / "cape.pth")
    got = open_checkpoint(tmp_path / "cape.pth")
    assert got.meta["args"] == {"num_bins": 44, "seq_len": 200, "lr": 1e-4, "out": "runs/x", "shape": [2, 3]}
    assert got.metrics == {"best_pck": 0.5556, "train_stats.loss": 1.65}
    assert got.inert == ()


def test_lightning_is_told_with_its_scores(tmp_path, net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state = {
        "epoch": 3, "global_step": 1200, "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{k}": v for k, v in net.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [],
        "hyper_parameters": {"lr": 1e-3, "backbone": "resnet50"},
        "callbacks": {"ModelCheckpoint{'monitor': 'AP'}": {"best_model_score": torch.tensor(0.61)}},
    }  # fmt: skip
    torch.save(state, tmp_path / "l.ckpt")
    got = open_checkpoint(tmp_path / "l.ckpt")
    assert (got.format, got.epoch, got.iteration, got.prefix) == ("Lightning", 3, 1200, "model.")
    assert got.metrics["ModelCheckpoint.best_model_score"] == pytest.approx(0.61)
    assert got.meta["hyper_parameters"]["backbone"] == "resnet50"
    assert got.versions == {"lightning": "2.4.0", "torch file version": "3"}
    assert got.optimizer == "Adam or AdamW, lr 0.001, state of 6 parameters"


def test_mmengine_tells_history_and_that_ema_is_swapped(tmp_path, net, bitwise):
    history = pytest.importorskip("mmengine.logging").HistoryBuffer
    raw = {f"module.{k}": v + 1 if v.is_floating_point() else v for k, v in net.state_dict().items()}
    state = {
        "meta": {"epoch": 20, "iter": 840, "cfg": "max_epochs = 20\n", "mmengine_version": "0.10.7",
                 "dataset_meta": {"dataset_name": "ap10k", "sigmas": np.array([0.025, 0.026], np.float32)}},
        "state_dict": net.state_dict(),
        "ema_state_dict": {"steps": torch.tensor(840), **raw},
        "message_hub": {"log_scalars": {"train/loss": history([3.0, 2.0, 1.5], [1, 1, 1]),
                                        "val/coco/AP": history([np.float64(0.25), np.float64(0.5)], [1, 1])},
                        "runtime_info": {"epoch": 20, "best_score": 0.5}, "resumed_keys": {}},
        "optimizer": {"state": {}, "param_groups": [{"lr": 4e-3}, {"lr": 1e-3}]}, "param_schedulers": [],
    }  # fmt: skip
    torch.save(state, tmp_path / "epoch_20.pth")
    got = open_checkpoint(tmp_path / "epoch_20.pth")
    assert (got.format, got.epoch, got.iteration, got.config_text) == (
        "mmengine",
        20,
        840,
        "max_epochs = 20\n",
    )
    assert got.metrics == {"train/loss": 1.5, "val/coco/AP": 0.5, "best_score": 0.5}
    assert got.history.series["train/loss"] == [3.0, 2.0, 1.5]
    assert got.dataset_meta["dataset_name"] == "ap10k"
    assert got.versions["mmengine"] == "0.10.7"
    assert got.inert == ()
    assert "swaps" in got.ema
    main = got.state_dict()
    assert all(bitwise(v, main[k]) for k, v in got.state_dict(ema=True).items())
    assert bitwise(got.state_dict(ema=False)["head.weight"], raw["module.head.weight"])
    assert "0.001 to 0.004" in got.optimizer


def test_an_average_beside_the_model_is_told_from_a_swapped_one(tmp_path, net, bitwise):
    average = {f"module.{k}": v * 2 for k, v in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "model_ema": average}, tmp_path / "e.pth")
    got = open_checkpoint(tmp_path / "e.pth")
    assert bitwise(got.state_dict(ema=True)["head.bias"], average["module.head.bias"])
    assert bitwise(got.state_dict(ema=False)["head.bias"], net.state_dict()["head.bias"])
    torch.save(net.state_dict(), tmp_path / "n.pth")
    with pytest.raises(LookupError, match="no averaged"):
        open_checkpoint(tmp_path / "n.pth").state_dict(ema=True)


def test_openmmlab_0x_is_told(tmp_path, net):
    meta = {"mmpose_version": "0.29.0", "mmcv_version": "1.7.0", "config": "a = 1", "epoch": 210,
            "CLASSES": ("person",),
            "env_info": "sys.platform: linux\nPyTorch: 1.9.0\n"}  # fmt: skip
    torch.save({"meta": meta, "state_dict": net.state_dict()}, tmp_path / "o.pth")
    got = open_checkpoint(tmp_path / "o.pth")
    assert (got.format, got.config_text, got.epoch) == ("mmcv 0.x", "a = 1", 210)
    assert got.versions["pytorch"] == "1.9.0"


def test_one_model_in_several_files(tmp_path, layouts, bitwise):
    safetensors = pytest.importorskip("safetensors.torch")
    names = ["float32", "int64", "bool", "float64"]
    first, second = ({k: layouts[k] for k in part} for part in (names[:2], names[2:]))
    safetensors.save_file(first, tmp_path / "model-00001-of-00002.safetensors")
    safetensors.save_file(second, tmp_path / "model-00002-of-00002.safetensors")
    index = {"weight_map": {k: f"model-0000{1 + (k in second)}-of-00002.safetensors" for k in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    files = sorted(tmp_path.glob("*.safetensors"))
    for given in (tmp_path, tmp_path / "model.safetensors.index.json", files):
        got = open_checkpoint(given)
        assert set(got.tensors) == set(names)
        assert all(bitwise(got.read(k), layouts[k]) for k in names)
        assert got.paths == tuple(files)
    with pytest.raises(ValueError, match="both hold"):
        open_checkpoint([files[0], files[0]])
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    with pytest.raises(ValueError, match="outside its folder"):
        open_checkpoint(tmp_path)


def test_the_hash_is_that_of_the_file(tmp_path, net):
    import hashlib

    torch.save(net.state_dict(), tmp_path / "a.pth")
    assert (
        open_checkpoint(tmp_path / "a.pth").sha256()
        == hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    )


def test_a_wrong_name_gets_near_ones(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    with pytest.raises(KeyError, match=r"head\.weight"):
        open_checkpoint(tmp_path / "a.pth").read("head.wieght")


def test_looking_inside_needs_numpy_alone_and_reading_torch(tmp_path, net):
    torch.save({"state_dict": net.state_dict(), "epoch": 1}, tmp_path / "a.pth")
    torch.save(net.state_dict(), tmp_path / "b.pth")
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {{'plotly', 'scipy', 'mmengine', 'mmpose', 'onnx', 'safetensors', 'cv2',
                                       'pandas', 'typer', 'gradio', 'matplotlib', 'jaxtyping', 'PIL',
                                       'pyarrow', 'transformers'}}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints import difference, loading
a = open_checkpoint({str(tmp_path / "a.pth")!r})
assert a.identity.family and a.parts() and a.sha256() and 'torch' not in sys.modules
import torch
b = open_checkpoint({str(tmp_path / "b.pth")!r})
assert difference.compare_checkpoints(a, b).changed == ()
module = torch.nn.Module()
module.load_state_dict(a.state_dict(), strict=False)
assert not loading.load_state(module, a).missing
print('done')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_the_real_movenet_file_equals_torch_load(shared, bitwise):
    path = shared / "data/weights/movenet_mbv3.pth"
    want, got = torch.load(path, map_location="cpu"), open_checkpoint(path)
    assert len(got.tensors) == 418
    assert got.format == "bare state dict"
    assert all(bitwise(v, want[k]) for k, v in got.state_dict().items())
