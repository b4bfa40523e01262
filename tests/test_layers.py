"""Imports point one way, and nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trees import statements, tree

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "workbench").rglob("*.py"))
USER_INTERFACES = {"gradio", "IPython", "ipywidgets", "anywidget", "apps", "notebooks", "tests"}

# The rooms from bottom to top: each may import from itself and from those before it, but not from a room on
# the same line. Source: the table of rooms in CONTRIBUTING.md.
LEVELS = (
    {"core"},
    {"skeletons"},
    {"decoding"},
    {"figures"},
    {"checkpoints", "data"},
    {"text"},
    {"models"},
    {"evaluation"},
    {"training"},
    {"curves", "recipes"},
    {"inspectors"},
    {"doctor"},
    {"diagnosis"},
    {"cli"},
)
TOP = {"__init__", "__main__"}
# mmdet needs the same stand-ins as mmpose, and one file alone makes them.
EXCEPTIONS = {("data/detectors.py", "models")}


@functools.cache
def facts(path: Path) -> tuple[set[str], dict[str, int]]:
    """Modules that a file imports, and the lines of its functions, docstrings left out."""
    names: set[str] = set()
    lines: dict[str, int] = {}
    for node in statements(tree(path).body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "workbench":
                names |= {f"workbench.{alias.name}" for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[ast.get_docstring(node) is not None and len(node.body) > 1]
            lines[node.name] = max((node.end_lineno or 0) - first.lineno + 1, lines.get(node.name, 0))
    return names, lines


def imported(path: Path) -> set[str]:
    return facts(path)[0]


def place(path: Path) -> str:
    return path.relative_to(ROOT / "workbench").as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "workbench").parts[0].removesuffix(".py")


def test_every_room_is_known():
    assert {room_of(path) for path in LIBRARY} - TOP == set().union(*LEVELS)


def test_the_library_knows_no_user_interface():
    # The verb that starts the user interface is its one door.
    wrong = {
        place(path): sorted(names)
        for path in LIBRARY
        if place(path) != "cli/app.py"
        and (names := {name.partition(".")[0] for name in imported(path)} & USER_INTERFACES)
    }
    assert not wrong


def test_imports_point_one_way():
    wrong = []
    for path in LIBRARY:
        room = room_of(path)
        if room in TOP:
            continue
        below = next(i for i, level in enumerate(LEVELS) if room in level)
        allowed = set().union(*LEVELS[:below]) | {room, "__version__"}
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("workbench.")}
        wrong += [(place(path), other) for other in sorted(rooms - allowed)]
    assert not set(wrong) - EXCEPTIONS


def test_no_inspector_imports_another():
    from workbench.inspectors import ALL, file_of

    modules = {".".join(file_of(name).relative_to(ROOT).with_suffix("").parts): name for name in ALL}
    for module, name in modules.items():
        others = set(modules) - {module} | {"workbench.inspectors"}
        assert not imported(file_of(name)) & others, name


def test_hooks_are_registered_in_one_file():
    users = [p.name for p in LIBRARY if "register_forward" in p.read_text()]
    assert users == ["hooks.py"]


def test_functions_stay_readable():
    files = [*LIBRARY, *sorted((ROOT / "apps").rglob("*.py"))]
    lines = {f"{path.relative_to(ROOT)}:{name}": n for path in files for name, n in facts(path)[1].items()}
    assert not {name: n for name, n in lines.items() if n > 50}


def test_files_hold_one_topic():
    files = [
        *LIBRARY,
        *(path for room in ("apps", "tests", "benchmarks") for path in (ROOT / room).rglob("*.py")),
    ]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert not {name: n for name, n in lines.items() if n > 600}


def test_an_onnx_file_is_evaluated_and_predicts_without_torch(tmp_path):
    from tests.models.test_onnx import heatmap_file, two_keypoints

    model, data = heatmap_file(tmp_path / "pose.onnx"), two_keypoints(tmp_path)
    shown = ["predict", str(model), "--image", str(tmp_path / "1.png"), "--json"]
    judged = ["evaluate", str(model), "--data", str(data), "--images", str(tmp_path), "--json"]
    judged += ["--sigmas", "0.05"]
    described = ["data", str(data), "--images", str(tmp_path), "--json"]
    # Sizes of plain PNG are read without Pillow, and a few people of an image compared without SciPy.
    heavy = "torch pandas scipy pyarrow duckdb mmpose gradio plotly PIL workbench.evaluation.sweeps.sweep"
    code = (
        "import sys; from workbench.cli import main;"
        f"codes = [main({shown!r}), main({judged!r}), main({described!r})];"
        f"print(codes, [m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] []", done.stderr


def test_help_imports_nothing_heavy():
    heavy = "torch numpy plotly gradio mmpose mmengine cv2 pandas scipy pyarrow duckdb onnxruntime pydantic"
    code = (
        "import atexit, sys; from workbench.cli import entry; sys.argv = ['workbench', '--help'];"
        f"atexit.register(lambda: print([m for m in {heavy.split()!r} if m in sys.modules])); entry()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def imports_of_modules() -> dict[str, set[str]]:
    """Module -> modules of workbench and apps that it imports, deferred imports included, types apart."""
    files = [*LIBRARY, *sorted((ROOT / "apps").rglob("*.py"))]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        nodes = list(statements(tree(path).body))
        types = {
            id(inner)
            for node in nodes
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            for inner in node.body
        }
        found = graph[module] = set()
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in types:
                for name in node.names:
                    inner = f"{node.module}.{name.name}"
                    found |= {inner} & modules.keys() or {node.module} & modules.keys()
        found.discard(module)
    return graph


@pytest.mark.long
def test_no_files_import_each_other_in_a_circle():
    graph = imports_of_modules()
    # What imports nothing that is left is in no circle; a circle is what remains.
    while free := [module for module, others in graph.items() if not others & graph.keys()]:
        for module in free:
            del graph[module]
    # What only leads into a circle is not part of it.
    while unused := graph.keys() - set().union(*graph.values(), set()):
        for module in unused:
            del graph[module]
    assert not sorted(graph)
