import pytest

from workbench.doctor import examination, examine, explain
from workbench.doctor.examination import PACKAGES, Environment, Probe, Problem, numbers, problems

# What is known to work: the tested set, nothing hidden.
GOOD = dict.fromkeys(PACKAGES) | {
    "torch": "2.13.0+cpu", "numpy": "2.4.6", "mmpose": "1.3.2", "mmengine": "0.10.7", "mmcv-lite": "2.1.0",
    "setuptools": "81.0.0", "six": "1.17.0", "opencv-python": "4.14.0.94", "gradio": "6.31.0",
    "plotly": "7.1.0", "onnx": "1.23.2", "onnxruntime": "1.31.1", "pyarrow": "26.0.1", "duckdb": "2.0.0",
    "pycocotools": "2.0.11", "chumpy": "0.66",
}  # fmt: skip


def seen(name, python=(3, 11), probes=None, **versions):
    """The problem of that name in the tested set with some versions changed."""
    changed = {key.replace("_", "-"): value for key, value in versions.items()}
    found = problems(Environment({**GOOD, **changed}, probes or {}, python))
    return next((p for p in found if p.name == name), Problem(name, "fine", "", "nothing said"))


def test_the_tested_set_has_nothing_broken():
    assert [p for p in problems(Environment(GOOD, {}, (3, 11))) if p.status in ("broken", "missing")] == []


@pytest.mark.parametrize(
    ("name", "versions", "do"),
    [
        ("setuptools and mmengine", {"setuptools": "82.0.0"}, "setuptools<82"),
        ("setuptools and mmengine", {"setuptools": None}, "setuptools<82"),
        ("six", {"six": None}, "pip install six"),
        ("mmcv", {"mmcv_lite": None}, "mmcv-lite==2.1.0"),
        ("mmcv", {"mmcv": "2.1.0"}, "uninstall mmcv-lite"),
        ("torch", {"torch": "2.5.1"}, "torch>=2.6"),
        ("numpy", {"numpy": "1.24.0"}, "numpy>=1.26"),
        ("gradio", {"gradio": "6.12.0"}, "gradio>=6.31"),
        ("opencv", {"opencv_python_headless": "4.9.0.80"}, "keep one"),
        ("mmpose", {"mmpose": "0.29.0"}, "mmpose==1.3.2"),
    ],
)
def test_what_is_known_to_break_says_what_to_do(name, versions, do):
    problem = seen(name, **versions)
    assert problem.status == "broken"
    assert do in problem.do


def test_python_314_is_too_new_and_312_is_not():
    assert seen("Python", python=(3, 14)).status == "broken"
    assert seen("Python", python=(3, 12)).status == "fine"


def test_a_system_library_that_opencv_lacks_is_told_from_a_bad_install():
    lacking = Probe(False, "ImportError: libGL.so.1: cannot open shared object file")
    assert "headless" in seen("opencv", probes={"cv2": lacking}).do
    assert "reinstall" in seen("opencv", probes={"cv2": Probe(False, "ImportError: numpy.core")}).do


def test_traps_that_the_workbench_clears_are_no_reason_to_stop():
    broken = {"torchvision": Probe(False, "RuntimeError: operator torchvision::nms does not exist")}
    assert seen("torchvision and torch", probes=broken, torchvision="0.28.0").status == "handled"
    wheel = {"xtcocotools": Probe(False, "ValueError: numpy.dtype size changed")}
    assert seen("xtcocotools and numpy 2", probes=wheel, xtcocotools="1.14.3").status == "handled"


def test_an_import_that_does_not_end_in_time_proves_nothing(monkeypatch):
    monkeypatch.setattr(examination, "_SECONDS", 0.0)
    monkeypatch.setattr(examination, "PROBES", {"torch": ("torch", "import torch")})
    found = examine()
    assert not found.broken
    assert next((p.name, p.status) for p in found.problems) == ("torch", "untested")
    assert "could not be tested: torch: its import did not finish within 0 s" in found.summary()
    assert "did not finish" in found.device


def test_mmcv_22_is_not_to_blame_for_shapes():
    """The seed of case 002 blames it; the same shapes come with 2.1."""
    problem = seen("mmcv 2.2", mmcv="2.2.0", mmcv_lite=None)
    assert problem.status == "fine"
    assert "same shapes" in problem.matters


def test_mmdet_33_beside_mmcv_22_is_told():
    refused = {"mmdet": Probe(False, "AssertionError: MMCV==2.2.0 is used but incompatible")}
    assert (
        "refuses mmcv 2.2"
        in seen("mmdet", probes=refused, mmdet="3.3.0", mmcv="2.2.0", mmcv_lite=None).matters
    )


@pytest.mark.parametrize(
    ("version", "wanted"), [("2.13.0+cpu", (2, 13, 0)), ("82", (82,)), ("1.0rc1", (1, 0)), ("dev", ())]
)
def test_versions_are_compared_by_their_numbers(version, wanted):
    assert numbers(version) == wanted


def test_the_missing_flatten_is_worked_out_from_the_two_shapes():
    found = explain("RuntimeError: mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)")
    assert "17 maps of 8x8 cells reached Linear(64, 256)" in found.cause
    assert not found.version
    assert "x.flatten(2) makes [N, 17, 8, 8] into [N, 17, 64]" in found.do


def test_maps_that_are_not_square_are_told_by_height_and_width():
    """21 keypoints on maps of 8 rows and 6 columns: 21·8 = 168 rows of 6 met Linear(48, 256)."""
    found = explain("mat1 and mat2 shapes cannot be multiplied (168x6 and 48x256)")
    assert "21 maps of 8x6 cells" in found.cause


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ("1536x6 and 2304x128", "4 samples of 64 maps of 6x6 cells reached Linear(2304, 128)"),
        ("1024x6 and 3072x128", "2 samples of maps 6 cells wide reached Linear(3072, 128)"),
    ],
)
def test_a_layer_that_takes_all_channels_is_told_from_one_for_each_map(shapes, said):
    found = explain(f"RuntimeError: mat1 and mat2 shapes cannot be multiplied ({shapes})")
    assert said in found.cause
    assert "x.flatten(1)" in found.do


def test_two_widths_that_do_not_fit_are_no_missing_flatten():
    found = explain("mat1 and mat2 shapes cannot be multiplied (17x384 and 768x256)")
    assert "takes 768 features but got 384" in found.cause


@pytest.mark.parametrize(
    ("message", "said", "version"),
    [
        ("RuntimeError: operator torchvision::nms does not exist", "built for another torch", True),
        ("ValueError: numpy.dtype size changed, may indicate binary incompatibility", "numpy 1", True),
        (
            "COCOeval.__init__() takes from 1 to 4 positional arguments but 6 were given",
            "five arguments",
            False,
        ),
        ("ModuleNotFoundError: No module named 'pkg_resources'", "setuptools 82", True),
        ("ModuleNotFoundError: No module named 'mmcv._ext'", "mmcv-lite", True),
        ("AssertionError: MMCV==2.2.0 is used but incompatible.", "mmdet 3.3", True),
        ("_pickle.UnpicklingError: Weights only load failed.", "log history", True),
        ("TypeError: __init__() got an unexpected keyword argument 'in_channels'", "'in_channels'", False),
        ("size mismatch for head.cls_x.weight: copying a param", "different networks", False),
        ('Missing key(s) in state_dict: "backbone.conv1"', "Names in the file", False),
    ],
)
def test_messages_people_bring_are_explained(message, said, version):
    found = explain(message)
    assert said in found.cause
    assert found.version is version
    assert found.do


def test_an_unknown_message_is_not_explained_away():
    assert explain("IndexError: list index out of range") is None


@pytest.mark.long
def test_this_environment_is_examined():
    found = examine()
    assert found.packages["torch"]
    assert "unknown" not in found.device
    assert not [p for p in found.problems if p.status == "broken"], found.summary()
    assert found.summary().startswith("nothing is broken")
