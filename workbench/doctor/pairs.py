"""Which versions are known not to work together here? One rule each: found, does it matter, what to do.

Every rule was met and measured in fresh environments (November 2026, torch 2.13, numpy 2.4); rumours that
turned out wrong are rules too, with status ``fine``, because people come with them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from workbench.doctor.examination import Probe

Status = Literal["broken", "handled", "missing", "fine"]


@dataclass(frozen=True)
class Problem:
    """One thing to know about this environment.

    Attributes:
        name: the packages, as people say it.
        status: ``broken`` something does not work; ``handled`` it would not, but the workbench sees to it;
            ``missing`` a part cannot be used; ``fine`` looks suspicious and is not.
        found: what was found.
        matters: for what.
        do: what to do; "" for nothing.
    """

    name: str
    status: Status
    found: str
    matters: str
    do: str = ""


@dataclass(frozen=True)
class Scene:
    """What the rules look at: versions, what imports, and the Python that runs."""

    versions: Mapping[str, str | None]
    probes: Mapping[str, Probe]
    python: tuple[int, int] = sys.version_info[:2]

    def has(self, name: str) -> str:
        """The version, "" when absent."""
        return self.versions.get(name) or ""

    def at_least(self, name: str, *wanted: int) -> bool:
        """Whether it is there, at this version or later."""
        return bool(self.has(name)) and numbers(self.has(name)) >= wanted

    def fails(self, name: str) -> str:
        """What it said when it did not import; "" when it does or was not tried."""
        probe = self.probes.get(name)
        return "" if probe is None or probe.works else probe.said


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``2.13.0+cpu`` -> (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def problems(scene: Scene) -> list[Problem]:
    """What the rules find, the broken first."""
    order: list[Status] = ["broken", "missing", "handled", "fine"]
    found = [problem for rule in RULES for problem in rule(scene)]
    return sorted(found, key=lambda problem: order.index(problem.status))


def _torch(scene: Scene) -> Iterator[Problem]:
    if said := scene.fails("torch"):
        yield Problem("torch", "broken", said, "everything that runs a network", "reinstall torch")
    elif not scene.has("torch"):
        yield Problem("torch", "missing", "absent", "everything that runs a network", "pip install torch")
    elif not scene.at_least("torch", 2, 6):
        yield Problem(
            "torch", "broken", scene.has("torch"), "safe loading needs 2.6", 'pip install "torch>=2.6"'
        )


def _python(scene: Scene) -> Iterator[Problem]:
    found = "Python " + ".".join(map(str, scene.python))
    if scene.python >= (3, 14):
        what = "mmengine 0.10.7 calls pkgutil.find_loader, gone in 3.14"
        yield Problem("Python", "broken", found, what, "use Python 3.10 to 3.13")
    elif scene.python >= (3, 12) and scene.has("mmpose"):
        what = "xtcocotools and chumpy have no wheels here; mmpose works without both"
        yield Problem("Python and mmpose", "fine", found, what)


def _setuptools(scene: Scene) -> Iterator[Problem]:
    if scene.has("mmengine") and (scene.at_least("setuptools", 82) or not scene.has("setuptools")):
        found = f"setuptools {scene.has('setuptools') or 'absent'}"
        what = "mmengine 0.10.7 imports pkg_resources, gone in setuptools 82"
        yield Problem("setuptools and mmengine", "broken", found, what, 'pip install "setuptools<82"')


def _mmpose(scene: Scene) -> Iterator[Problem]:
    if not scene.has("mmpose"):
        do = "pip install --no-deps mmpose==1.3.2"
        yield Problem("mmpose", "missing", "absent", "models from mmpose configs", do)
    elif not scene.at_least("mmpose", 1):
        what = "configs and key names of 0.x differ; its checkpoints load with --remap"
        yield Problem("mmpose", "broken", scene.has("mmpose"), what, "pip install --no-deps mmpose==1.3.2")
    elif said := scene.fails("mmpose"):
        what = "models from mmpose configs; other families work"
        yield Problem(
            "mmpose", "broken", said, what, "see the other lines; then reinstall mmpose and mmengine"
        )
    if scene.has("mmpose") and not scene.has("six"):
        yield Problem("six", "broken", "absent", "mmpose imports it without naming it", "pip install six")


def _mmcv(scene: Scene) -> Iterator[Problem]:
    mmcv, lite = scene.has("mmcv"), scene.has("mmcv-lite")
    if mmcv and lite:
        found = f"mmcv {mmcv} and mmcv-lite {lite}"
        yield Problem("mmcv", "broken", found, "both install the same files", "pip uninstall mmcv-lite")
    elif scene.has("mmpose") and not mmcv and not lite:
        yield Problem("mmcv", "broken", "absent", "mmpose", "pip install mmcv-lite==2.1.0")
    elif scene.at_least("mmcv", 2, 2):
        what = (
            "RTMPose gives the same shapes and keypoints with 2.1 and 2.2; "
            "a size mismatch has another cause (try --error with the message)"
        )
        yield Problem("mmcv 2.2", "fine", f"mmcv {mmcv}", what)
    if lite and not mmcv:
        what = (
            "mmcv-lite has no compiled operations; suppression, which mmdet's detectors need, stands in; the "
            "few heads that need another raise when it is called"
        )
        yield Problem("mmcv-lite", "handled", f"mmcv-lite {lite}", what)


def _mmdet(scene: Scene) -> Iterator[Problem]:
    if said := scene.fails("mmdet"):
        new = scene.at_least("mmcv", 2, 2) or scene.at_least("mmcv-lite", 2, 2)
        what = "mmdet 3.3 refuses mmcv 2.2 and later; only --detector with an mmdet config needs it"
        do = 'pip install "mmcv<2.2", or use an ONNX detector'
        yield Problem("mmdet", "handled", said, what if new else "only --detector with an mmdet config", do)


def _torchvision(scene: Scene) -> Iterator[Problem]:
    if said := scene.fails("torchvision"):
        what = "built for another torch; transformers would fail on it, so it is hidden from them"
        do = "nothing, or pip uninstall torchvision"
        yield Problem("torchvision and torch", "handled", said, what, do)


def _xtcocotools(scene: Scene) -> Iterator[Problem]:
    if said := scene.fails("xtcocotools"):
        what = (
            "its wheel was built for numpy 1; mmpose's CocoMetric runs on pycocotools through an adapter "
            "that takes its five arguments (a plain alias of the module fails)"
        )
        yield Problem("xtcocotools and numpy 2", "handled", said, what)


def _chumpy(scene: Scene) -> Iterator[Problem]:
    if not scene.has("chumpy") and scene.has("mmpose"):
        what = "named by mmpose's requirements, imported by nothing; later than 0.66 it does not build"
        yield Problem("chumpy", "fine", "absent", what)


def _mmpretrain(scene: Scene) -> Iterator[Problem]:
    if scene.has("mmpretrain") and scene.at_least("transformers", 5):
        found = f"mmpretrain {scene.has('mmpretrain')} beside transformers {scene.has('transformers')}"
        what = "it cannot be imported so; ViTPose configs are built with a ViT of the workbench's own"
        yield Problem(
            "mmpretrain and transformers", "handled", found, what, "nothing, or pip uninstall mmpretrain"
        )


def _weights_only(scene: Scene) -> Iterator[Problem]:
    if scene.has("mmengine") and scene.at_least("torch", 2, 6):
        what = (
            "torch.load's default refuses what mmengine's Runner writes (HistoryBuffer); checkpoints are "
            "opened by an inert reader, and training resumes with the few safe types allowed"
        )
        found = f"torch {scene.has('torch')} with mmengine {scene.has('mmengine')}"
        yield Problem(
            "torch.load and mmengine", "handled", found, what, "never set weights_only=False for it"
        )


def _opencv(scene: Scene) -> Iterator[Problem]:
    plain, headless = scene.has("opencv-python"), scene.has("opencv-python-headless")
    if said := scene.fails("cv2"):
        do = "pip install opencv-python-headless" if "libGL" in said else "reinstall opencv-python"
        yield Problem("opencv", "broken", said, "images, videos and crops", do)
    elif plain and headless and plain != headless:
        found = f"opencv-python {plain} and opencv-python-headless {headless}"
        yield Problem("opencv", "broken", found, "both install cv2/", "keep one, or the same version of both")
    elif not plain and not headless:
        yield Problem("opencv", "missing", "absent", "images, videos and crops", "pip install opencv-python")


def _plotly(scene: Scene) -> Iterator[Problem]:
    if scene.at_least("plotly", 7) and scene.has("gradio"):
        found = f"plotly {scene.has('plotly')} beside gradio {scene.has('gradio')}"
        what = "the app shows figures with gradio's own plotly.js 3.3; only what both know is drawn"
        yield Problem("plotly and gradio", "handled", found, what)


def _gradio(scene: Scene) -> Iterator[Problem]:
    if not scene.has("gradio"):
        yield Problem("gradio", "missing", "absent", "the app", 'pip install "gradio>=6.31,<7"')
    elif not scene.at_least("gradio", 6, 31) or scene.at_least("gradio", 7):
        what = (
            "the app is tested with 6.31 to 6.x; before 6.16 files outside the served folders could be read"
        )
        yield Problem("gradio", "broken", scene.has("gradio"), what, 'pip install "gradio>=6.31,<7"')


def _kaleido(scene: Scene) -> Iterator[Problem]:
    if scene.at_least("kaleido", 1):
        what = "from 1.0 it needs a Chrome; the workbench writes HTML, the browser saves PNG"
        yield Problem("kaleido", "fine", scene.has("kaleido"), what)


def _numpy(scene: Scene) -> Iterator[Problem]:
    if scene.has("numpy") and not scene.at_least("numpy", 1, 26):
        yield Problem("numpy", "broken", scene.has("numpy"), "everything", 'pip install "numpy>=1.26"')


def _absent(scene: Scene) -> Iterator[Problem]:
    parts = {
        "onnx": "opening ONNX files", "onnxruntime": "running ONNX files", "pyarrow": "predictions as "
        "Parquet",
        "duckdb": "asking Parquet across epochs", "plotly": "figures", "pycocotools": "mmpose's CocoMetric",
    }  # fmt: skip
    for name, what in parts.items():
        if not scene.has(name):
            yield Problem(name, "missing", "absent", what, f"pip install {name}")


RULES: tuple[Callable[[Scene], Iterator[Problem]], ...] = (
    _python, _torch, _numpy, _setuptools, _mmpose, _mmcv, _mmdet, _torchvision, _xtcocotools, _chumpy,
    _mmpretrain, _weights_only, _opencv, _gradio, _plotly, _kaleido, _absent,
)  # fmt: skip
