"""A file is read through `read_at_most`, or stands here with what bounds its reading."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.trees import tree

ROOT = Path(__file__).parents[1]
FILES = [path for room in ("workbench", "apps") for path in sorted((ROOT / room).rglob("*.py"))]
# Methods that read a file to its end, however long it is, and functions of libraries that open one.
TO_THE_END = {"read_text", "read_bytes", "readlines", "readall"}
OF_LIBRARIES = {
    "Config.fromfile", "Image.open", "InferenceSession", "ParquetFile", "VideoCapture", "ZipFile", "cmp",
    "copy", "copyfile", "copyfileobj", "fromfile", "genfromtxt", "imread", "loadtxt", "memmap", "mmap",
    "np.lib.format.open_memmap", "read_csv", "read_parquet", "read_schema", "read_table", "safe_open",
}  # fmt: skip
MODULES = {
    "cv2", "filecmp", "gzip", "h5py", "imageio", "mmap", "np", "numpy", "onnxruntime", "pandas", "pd", "pq",
    "pyarrow.parquet", "shutil", "tarfile", "zipfile",
}  # fmt: skip
LOADERS = {"json", "np", "numpy", "onnx", "pickle", "tomllib", "torch", "torch.export", "torch.jit", "yaml"}
NAMES = {"load", *(one.rpartition(".")[2] for one in OF_LIBRARIES)}

OWN = "a file of this package"
FOOTER = "refuse_large reads its footer first"
BOUNDED = {
    "workbench/checkpoints/config_values.py:_yaml": "of a text that was read",
    "workbench/checkpoints/demo.py:read_manifest": OWN,
    "workbench/checkpoints/loading.py:load_state": "a tensor within the budget of its file",
    "workbench/checkpoints/safetensors_file.py:_write_torch": "a tensor within the budget of its file",
    "workbench/checkpoints/safetensors_file.py:_write_safetensors": "a tensor within the budget of its file",
    "workbench/cli/history.py:_has_oks": "read_predictions has read it",
    "workbench/core/onnx_graph.py:_session": "read_graph has bounded its file",
    "workbench/core/onnx_messages.py:read_graph": "a file of at most 2 GB, which protobuf cannot exceed",
    "workbench/data/detectors.py:MMDetDetector.__init__": "a config that the user names",
    "workbench/data/image_headers.py:opened_header": "reads the header through a stream with a limit",
    "workbench/data/image_headers.py:gif_frames": "mapped, not read",
    "workbench/data/opening.py:export": "copied in blocks, from a set whose images were looked at",
    "workbench/data/video.py:_opened": "check_tables reads its tables first; frames have a limit",
    "workbench/data/video.py:_bound_ffmpeg": "of this process",
    "workbench/diagnosis/set_causes.py:leaked_images": "compared in blocks",
    "workbench/doctor/examination.py:_known": OWN,
    "workbench/evaluation/history.py:_head": FOOTER,
    "workbench/evaluation/image_index.py:open_index": FOOTER,
    "workbench/evaluation/image_index.py:_blocks": "query_epochs has read its footer",
    "workbench/evaluation/image_index.py:_poses_between": "query_epochs has read its footer",
    "workbench/evaluation/manifest.py:write_manifest": "query_epochs has read its footer",
    "workbench/evaluation/predictions.py:read_predictions": FOOTER,
    "workbench/evaluation/predictions.py:_footer_text": "a footer, whose texts pyarrow limits",
    "workbench/evaluation/sweeps/blocks.py:from_bytes": "bytes, refused where they are compressed",
    "workbench/evaluation/sweeps/ray_engine.py:_packed": "a checkpoint that goes to a worker whole",
    "workbench/figures/document.py:_smaller": "a picture that the figure made",
    "workbench/inspectors/__init__.py:_ordered": OWN,
    "workbench/models/mmpose/config.py:run_config": "a config that the user named and let run",
    "workbench/models/torchscript.py:_scripted": "looked through as data before torch loads it",
    "workbench/models/torchscript.py:_deserialized": "looked through as data before torch loads it",
    "workbench/models/vitpose/export.py:_refuse_other_config": "read only where its size is the expected one",
    "workbench/recipes/recipe.py:read_toml": OWN,
    "workbench/training/run_folder.py:_table_of": "refused where it would unfold to many times its size",
    "workbench/training/run_folder.py:read_snapshot": "uncompressed, and looked through as data before",
    "workbench/training/run_folder.py:_refuse_foreign": "uncompressed parts of an archive",
    "apps/pages/frame.py:css": OWN,
    "apps/pages/frame.py:head": OWN,
    "apps/pages/sections.py:add_style": OWN,
    "apps/server/output_cache.py:_Arrays._write": "a new file of its own",
    "apps/server/output_check.py:open_array": "mapped, not read; its size is judged by who asks for it",
}


def reads_a_file(call: ast.Call) -> bool:
    """Whether a call reads a file to its end, or hands it to a library."""
    if isinstance(call.func, ast.Name):
        return call.func.id in {"memmap", "safe_open", "ZipFile"}
    if not isinstance(call.func, ast.Attribute):
        return False
    name = call.func.attr
    if name in TO_THE_END:
        return True
    if name == "read":
        return not call.args and not call.keywords
    if name not in NAMES:
        return False
    of = ast.unparse(call.func.value)
    return f"{of}.{name}" in OF_LIBRARIES or of in (LOADERS if name == "load" else MODULES)


def readers(node: ast.AST, name: str = ""):
    """Names of the functions below a node that read a file."""
    for inner in ast.iter_child_nodes(node):
        named = isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        own = f"{name}.{inner.name}".lstrip(".") if named else name
        if isinstance(inner, ast.Call) and reads_a_file(inner):
            yield own
        yield from readers(inner, own)


def test_every_file_is_read_through_read_at_most_or_for_a_reason_that_stands_here():
    names = "|".join(NAMES - {"load"})
    words = rf"\.({'|'.join(TO_THE_END)})\(|\.read\(\)|\b({'|'.join(LOADERS)})\.load\(|\b({names})\("
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{name}" for path in FILES for name in readers(tree(path, words))
    }
    assert sorted(found - BOUNDED.keys()) == []  # use workbench.core.files.read_at_most
    assert sorted(BOUNDED.keys() - found) == []


def test_reads_are_told_from_calls_that_have_a_limit():
    def told(text):
        return reads_a_file(ast.parse(text, mode="eval").body)

    reading = ("p.read_text()", "f.read()", "json.load(f)", "np.load(p)", "zipfile.ZipFile(p)")
    limited = ("f.read(8)", "json.loads(t)", "read_at_most(p, 8, 'a')", "self.load(x)", "p.copy()")
    assert all(map(told, reading))
    assert not any(map(told, limited))
