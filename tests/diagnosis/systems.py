"""Cases of the suite, and the systems in which causes are planted: a run and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.diagnosis import cached_runs, vitpose_run
from tests.diagnosis.cached_runs import cached_folder
from workbench.checkpoints.demo import demo_checkpoints
from workbench.data import builtin
from workbench.data.coco import read_coco
from workbench.data.pose_set import PoseSet
from workbench.data.scenes import SceneSet, write_scenes


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: unique.
        system: whose run.
        make: from an empty folder to targets and arguments of diagnose.
        cause: the true one, as a finding has it; several where they mean the same; () for a control.
        strength: ``strong``, ``weak`` or "".
        level: of the diagnosis.
        fast: part of the default suite.
        both: findings that are true as well: symptoms of the planted cause, or planted together with it.
        plants: its row of the coverage table, where the name of the finding says less: ``stride``.
        says: what its finding must tell besides the name, each as a regular expression: the rule, the
            keypoint, the figure.
    """

    name: str
    system: str
    make: Callable[[Path], tuple[list[Path], dict[str, Any]]]
    cause: tuple[str, ...] = ()
    strength: str = ""
    level: str = "forward"
    fast: bool = False
    both: tuple[str, ...] = field(default=())
    plants: str = ""
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """A run and the data set that it is examined on.

    Attributes:
        name: of the system.
        checkpoints: of the run, the earliest first.
        data: a built-in set, or the path of an annotation file with ``images`` beside it.
    """

    name: str
    checkpoints: Callable[[], list[Path]]
    data: Callable[[], str]

    def options(self) -> dict[str, Any]:
        """Arguments of diagnose that name the data."""
        path = Path(self.data())
        return {"data": path, "images": path.parent / "images"} if path.suffix else {"data": self.data()}

    def pose_set(self) -> PoseSet:
        """The data set."""
        path = Path(self.data())
        return read_coco(path, path.parent / "images") if path.suffix else builtin(self.data())

    def last(self) -> Path:
        """The examined checkpoint."""
        return self.checkpoints()[-1]


@lru_cache
def drawn(kind: str, count: int, seed: int) -> str:
    """Annotations of newly drawn scenes, cached beside the built-in ones.

    Args:
        kind: ``animals`` or ``people``.
        count: pictures.
        seed: of the drawings.
    """
    name = f"diagnosis-{kind}-{count}-{seed}"
    folder = cached_folder(name, lambda made: write_scenes(made, SceneSet(name, kind, count, seed)))
    return str(folder / "annotations.json")


def of_demo(
    name: str, data: Callable[[], str], demo: str = "rtmpose-demo", epochs: slice = slice(None)
) -> System:
    """A demo run examined on other data.

    Args:
        name: of the system.
        data: as a system has it.
        demo: whose checkpoints.
        epochs: which of them are there.
    """
    return System(name, lambda: demo_checkpoints(demo)[epochs], data)


def of_vitpose(seed: int) -> System:
    """The ViTPose of the suite, trained from another seed."""
    return System(
        f"vitpose, seed {seed}", lambda: vitpose_run.checkpoints("scenes-val", seed), lambda: "scenes-val"
    )


RTMPOSE = System("rtmpose", lambda: demo_checkpoints("rtmpose-demo"), lambda: "scenes-val")
VITPOSE = System("vitpose", vitpose_run.checkpoints, lambda: "scenes-val")
HIGHERHRNET = System("higherhrnet", lambda: demo_checkpoints("higherhrnet-demo"), lambda: "scenes-people-val")
CAPE = System("cape", lambda: demo_checkpoints("cape-demo-cured"), lambda: "scenes-val")
TEXT = System("text", cached_runs.text_run, lambda: "scenes-val")

# Of the held-out cases: another run of RTMPose on newly drawn animals, another ViTPose with people.
OTHER_RTMPOSE = of_demo("rtmpose, other run", lambda: drawn("animals", 80, 77), "rtmpose-text-base")
OTHER_VITPOSE = System(
    "vitpose, people", lambda: vitpose_run.checkpoints("scenes-people-val", 1), lambda: "scenes-people-val"
)
NEW_SCENES = of_demo("rtmpose, new scenes", OTHER_RTMPOSE.data, epochs=slice(-1))
