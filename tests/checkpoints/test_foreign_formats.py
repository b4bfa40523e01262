"""Files of other frameworks are named as what they are."""

import struct
import zipfile

import pytest
import torch

from tests.checkpoints.refused import assert_refused
from workbench.checkpoints import open_checkpoint

FOREIGN = {
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "an HDF5 file"),
    "weights.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 5000 + b"keras_version", "a Keras model or its weights"),
    "poses.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 50 + b"block0_values", "DeepLabCut"),
    "net.engine": (b"ftrt" + b"\0" * 50, "an engine of TensorRT"),
    "net.pdiparams": (b"\0" * 50, "by its name weights of a Paddle inference model"),
    "net.ckpt.data-00000-of-00001": (b"\0" * 50, "by its name values of a TensorFlow checkpoint"),
    "net.msgpack": (b"\x81\xa6params", "by its name parameters of Flax"),
    "net.params": (struct.pack("<QQQ", 0x112, 0, 3) + b"\0" * 50, "MXNet parameters"),
    "net-symbol.json": (b'{"nodes": [{"op": "null", "name": "data"}]}', "graph of an MXNet model"),
    "net.param": (b"7767517\n3 3\nInput data 0 1 data\n", "graph of an ncnn model"),
    "net.param.bin": (struct.pack("<iii", 7767517, 3, 3) + b"\0" * 50, "graph of an ncnn model"),
    "net.xml": (b'<?xml version="1.0"?>\n<net name="m" version="11">\n', "graph of an OpenVINO model"),
    "net.mlmodel": (b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x02\x0a\x00", "a CoreML model"),
    "cut.mlmodel": (b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x7f\x0a", "by its name a CoreML model"),
    "graph.mlmodel": (b"\x08\x04", "by its name a CoreML model"),
    "net.bmodel": (b"\x08\x07\x3a\x40", "by its name a model of Sophgo"),
    "net.ort": (b"\x20\0\0\0ORTM" + b"\0" * 50, "onnxruntime's own format"),
    "net.pte": (b"\x20\0\0\0ET12" + b"\0" * 50, "a program of ExecuTorch"),
    "net.rknn": (b"RKNN" + b"\0" * 50, "by its name a model of Rockchip"),
    "net.mnn": (b"\x20\0\0\0" + b"\0" * 50, "by its name an MNN model"),
    "pose.cfg": (b"# yolo\n\n[net]\nbatch=1\nwidth=416\n", "the configuration of a Darknet network"),
    "yolo.weights": (struct.pack("<iiiQ", 0, 2, 5, 32013312) + b"\x8f\x1b" * 40, "weights of Darknet, whose"),
    "old.weights": (struct.pack("<iiii", 0, 1, 0, 64) + b"\x8f\x1b" * 40, "weights of Darknet, whose"),
    "odd.weights": (b"\x9a\x8f\x1b" * 40, "by its name weights of Darknet"),
    "net.dlc": (b"\x9a\x8f\x1b" * 40, "by its name a model of Qualcomm"),
    "NET.ENGINE": (b'\x20\0\0\0{"task": "pose"}' + b"\x9a" * 40, "by its name an engine of TensorRT"),
    "pose.prototxt": (b'name: "pose"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\n', "graph of a Caffe model"),
    "layers.prototxt": (b'layer {\n  name: "data"\n  type: "Input"\n}\n', "graph of a Caffe model"),
    "graph.pbtxt": (b'# hands\ninput_stream: "image"\nnode {\n', "graph of TensorFlow or MediaPipe"),
    "model.json": (b'{"format": "graph-model", "modelTopology": {"node": []}}', "a TensorFlow.js model"),
    "umich-stacked-hourglass.t7": (
        struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 13) + b"nn.Sequential",
        "an object of Torch7",
    ),
    "mpii.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + b" " * 80, "a MATLAB file"),
    "._epoch_20.pth": (b"\0\x05\x16\x07\0\x02\0\0" + b"\0" * 80, "what macOS keeps beside a file"),
    "oak.blob": (b"\x7a\0\x01\x02" * 20, "by its name a model of OpenVINO, compiled for Myriad"),
    "bodyposenet.etlt": (b"\x07\0\0\0nvidia" * 20, "by its name an encrypted model of NVIDIA"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_framework_is_called_what_it_is(tmp_path, name):
    assert_refused(tmp_path / name, *FOREIGN[name])


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


ARCHIVES = {
    "pose_landmarker.task": (
        {"pose_detector.tflite": "TFL3", "pose_landmarks_detector.tflite": "TFL3"},
        r"a bundle of MediaPipe that holds models of TensorFlow Lite \(pose_detector\.tflite, pose_landm",
    ),
    "models.zip": ({"a.tflite": "TFL3"}, r"a zip archive that holds models of TensorFlow Lite \(a\.tflite\)"),
    "net.dlc": ({"dlc.metadata": "", "model": "", "model.params": ""}, "Qualcomm .*zip with dlc.metadata"),
    "other.dlc": ({"part": ""}, "by its name a model of Qualcomm"),
    "epoch_20.pth.zip": ({"epoch_20.pth": ""}, "a zip archive that holds epoch_20.pth: unpack it first"),
    "notes.zip": ({"notes.txt": ""}, r"a zip archive without weights \(it holds notes\.txt\)"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_of_another_framework_is_called_what_it_is(tmp_path, name):
    members, says = ARCHIVES[name]
    with pytest.raises(ValueError, match=says):
        open_checkpoint(zipped(tmp_path / name, **members))


TEXTS = {
    "notes.yaml": b"input: data\nnode: 3\nlayer: 2\n",
    "run.cfg": b"[train]\nnet = a\n",
    "log.txt": b'name: "run"\nlayer 3 frozen\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_with_words_of_a_framework_stays_a_text(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name])
    with pytest.raises(ValueError, match="is a text file beginning"):
        open_checkpoint(tmp_path / name)


def test_weights_with_a_foreign_ending_open(tmp_path):
    """What the bytes say counts before the name."""
    net = torch.nn.Linear(2, 3)
    for name in ("hands.weights", "net.net", "net.engine", "net.task"):
        torch.save(net.state_dict(), tmp_path / name)
        assert list(open_checkpoint(tmp_path / name).tensors) == ["weight", "bias"]


def test_packages_and_folders_of_other_frameworks_are_called_what_they_are(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    with pytest.raises(ValueError, match="a Keras 3 model"):
        open_checkpoint(tmp_path / "m.keras")
    (tmp_path / "m.mlpackage").mkdir()
    with pytest.raises(ValueError, match="a CoreML package"):
        open_checkpoint(tmp_path / "m.mlpackage")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ValueError, match="a TensorFlow SavedModel"):
        open_checkpoint(tmp_path / "saved")
    (tmp_path / "net.param").write_text("7767517\n1 1\n")
    (tmp_path / "net.bin").write_bytes(struct.pack("<I", 0x01306B47) + b"\0" * 64)
    with pytest.raises(ValueError, match=r"weights of an ncnn model \(its graph is net\.param"):
        open_checkpoint(tmp_path / "net.bin")


def test_weights_of_openvino_are_told_by_the_graph_beside_them(tmp_path):
    (tmp_path / "net.xml").write_bytes(b'<?xml version="1.0"?>\n<net name="m" version="11">\n')
    (tmp_path / "net.bin").write_bytes(b"\x90\xb5\x4b\xf3" * 50)
    with pytest.raises(ValueError, match=r"weights of an OpenVINO model \(its graph is net.xml beside it\)"):
        open_checkpoint(tmp_path / "net.bin")


@pytest.mark.parametrize(
    ("file", "says"), [("__0_0.distcp", "distributed checkpoint of torch"), ("manifest.ocdbt", "Orbax")]
)
def test_a_folder_of_a_distributed_checkpoint_is_called_what_it_is(tmp_path, file, says):
    (tmp_path / file).write_bytes(b"\1" * 50)
    with pytest.raises(ValueError, match=says):
        open_checkpoint(tmp_path)
