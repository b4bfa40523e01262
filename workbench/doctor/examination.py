"""Explanations of error messages: their cause, whether installed versions are to blame, what to do."""

from __future__ import annotations

import functools
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.core.files import parse_toml
from workbench.core.processes import own_imports
from workbench.core.report import counted

_MATRICES = re.compile(r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)")
_ARGUMENT = re.compile(r"got an unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class Explanation:
    """The explanation of an error message.

    Attributes:
        cause: in one or two sentences.
        version: whether installed versions are to blame.
        do: what to do.
        name: of the cause, in a few words.
    """

    cause: str
    version: bool
    do: str
    name: str


def explain(message: str) -> Explanation | None:
    """The explanation of an error message; None for an unknown message.

    Args:
        message: as printed, the whole traceback or its last line.
    """
    if found := _MATRICES.search(message):
        return _matrices(*(int(number) for number in found.groups()))
    if found := _ARGUMENT.search(message):
        return _argument(found[1])
    for known in _known():
        if re.search(known["pattern"], message, re.IGNORECASE):
            return Explanation(known["cause"], known["version"], known["do"], known["name"])
    return None


def linear_of(message: str) -> tuple[int, int] | None:
    """Input and output features of the linear layer that an error names; None where it names none.

    Args:
        message: as printed.

    Example:
        >>> linear_of("mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)")
        (64, 256)
    """
    found = _MATRICES.search(message)
    return (int(found[3]), int(found[4])) if found else None


def _matrices(rows: int, columns: int, width: int, out: int) -> Explanation:
    """Why a [rows, columns] input does not fit a layer with `width` input and `out` output features."""
    layer = f"Linear({width}, {out})"
    height = width // columns if columns and width % columns == 0 else 0
    if height < 2 or rows % height:
        cause = (
            f"{layer} takes {counted(width, 'feature')} but got {columns}: two parts of different width were "
            "combined, such as the backbone of one model size and the head of another, or the input size "
            "differs from the config."
        )
        do = (
            "Compare in_channels of the head with the output channels of the backbone; "
            "`workbench load FILE --config CFG` lists shapes that differ."
        )
        return Explanation(cause, False, do, "widths of two layers do not match")
    maps = rows // height
    if height >= MANY * columns:
        return _unflattened_samples(maps, height, columns, layer, width)
    cause = (
        f"{rows} = {maps}·{height} and {height}·{columns} = {width}: {counted(maps, 'map')} of "
        f"{height}x{columns} cells reached {layer} without being flattened; torch took the last axis alone "
        f"({columns}) as features."
    )
    do = (
        f"Flatten the maps before that layer: x.flatten(2) makes [N, {maps}, {height}, {columns}] into "
        f"[N, {maps}, {width}]. mmpose's own RTMCCHead does so; compare the head with it, or use its config "
        "unchanged."
    )
    return Explanation(cause, False, do, "flatten is missing before a linear layer")


# A map is less than this many times as high as wide: what is higher are the rows of all channels together.
MANY = 8


def _unflattened_samples(samples: int, height: int, columns: int, layer: str, width: int) -> Explanation:
    """A layer that takes all channels of a sample at once, and got their maps.

    Args:
        samples: number of samples.
        height: rows of all maps of a sample.
        columns: of a map.
        layer: with the size of its weights.
        width: input features of the layer.
    """
    # Maps are mostly square, and then their number is known.
    channels = height // columns if height % columns == 0 else 0
    of = f"{channels}·{columns}" if channels else f"{height}"
    maps = f"{channels} maps of {columns}x{columns} cells" if channels else f"maps {columns} cells wide"
    cause = (
        f"{samples * height} = {samples}·{of} and {of}·{columns} = {width}: {counted(samples, 'sample')} of "
        f"{maps} reached {layer} without being flattened; torch took the last axis alone ({columns}) as "
        "features."
    )
    do = f"Flatten each sample before that layer: x.flatten(1) makes [N, C, h, {columns}] into [N, {width}]."
    return Explanation(cause, False, do, "flatten is missing before a linear layer")


def _argument(key: str) -> Explanation:
    cause = (
        f"A config gives a class the key {key!r}, which it does not take: often a key of another part of the "
        "model (in_channels belongs to the head, not to CSPNeXt), or of another mmpose version."
    )
    do = "`workbench load FILE --config CFG` names every key that does not belong and the nearest that does."
    return Explanation(cause, False, do, "a config key that its class does not take")


@functools.cache
def _known() -> list[dict[str, Any]]:
    return parse_toml(Path(__file__).with_name("errors.toml").read_text(encoding="utf-8"))["error"]


# Examination of the installation: versions, imports in separate processes, known conflicts, device.


# Distribution name -> what the workbench needs it for; read by people in the table.
PACKAGES: dict[str, str] = {
    "torch": "networks",
    "numpy": "everything",
    "mmpose": "mmpose's configs and models",
    "mmengine": "mmpose's configs and models",
    "mmcv-lite": "mmpose",
    "mmcv": "mmpose, in place of mmcv-lite, with compiled operations",
    "mmdet": "detectors as mmdet configs; not needed otherwise",
    "mmpretrain": "not needed: ViTPose's backbone is built without it",
    "xtcocotools": "mmpose's CocoMetric; replaced by pycocotools",
    "pycocotools": "the reference of the evaluator's tests, and mmpose's CocoMetric",
    "chumpy": "not needed: only mmpose's requirements name it",
    "setuptools": "mmengine, which imports pkg_resources",
    "six": "mmpose",
    "torchvision": "not needed: mmpose's requirements install it",
    "transformers": "sentence-transformers",
    "sentence-transformers": "text encoders",
    "opencv-python": "images, videos, crops",
    "opencv-python-headless": "the same without windows",
    "pillow": "image headers",
    "scipy": "assignments and statistics",
    "gradio": "the app",
    "plotly": "figures",
    "kaleido": "not needed: figures are saved as HTML",
    "captum": "attribution",
    "onnx": "opening ONNX files",
    "onnxruntime": "running ONNX files",
    "pyarrow": "predictions as Parquet",
    "duckdb": "queries over Parquet of several epochs",
    "safetensors": "not needed: its files are read without it",
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
from workbench.core.files import parse_toml
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
    """Result of one test import.

    Attributes:
        works: the import succeeded.
        error: last line of its error message; "" when it works.
        facts: JSON that it printed, if any.
        finished: the import ended; where it did not, nothing is known of the package.
    """

    works: bool
    error: str = ""
    facts: Mapping[str, object] | None = None
    finished: bool = True


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
    """Results of all probes whose package is installed; two at a time, because each import uses one core."""
    wanted = {name: code for name, (needs, code) in PROBES.items() if installed.get(needs)}
    if installed.get("opencv-python-headless"):
        wanted["cv2"] = PROBES["cv2"][1]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(_probe, wanted.values()), strict=True))


def _probe(code: str) -> Probe:
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS, **own_imports()
        )
    except subprocess.TimeoutExpired:
        return Probe(False, f"its import did not finish within {_SECONDS:g} s", finished=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return Probe(False, lines[-1])
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return Probe(True, facts=json.loads(last) if last.startswith("{") else None)


# Known conflicts: one rule each.

Status = Literal["broken", "untested", "missing", "handled", "fine"]


@dataclass(frozen=True)
class Problem:
    """One finding about this environment.

    Attributes:
        name: of the packages.
        status: ``broken`` something does not work; ``untested`` its import did not end in time, as on a
            busy machine, so that nothing is known; ``missing`` a part cannot be used; ``handled`` a conflict
            that the workbench works around; ``fine`` looks like a conflict and is none.
        found: versions or the error message.
        matters: what it affects.
        do: what to do; "" for nothing.
    """

    name: str
    status: Status
    found: str
    matters: str
    do: str = ""


@dataclass(frozen=True)
class Environment:
    """Input of the rules: package versions, results of test imports, and the Python version."""

    versions: Mapping[str, str | None]
    probes: Mapping[str, Probe]
    python: tuple[int, int] = sys.version_info[:2]

    def has(self, name: str) -> str:
        """The version, "" when absent."""
        return self.versions.get(name) or ""

    def at_least(self, name: str, *wanted: int) -> bool:
        """Whether it is installed in this version or a later one."""
        return bool(self.has(name)) and numbers(self.has(name)) >= wanted

    def fails(self, name: str) -> str:
        """The error message of its import; "" when it works, was not tried, or did not end."""
        probe = self.probes.get(name)
        return "" if probe is None or probe.works or not probe.finished else probe.error


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``2.13.0+cpu`` -> (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def problems(environment: Environment) -> list[Problem]:
    """Findings of all rules, ``broken`` first."""
    found = [problem for rule in RULES for problem in rule(environment)]
    return sorted(found, key=lambda problem: get_args(Status).index(problem.status))


def _unfinished(environment: Environment) -> Iterator[Problem]:
    for name, probe in environment.probes.items():
        if not probe.finished:
            what = "whether it works here is not known"
            yield Problem(name, "untested", probe.error, what, "try again when the machine is less busy")


def _torch(environment: Environment) -> Iterator[Problem]:
    if error := environment.fails("torch"):
        yield Problem("torch", "broken", error, "everything that runs a network", "reinstall torch")
    elif not environment.has("torch"):
        yield Problem("torch", "missing", "absent", "everything that runs a network", "pip install torch")
    elif not environment.at_least("torch", 2, 6):
        yield Problem(
            "torch", "broken", environment.has("torch"), "safe loading needs 2.6", 'pip install "torch>=2.6"'
        )


def _python(environment: Environment) -> Iterator[Problem]:
    found = "Python " + ".".join(map(str, environment.python))
    if environment.python >= (3, 14):
        what = "mmengine 0.10.7 calls pkgutil.find_loader, gone in 3.14"
        yield Problem("Python", "broken", found, what, "use Python 3.10 to 3.13")
    elif environment.python >= (3, 12) and environment.has("mmpose"):
        what = "xtcocotools and chumpy have no wheels here; mmpose works without both"
        yield Problem("Python and mmpose", "fine", found, what)


def _setuptools(environment: Environment) -> Iterator[Problem]:
    if environment.has("mmengine") and (
        environment.at_least("setuptools", 82) or not environment.has("setuptools")
    ):
        found = f"setuptools {environment.has('setuptools') or 'absent'}"
        what = "mmengine 0.10.7 imports pkg_resources, gone in setuptools 82"
        yield Problem("setuptools and mmengine", "broken", found, what, 'pip install "setuptools<82"')


def _mmpose(environment: Environment) -> Iterator[Problem]:
    if not environment.has("mmpose"):
        do = "pip install --no-deps mmpose==1.3.2"
        yield Problem("mmpose", "missing", "absent", "models from mmpose configs", do)
    elif not environment.at_least("mmpose", 1):
        what = "configs and key names of 0.x differ; its checkpoints load with --remap"
        yield Problem(
            "mmpose", "broken", environment.has("mmpose"), what, "pip install --no-deps mmpose==1.3.2"
        )
    elif error := environment.fails("mmpose"):
        what = "models from mmpose configs; other families work"
        yield Problem(
            "mmpose", "broken", error, what, "see the other lines; then reinstall mmpose and mmengine"
        )
    if environment.has("mmpose") and not environment.has("six"):
        yield Problem("six", "broken", "absent", "mmpose imports it without naming it", "pip install six")


def _mmcv(environment: Environment) -> Iterator[Problem]:
    mmcv, lite = environment.has("mmcv"), environment.has("mmcv-lite")
    if mmcv and lite:
        found = f"mmcv {mmcv} and mmcv-lite {lite}"
        yield Problem("mmcv", "broken", found, "both install the same files", "pip uninstall mmcv-lite")
    elif environment.has("mmpose") and not mmcv and not lite:
        yield Problem("mmcv", "broken", "absent", "mmpose", "pip install mmcv-lite==2.1.0")
    elif environment.at_least("mmcv", 2, 2):
        what = (
            "RTMPose gives the same shapes and keypoints with 2.1 and 2.2; "
            "a size mismatch has another cause (try --error with the message)"
        )
        yield Problem("mmcv 2.2", "fine", f"mmcv {mmcv}", what)
    if lite and not mmcv:
        what = (
            "mmcv-lite has no compiled operations; the workbench provides suppression for mmdet's "
            "detectors; the few heads that need another operation raise when they call it"
        )
        yield Problem("mmcv-lite", "handled", f"mmcv-lite {lite}", what)


def _mmdet(environment: Environment) -> Iterator[Problem]:
    if error := environment.fails("mmdet"):
        new = environment.at_least("mmcv", 2, 2) or environment.at_least("mmcv-lite", 2, 2)
        what = "mmdet 3.3 refuses mmcv 2.2 and later; only --detector with an mmdet config needs it"
        do = 'pip install "mmcv<2.2", or use an ONNX detector'
        yield Problem("mmdet", "handled", error, what if new else "only --detector with an mmdet config", do)


def _torchvision(environment: Environment) -> Iterator[Problem]:
    if error := environment.fails("torchvision"):
        what = "built for another torch; hidden from transformers, which would fail on it"
        do = "nothing, or pip uninstall torchvision"
        yield Problem("torchvision and torch", "handled", error, what, do)


def _xtcocotools(environment: Environment) -> Iterator[Problem]:
    if error := environment.fails("xtcocotools"):
        what = (
            "its wheel was built for numpy 1; mmpose's CocoMetric uses pycocotools through an adapter "
            "that accepts its five arguments (a plain alias of the module fails)"
        )
        yield Problem("xtcocotools and numpy 2", "handled", error, what)


def _chumpy(environment: Environment) -> Iterator[Problem]:
    if not environment.has("chumpy") and environment.has("mmpose"):
        what = "named by mmpose's requirements, imported by nothing; later than 0.66 it does not build"
        yield Problem("chumpy", "fine", "absent", what)


def _mmpretrain(environment: Environment) -> Iterator[Problem]:
    if environment.has("mmpretrain") and environment.at_least("transformers", 5):
        versions_found = environment.has("mmpretrain"), environment.has("transformers")
        found = "mmpretrain {} beside transformers {}".format(*versions_found)
        what = "it cannot be imported so; ViTPose configs are built with a ViT of the workbench's own"
        yield Problem(
            "mmpretrain and transformers", "handled", found, what, "nothing, or pip uninstall mmpretrain"
        )


def _weights_only(environment: Environment) -> Iterator[Problem]:
    if environment.has("mmengine") and environment.at_least("torch", 2, 6):
        what = (
            "torch.load's default refuses what mmengine's Runner writes (HistoryBuffer); checkpoints are "
            "opened by an inert reader, and training resumes with the few safe types allowed"
        )
        found = f"torch {environment.has('torch')} with mmengine {environment.has('mmengine')}"
        yield Problem(
            "torch.load and mmengine", "handled", found, what, "never set weights_only=False for it"
        )


def _opencv(environment: Environment) -> Iterator[Problem]:
    plain, headless = environment.has("opencv-python"), environment.has("opencv-python-headless")
    if error := environment.fails("cv2"):
        do = "pip install opencv-python-headless" if "libGL" in error else "reinstall opencv-python"
        yield Problem("opencv", "broken", error, "images, videos and crops", do)
    elif plain and headless and plain != headless:
        found = f"opencv-python {plain} and opencv-python-headless {headless}"
        yield Problem("opencv", "broken", found, "both install cv2/", "keep one, or the same version of both")
    elif not plain and not headless:
        yield Problem("opencv", "missing", "absent", "images, videos and crops", "pip install opencv-python")


def _plotly(environment: Environment) -> Iterator[Problem]:
    if environment.at_least("plotly", 7) and environment.has("gradio"):
        found = f"plotly {environment.has('plotly')} beside gradio {environment.has('gradio')}"
        what = "the app shows figures with gradio's own plotly.js 3.3; figures use only what both support"
        yield Problem("plotly and gradio", "handled", found, what)


def _gradio(environment: Environment) -> Iterator[Problem]:
    if not environment.has("gradio"):
        yield Problem("gradio", "missing", "absent", "the app", 'pip install "gradio>=6.31,<7"')
    elif not environment.at_least("gradio", 6, 31) or environment.at_least("gradio", 7):
        what = (
            "the app is tested with 6.31 to 6.x; before 6.16 files outside the served folders could be read"
        )
        yield Problem("gradio", "broken", environment.has("gradio"), what, 'pip install "gradio>=6.31,<7"')


def _kaleido(environment: Environment) -> Iterator[Problem]:
    if environment.at_least("kaleido", 1):
        what = "from 1.0 it needs a Chrome; the workbench writes HTML, the browser saves PNG"
        yield Problem("kaleido", "fine", environment.has("kaleido"), what)


def _numpy(environment: Environment) -> Iterator[Problem]:
    if environment.has("numpy") and not environment.at_least("numpy", 1, 26):
        yield Problem("numpy", "broken", environment.has("numpy"), "everything", 'pip install "numpy>=1.26"')


def _absent(environment: Environment) -> Iterator[Problem]:
    parts = {
        "onnx": "opening ONNX files", "onnxruntime": "running ONNX files", "pyarrow": "predictions as "
        "Parquet",
        "duckdb": "queries over Parquet of several epochs", "plotly": "figures",
        "pycocotools": "mmpose's CocoMetric",
    }  # fmt: skip
    for name, what in parts.items():
        if not environment.has(name):
            yield Problem(name, "missing", "absent", what, f"pip install {name}")


RULES: tuple[Callable[[Environment], Iterator[Problem]], ...] = (
    _unfinished, _python, _torch, _numpy, _setuptools, _mmpose, _mmcv, _mmdet, _torchvision, _xtcocotools,
    _chumpy, _mmpretrain, _weights_only, _opencv, _gradio, _plotly, _kaleido, _absent,
)  # fmt: skip


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        python: version.
        platform: system and processor.
        device: that networks run on, in words.
        packages: distribution -> version; None where it is absent.
        problems: findings, ``broken`` first.
    """

    python: str
    platform: str
    device: str
    packages: Mapping[str, str | None]
    problems: tuple[Problem, ...]

    @property
    def broken(self) -> tuple[Problem, ...]:
        """Problems that the user has to solve."""
        return tuple(p for p in self.problems if p.status == "broken")

    @property
    def untested(self) -> str:
        """The packages whose import did not end, with why; "" where every import ended."""
        return ", ".join(f"{p.name}: {p.found}" for p in self.problems if p.status == "untested")

    def summary(self) -> str:
        """One sentence a person can act on."""
        if self.broken:
            first = self.broken[0]
            return f"{len(self.broken)} broken, first {first.name} ({first.found}): {first.do}"
        missing = [p.name for p in self.problems if p.status == "missing"]
        handled = sum(p.status == "handled" for p in self.problems)
        rest = f"; not installed: {', '.join(missing)}" if missing else ""
        rest += f"; could not be tested: {self.untested}" if self.untested else ""
        begin = "nothing of what was tested" if self.untested else "nothing"
        return f"{begin} is broken; {handled} known conflicts are worked around{rest}"


def examine() -> Examination:
    """Versions from metadata; what may be broken is imported in processes of its own. Takes some seconds."""
    found = versions()
    probes = probed(found)
    return Examination(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=_device(probes.get("torch")),
        packages=found,
        problems=tuple(problems(Environment(found, probes, sys.version_info[:2]))),
    )


def table(examination: Examination) -> list[dict[str, str]]:
    """A row for each package that matters: version, and what it is needed for."""
    return [
        {"package": name, "version": examination.packages.get(name) or "absent", "for": what}
        for name, what in PACKAGES.items()
    ]


def _device(probe: Probe | None) -> str:
    if probe is not None and not probe.finished:
        return f"unknown: {probe.error}"
    if probe is None or probe.facts is None:
        return "unknown: torch cannot be imported"
    devices = probe.facts.get("devices")
    if isinstance(devices, list) and devices:
        return f"CUDA {probe.facts.get('cuda')}: {', '.join(map(str, devices))}"
    if probe.facts.get("mps"):
        return "Apple MPS"
    built = (
        f"built for CUDA {probe.facts['cuda']}, none here"
        if probe.facts.get("cuda")
        else "CPU build of torch"
    )
    threads = probe.facts.get("threads")
    return f"CPU, {threads} {'thread' if threads == 1 else 'threads'} ({built})"
