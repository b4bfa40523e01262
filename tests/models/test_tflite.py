"""TensorFlow Lite files: named and listed without any package, run where an interpreter is installed."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest

from tests.mutation import survivors
from workbench.checkpoints import open_checkpoint
from workbench.core import NotAvailable, Sample
from workbench.core.run import run
from workbench.models import open_model
from workbench.models.tflite import Graph

# One image [1, 32, 24, 3], the mean of 4x4 pixels, then a 1x1 convolution: keypoint 0 is red, keypoint 1 is
# green + .25, keypoint 2 is half of both. Written by flatbuffers with the schema of ai-edge-litert 2.3.0.
FLOATS = (
    "eNptUbtOw0AQXL8ik5yCiwgiREFBQYEEEhQUKOmoKPkAjGIlRphYsiUo8ymUfBAFBQUF4gvozdzdXLBRTpp7zuzs3sYicnN1fXbf"
    "NM0I+2dgBbz4IoFY3AJHQAh8g6dXJW6sJnbtSQxGj7xD+zaVzlifpwS4oeFHQJ1VdYXVA0aGNpQxdgncdOwh7/eBD+AT+KJfkeaP"
    "WuHrOC39HvUD6g+sv6frOaaXSB+cbePR551Hnsf4Ae987nXsHcwbYkenmM7X+e928g//wXm0PMV5unPEOl+BErjg+yV6EbNWvS6y"
    "tC7SspKWPjadsTm/g69Yg9ZsWc3s5C5P3b8HpreJ6a/OWbHXricDp3nK8vmi7vyN078xr4Te5XL5kM0256TM39iMFd8S1pwX6Txr"
    "1aL/d0ydz7N++4Gf7YkEyvTjL57r4y8OQTrC"
)
QUANTISED = (
    "eNp9UsFKw0AQnTStJG2oBYsW8dCDhx4KBvRQpAUPIh48+gFGGtqAtYUGvBbxA8SzX+DB7/AjPHgonv0BXd9sZpttqYa8zWR25r3Z"
    "nfGI6PLs4vBeKVWHfQUMGS4RXo1zoAUUgU/E8TcgeQrG2CAPERsS5wMnGs0maV9R+0tAGk/TKb4OUNe5VWrAqoGVOari3wPegQ9g"
    "LryjKLk1sqmVvyv5FclvZkU5XHdbtIjKiNnUGmXxORLnCL8rvoLYzL2NdQ13KcRytKh/Z6n+4gqMhqVJRtP889084qcFvMHuy/7T"
    "j1I1fMMszO9geYDPk/M7kksWL9Gsx/vDOEpH0WRKlpanu5Wd71X6HuatLPCZ5sJfs+rLuenYz7j7B9dJZHrpWr3cWullmOf6zH+q"
    "/uOfdSuG/y5OBsN0qTdG60Vl99IWXtZ4XuH9VtkjGj0+92Q8von76++D66/rKaFF/TyHHdHo6tnPpp/3A8n/S4/7koyiQWzdP89P"
    "Q/T4zvdl7wt5bt4HN7DqCKy5ZPMXm19beQ=="
)
WEIGHT = [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]


def file(folder, text, name="m.tflite"):
    path = folder / name
    path.write_bytes(zlib.decompress(base64.b64decode(text)))
    return path


def needs_interpreter():
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError:
        pytest.importorskip("tflite_runtime", reason="neither ai-edge-litert nor tflite-runtime is installed")


def test_constants_and_ports_are_listed(tmp_path):
    got = open_checkpoint(file(tmp_path, FLOATS))
    assert (got.format, got.facts["inputs"], got.facts["outputs"]) == (
        "TensorFlow Lite",
        {"image": [1, 32, 24, 3]},
        {"heatmaps": [1, 8, 6, 3]},
    )
    assert got.read("head/weight").reshape(3, 3).tolist() == WEIGHT
    assert got.read("head/bias").tolist() == [0, 0.25, 0]
    got = open_checkpoint(file(tmp_path, QUANTISED))
    assert got.read("head/weight").reshape(3, 3).tolist() == [[64, 0, 0], [0, 64, 0], [32, 32, 0]]


def test_mutated_files_end_in_one_sentence(tmp_path):
    data = zlib.decompress(base64.b64decode(FLOATS))

    def read(path):
        return open_checkpoint(path).state_dict()

    for _, got in survivors(data, tmp_path / "changed.tflite", read, count=250):
        assert all(tensor.numel() < 1000 for tensor in got.values())


def test_a_list_of_endless_tables_is_refused(tmp_path):
    data = bytearray(zlib.decompress(base64.b64decode(FLOATS)))
    for at in range(0, len(data) - 4, 4):
        changed = bytearray(data)
        changed[at : at + 4] = struct.pack("<I", 0x7FFFFFF0)
        (tmp_path / "big.tflite").write_bytes(changed)
        try:
            open_checkpoint(tmp_path / "big.tflite")
        except ValueError as error:
            assert "big.tflite" in str(error)  # noqa: PT017


def test_without_an_interpreter_the_package_is_named(tmp_path, monkeypatch):
    for name in (
        "ai_edge_litert",
        "ai_edge_litert.interpreter",
        "tflite_runtime",
        "tflite_runtime.interpreter",
    ):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(NotAvailable, match=r"m\.tflite: .*needs the package ai-edge-litert"):
        open_model(file(tmp_path, FLOATS))


@pytest.mark.parametrize(("text", "within"), [(FLOATS, 1e-5), (QUANTISED, 0.1)])
def test_the_graph_gives_what_is_computed_by_hand(tmp_path, text, within):
    needs_interpreter()
    graph = Graph(file(tmp_path, text))
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 24)).astype(np.float32)
    (given,) = graph(pixels)
    means = pixels.reshape(3, 3, 8, 4, 6, 4).mean((3, 5))
    wanted = np.einsum("nchw,kc->nhwk", means, WEIGHT) + np.array([0, 0.25, 0])
    assert given.shape == (3, 8, 6, 3)
    assert np.abs(given - wanted).max() < within


def test_a_file_becomes_a_model_that_finds_the_brightest_place(tmp_path):
    needs_interpreter()
    assume = ["padding=1.0", "mean=0,0,0", "std=255,255,255"]
    loaded = open_model(file(tmp_path, FLOATS), assume=assume)
    assert loaded.family == "tflite"
    image = np.zeros((32, 24, 3), np.uint8)
    image[8:12, 16:20, 0] = 255
    image[20:24, 4:8, 1] = 255
    sample = Sample(image=image, box=(0, 0, 24, 32))
    points = run(loaded.model, [sample]).predictions[0].keypoints
    assert np.abs(points[0] - (17.5, 9.5)).max() < 4
    assert np.abs(points[1] - (5.5, 21.5)).max() < 4


def test_a_cancelled_job_ends_between_two_samples(tmp_path, jobs):
    needs_interpreter()
    graph, calls, running = Graph(file(tmp_path, FLOATS)), [], []
    inner = graph.interpreter

    class Counted:
        def invoke(self):
            calls.append(True)
            running[0].cancel()
            inner.invoke()

        def __getattr__(self, name):
            return getattr(inner, name)

    graph.interpreter = Counted()
    pixels = np.zeros((3, 3, 32, 24), np.float32)

    def work(job):
        running.append(job)
        graph(pixels)

    job = jobs.start("key", "title", work)
    assert job.wait(60)
    assert (job.state, len(calls)) == ("cancelled", 1)
