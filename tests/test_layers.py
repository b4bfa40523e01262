"""Imports point one way, and nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "workbench").rglob("*.py"))
USER_INTERFACES = {"gradio", "IPython", "ipywidgets", "anywidget", "apps", "notebooks", "tests"}

# What each room may import from the workbench, besides itself. Lower rooms know nothing of higher ones.
NOUNS = {"records", "files", "__init__"}
NUMERICS = NOUNS | {"geometry", "hooks", "skeletons", "decoding", "grouping"}
MIDDLE = NUMERICS | {"report", "figures", "checkpoints", "data", "models", "run", "demo", "text"}
UPPER = MIDDLE | {"evaluation"}
ALLOWED = {
    "records": set(),
    "files": set(),
    "geometry": NOUNS,
    "hooks": NOUNS,
    "skeletons": NOUNS,
    "decoding": NUMERICS,
    "grouping": NOUNS | {"geometry", "decoding"},
    "report": NOUNS,
    "figures": NUMERICS | {"report"},
    "checkpoints": NUMERICS | {"report", "figures"},
    "data": NUMERICS | {"report", "figures"},
    "text": NUMERICS | {"report", "figures", "checkpoints"},
    "models": MIDDLE,
    "run": NUMERICS,
    "demo": NUMERICS | {"report"},
    "inspectors": MIDDLE,
    "evaluation": MIDDLE,
    "training": MIDDLE,
    "rollout": MIDDLE | {"training"},
    "experiments": UPPER | {"training"},
    "tags": UPPER,
    "oracle": UPPER,
    "ablation": UPPER,
    "conditioning": UPPER | {"inspectors"},
}


def imported(path: Path) -> set[str]:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    for n in nodes:
        if isinstance(n, ast.ImportFrom) and n.module:
            names.add(n.module)
            if n.module == "workbench":
                names |= {f"workbench.{a.name}" for a in n.names}
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_knows_no_user_interface(path):
    if path.relative_to(ROOT / "workbench").as_posix() == "cli/app.py":
        pytest.skip("the verb that starts the user interface is its one door")
    assert not {name.partition(".")[0] for name in imported(path)} & USER_INTERFACES


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT / "workbench").parts[0].removesuffix(".py")
    if room not in ALLOWED:
        return
    names = {name for name in imported(path) if name.startswith("workbench.")}
    if path.relative_to(ROOT / "workbench").as_posix() == "data/detectors/mmdet.py":
        # mmdet needs the same stand-ins as mmpose, and one file alone makes them.
        names -= {"workbench.models.mmpose_compat"}
    rooms = {name.split(".")[1] for name in names}
    assert not rooms - ALLOWED[room] - {room, "__version__"}


def test_no_inspector_imports_another():
    for path in (ROOT / "workbench/inspectors").glob("*.py"):
        if path.stem != "__init__":
            assert not [n for n in imported(path) if n.startswith("workbench.inspectors")], path.name


def test_no_inspector_of_another_room_imports_an_inspector():
    from workbench.inspectors import ROOMS, file_of

    for name, room in ROOMS.items():
        others = {f"{room}.{other}" for other in ROOMS} | {"workbench.inspectors"}
        assert not imported(file_of(name)) & others, name


def test_hooks_are_registered_in_one_file():
    users = [p.name for p in LIBRARY if "register_forward" in p.read_text()]
    assert users == ["hooks.py"]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 300


def test_an_onnx_file_is_evaluated_and_predicts_without_torch(tmp_path):
    from tests.models.test_onnx import heatmap_file, two_keypoints

    model, data = heatmap_file(tmp_path / "pose.onnx"), two_keypoints(tmp_path)
    shown = ["predict", str(model), "--image", str(tmp_path / "1.png"), "--json"]
    judged = ["evaluate", str(model), "--data", str(data), "--images", str(tmp_path), "--json"]
    judged += ["--sigmas", "0.05"]
    code = (
        "import sys; from workbench.cli import main;"
        f"codes = [main({shown!r}), main({judged!r})];"
        "print(codes, [m for m in 'torch pandas scipy mmpose gradio plotly'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[0, 0] []", done.stderr


def test_help_imports_nothing_heavy():
    heavy = "torch numpy plotly gradio mmpose mmengine cv2 pandas scipy pyarrow duckdb onnxruntime"
    code = (
        "import sys; from workbench.cli import main; code = main(['--help']);"
        f"print(code, [m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0 []"
