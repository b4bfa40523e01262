"""Does it import? Asked of a process of its own, because a broken package leaves its half behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

# Distribution name -> what the workbench needs it for; read by people in the table.
PACKAGES: dict[str, str] = {
    "torch": "networks",
    "numpy": "everything",
    "mmpose": "mmpose's configs and models",
    "mmengine": "mmpose's configs and models",
    "mmcv-lite": "mmpose",
    "mmcv": "mmpose, in place of mmcv-lite, with compiled operations",
    "mmdet": "detectors as mmdet configs; not needed otherwise",
    "mmpretrain": "nothing: ViTPose's backbone is built without it",
    "xtcocotools": "mmpose's CocoMetric; pycocotools stands in for it",
    "pycocotools": "the oracle of the evaluator, and mmpose's CocoMetric",
    "chumpy": "nothing: only mmpose's requirements name it",
    "setuptools": "mmengine, which imports pkg_resources",
    "six": "mmpose",
    "torchvision": "nothing: mmpose's requirements bring it",
    "transformers": "sentence-transformers",
    "sentence-transformers": "text encoders",
    "opencv-python": "images, videos, crops",
    "opencv-python-headless": "the same without windows",
    "pillow": "image headers",
    "scipy": "assignments and statistics",
    "gradio": "the app",
    "plotly": "figures",
    "kaleido": "nothing: figures are saved as HTML",
    "captum": "attribution",
    "onnx": "opening ONNX files",
    "onnxruntime": "running ONNX files",
    "pyarrow": "predictions as Parquet",
    "duckdb": "asking Parquet across epochs",
    "safetensors": "nothing: opened without it",
    "typer": "the command line",
    "jupyterlab": "notebooks",
    "ipywidgets": "notebooks",
    "anywidget": "notebooks",
    "scikit-image": "the built-in photograph",
    "ray": "sweeps over many machines",
}

_TORCH = """
import json, torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = torch.backends.mps.is_available()
facts = {"cuda": torch.version.cuda, "devices": devices, "mps": mps, "threads": torch.get_num_threads()}
print(json.dumps(facts))
"""
_MMPOSE = """
import dataclasses, json
from workbench.models.mmpose_compat import install
print(json.dumps(dataclasses.asdict(install())))
"""
# Name -> (the package that must be there for it to make sense, the code).
PROBES: dict[str, tuple[str, str]] = {
    "torch": ("torch", _TORCH),
    "cv2": ("opencv-python", "import cv2"),
    "torchvision": ("torchvision", "import torchvision.transforms"),
    "xtcocotools": ("xtcocotools", "import xtcocotools._mask"),
    "mmdet": ("mmdet", "import mmdet"),
    "mmpose": ("mmpose", _MMPOSE),
}
_SECONDS = 180.0


@dataclass(frozen=True)
class Probe:
    """What came of one import.

    Attributes:
        works: it imported.
        said: the last line of its error; "" when it works.
        facts: what it printed as JSON, if anything.
    """

    works: bool
    said: str = ""
    facts: Mapping[str, object] | None = None


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Version of each distribution as its metadata says; None where it is absent."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def probed(installed: Mapping[str, str | None]) -> dict[str, Probe]:
    """What came of every probe whose package is there; two at a time, because each import fills a core."""
    wanted = {name: code for name, (needs, code) in PROBES.items() if installed.get(needs)}
    if installed.get("opencv-python-headless"):
        wanted["cv2"] = PROBES["cv2"][1]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(_probe, wanted.values()), strict=True))


def _probe(code: str) -> Probe:
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return Probe(False, f"did not finish within {_SECONDS:g} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return Probe(False, lines[-1])
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return Probe(True, facts=json.loads(last) if last.startswith("{") else None)
