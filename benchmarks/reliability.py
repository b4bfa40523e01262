"""Mutated files of every format, each in a process of its own: `python -m benchmarks.reliability mutated`.

Each format starts from small valid samples. Of every mutated file the reader must give what it documents:
values, or an error of a documented type. Counted are executions (a forbidden event of Python's audit hooks),
tracebacks (any other exception), crashes of the process, hangs (more than 5 s of processor time) and files
that took more than 500 MB. For formats that keep checksums, accepted files are compared with what was
written.
"""

from __future__ import annotations

import argparse
import json
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- mutated: begin -->", "<!-- mutated: end -->"
SECONDS, MEGABYTES = 5, 500
# A process that says nothing for so long hangs in foreign code and is killed.
SILENT = 120


@dataclass(frozen=True)
class Sample:
    """A valid file.

    Attributes:
        name: of the file; its ending tells the reader the format.
        data: its bytes.
        read: gives all that is in it.
        errors: what the reader documents that it raises.
        same: from two answers to whether they are equal, for formats with checksums; None without.
    """

    name: str
    data: bytes
    read: Callable[[Path], Any]
    errors: tuple[type[BaseException], ...]
    same: Callable[[Any, Any], bool] | None = None


@dataclass
class Counts:
    """What was seen of one format."""

    files: int = 0
    accepted: int = 0
    compared: int = 0
    other_values: int = 0
    executions: int = 0
    tracebacks: int = 0
    crashes: int = 0
    hangs: int = 0
    memory: int = 0
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Count one file."""
        self.files += 1
        for name in ("accepted", "compared", "other_values", "executions", "tracebacks", "hangs", "memory"):
            setattr(self, name, getattr(self, name) + bool(row.get(name)))
        self.slowest = max(self.slowest, row.get("seconds", 0.0))
        if row.get("example") and len(self.examples) < 5:
            self.examples.append(row["example"])


class Hang(BaseException):
    """The reader took too long."""


def main(words: list[str] | None = None) -> int:
    """Run, write the page's section, and tell by the exit code whether anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("what", choices=["mutated", "worker"])
    parser.add_argument("--count", type=int, default=10_000, help="mutated files of every format")
    parser.add_argument("--formats", nargs="*", default=None)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PAGE)
    chosen = parser.parse_args(words)
    if chosen.what == "worker":
        worked(chosen.formats[0], chosen.first, chosen.count, chosen.seed)
        return 0
    found: dict[str, Counts] = {}
    began = time.time()
    for name in chosen.formats or FORMATS:
        found[name] = measured(name, chosen.count, chosen.seed)
        print(name, json.dumps(asdict(found[name])), flush=True)
    written(chosen.out, section(found, chosen.count, chosen.seed, time.time() - began))
    bad = sum(
        c.executions + c.tracebacks + c.crashes + c.hangs + c.memory + c.other_values for c in found.values()
    )
    return int(bad > 0)


def measured(name: str, count: int, seed: int) -> Counts:
    """All mutated files of one format; a process that dies or hangs is started again behind that file."""
    counts, first = Counts(), 0
    while first < count:
        words = [sys.executable, "-m", "benchmarks.reliability", "worker", "--formats", name]
        words += ["--first", str(first), "--count", str(count), "--seed", str(seed)]
        with subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        ) as process:
            for line in _lines(process):
                counts.add(json.loads(line))
                first += 1
            if process.poll() is None and first < count:
                process.kill()
                counts.hangs += 1
            elif process.wait() and first < count:
                counts.crashes += 1
        if first < count and process.returncode:
            counts.files += 1
            counts.examples.append(f"{name} {first}: the process ended with {process.returncode}")
            first += 1
    return counts


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    stream = process.stdout
    while stream is not None and select.select([stream], [], [], SILENT)[0]:
        line = stream.readline()
        if not line:
            process.wait()
            return
        yield line


def worked(name: str, first: int, count: int, seed: int) -> None:
    """Read the mutated files of one format and say one line of JSON about each."""
    from tests.mutation import mutations, watch

    warnings.simplefilter("ignore")
    watching = watch()
    with tempfile.TemporaryDirectory() as folder:
        samples = FORMATS[name](Path(folder))
        wanted = []
        for sample in samples:
            path = Path(folder) / sample.name
            path.write_bytes(sample.data)
            wanted.append(sample.read(path))
        files = [mutations(sample.data, count, seed) for sample in samples]
        for number in range(count):
            which = number % len(samples)
            data = next(files[which])
            if number < first:
                continue
            sample = samples[which]
            row = _read(sample, Path(folder) / sample.name, data, wanted[which], watching)
            if "example" in row:
                row["example"] = f"{sample.name} {number}: {row['example']}"
            print(json.dumps(row), flush=True)


def _read(sample: Sample, path: Path, data: bytes, wanted: Any, watching: Any) -> dict[str, Any]:
    path.write_bytes(data)
    row: dict[str, Any] = {}
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before, began = _memory("VmRSS"), time.process_time()
    signal.signal(signal.SIGVTALRM, _late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    watching.on = True
    try:
        given = sample.read(path)
        row["accepted"] = True
        if sample.same is not None:
            row["compared"] = True
            row["other_values"] = not sample.same(given, wanted)
            if row["other_values"]:
                row["example"] = "other values"
    except sample.errors:
        pass
    except Hang:
        row |= {"hangs": True, "example": "a hang"}
    except BaseException as error:  # noqa: BLE001 - whatever comes is what is counted here
        row |= {"tracebacks": True, "example": f"{type(error).__name__}: {error}"[:300]}
    finally:
        watching.on = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    row["seconds"] = round(time.process_time() - began, 4)
    row["memory"] = _memory("VmHWM") - before > MEGABYTES
    if watching.seen:
        row |= {"executions": True, "example": watching.seen[0]}
        watching.seen.clear()
    return row


def _late(number: int, frame: Any) -> None:
    raise Hang


def _memory(line: str) -> float:
    """Of this process, in MB, as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


# -- the formats


def _checkpoint(name: str, data: bytes, checked: bool = False) -> Sample:
    import torch

    from workbench.checkpoints import open_checkpoint
    from workbench.cli.open import as_text, facts_of

    def read(path: Path) -> Any:
        got = open_checkpoint(path)
        as_text(facts_of(got))
        return got.state_dict()

    def same(given: Any, wanted: Any) -> bool:
        return given.keys() == wanted.keys() and all(torch.equal(given[k], wanted[k]) for k in wanted)

    return Sample(name, data, read, (ValueError, FileNotFoundError), same if checked else None)


def _of_tests(*names: str) -> list[Sample]:
    from tests.checkpoints.test_mutated_files import CHECKPOINTS, sample

    return [
        _checkpoint(f"{i}.{CHECKPOINTS[name][1]}", sample(name), CHECKPOINTS[name][2])
        for i, name in enumerate(names)
    ]


def checkpoints(folder: Path) -> list[Sample]:
    """Files of torch and pickle, with calls of os.system in them."""
    return _of_tests("torch zip", "torch before 1.6", "pickle 2", "pickle 5", "TorchScript", "torch.export")


def coco(folder: Path) -> list[Sample]:
    """A COCO keypoint file with two categories, a crowd and an odd annotation."""
    from workbench.data.coco import read_coco

    names = ["nose", "left_eye", "right_eye"]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    points = [5.0, 6.5, 2, 7, 8, 1, 0, 0, 0]
    annotations = [
        {"id": i + 1, "image_id": 1 + i % 2, "category_id": 1 + i % 2, "keypoints": points,
         "num_keypoints": 2, "bbox": [1, 2, 30.5, 40], "area": 900.5, "iscrowd": int(i == 3)}
        for i in range(4)
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [category, {**category, "id": 2, "name": "b"}],
    }

    def read(path: Path) -> Any:
        found = read_coco(path, folder)
        return len(found), found.notes

    return [Sample("a.json", json.dumps(content).encode(), read, (ValueError, KeyError, FileNotFoundError))]


def images(folder: Path) -> list[Sample]:
    """A JPEG and two PNG files."""
    import cv2
    import numpy as np

    from workbench.data.images import read_image

    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    made = [("a.jpg", picture), ("b.png", picture), ("c.png", picture[..., 0].astype(np.uint16) * 200)]
    return [
        Sample(n, cv2.imencode(Path(n).suffix, p)[1].tobytes(), read_image, (ValueError, FileNotFoundError))
        for n, p in made
    ]


def videos(folder: Path) -> list[Sample]:
    """Eight frames as .mp4 and as .avi."""
    import numpy as np

    from workbench.data.video import VideoWriter, frames, video_facts

    def read(path: Path) -> Any:
        video_facts(path)
        return sum(1 for _ in frames(path))

    found = []
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    for name in ("v.mp4", "v.avi"):
        with VideoWriter(folder / name, 10.0) as video:
            for shift in range(8):
                video.write(np.roll(picture, shift, 1))
        found.append(Sample(name, (folder / name).read_bytes(), read, (ValueError, FileNotFoundError)))
    return found


def configs(folder: Path) -> list[Sample]:
    """An mmpose config with a base, arithmetic and texts."""
    from tests.test_mutated_texts import CONFIG
    from workbench.checkpoints.config_reader import read_config

    (folder / "base.py").write_text("p = dict(a=1, b=[1, 2])\nmodel = dict(z=1)\n")
    return [Sample("c.py", CONFIG.encode(), read_config, (ValueError, FileNotFoundError))]


def logs(folder: Path) -> list[Sample]:
    """A log of mmengine as JSON lines and as text."""
    from tests.test_mutated_texts import ROWS, WORDS
    from workbench.core import NotAvailable
    from workbench.inspectors.conditioning.training_log import read_validation

    errors = (ValueError, FileNotFoundError, NotAvailable)
    return [Sample(n, t.encode(), read_validation, errors) for n, t in (("l.json", ROWS), ("l.log", WORDS))]


def predictions(folder: Path) -> list[Sample]:
    """A Parquet file of predictions and the vectors of sentences."""
    from tests.checkpoints.test_mutated_files import predictions as made
    from tests.checkpoints.test_mutated_files import vectors
    from workbench.evaluation.predictions import read_predictions, write_predictions
    from workbench.text.vectors import read_text, write_text

    write_predictions(folder / "p.parquet", made(), epoch=3)
    write_text(vectors(), folder / "t.npz")
    errors = (ValueError, FileNotFoundError)
    return [Sample("p.parquet", (folder / "p.parquet").read_bytes(), read_predictions, errors),
            Sample("t.npz", (folder / "t.npz").read_bytes(), read_text, errors)]  # fmt: skip


FORMATS: dict[str, Callable[[Path], list[Sample]]] = {
    "checkpoints": checkpoints,
    "safetensors": lambda folder: _of_tests("safetensors"),
    "ONNX": lambda folder: _of_tests("ONNX"),
    "npz": lambda folder: _of_tests("npz", "packed npz"),
    "COCO json": coco,
    "images": images,
    "video": videos,
    "configs": configs,
    "logs": logs,
    "predictions, text vectors": predictions,
}
# Before the readers checked their files: of the issue that asked for this, and of this tool at commit 4a43baf
# (2,000 files of each format).
BEFORE = {
    "checkpoints": "as reported: 9,700 files, 0 executions, 0 tracebacks, 0 hangs, 1,448 of 3,006 accepted "
    "with other tensors; this tool: 38 of 464 with checksums had other values",
    "npz": "this tool: 301 of 658 accepted with other values",
    "safetensors": "this tool: 740 of 2,000 accepted, 0 tracebacks",
    "ONNX": "this tool: 784 of 2,000 accepted, 0 tracebacks",
    "predictions, text vectors": "this tool: 663 tracebacks in 2,000 files",
}


# -- the page


def section(found: dict[str, Counts], count: int, seed: int, seconds: float) -> str:
    """The table of all formats, with the machine it was measured on."""
    lines = [
        "| format | files | executions | tracebacks | crashes | hangs over 5 s | over 500 MB | "
        "accepted, of these with other values | slowest | before |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, c in found.items():
        values = f"{c.accepted:,}" + (
            f", {c.other_values} of {c.compared:,} with checksums" if c.compared else ""
        )
        cells = [name, f"{c.files:,}", c.executions, c.tracebacks, c.crashes, c.hangs, c.memory, values,
                 f"{c.slowest:.2f} s", BEFORE.get(name, "not measured")]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"Measured with `python -m benchmarks.reliability mutated --count {count}`, seed {seed}, in "
        f"{seconds / 60:.0f} minutes on {platform.machine()}, {_processor()}, Python "
        f"{platform.python_version()}. Other work ran on the machine; seconds are those of the processor.",
    ]
    examples = [f"- {text.replace(chr(10), ' ')}" for c in found.values() for text in c.examples]
    return "\n".join([*lines, *(["", "What went wrong:", "", *examples] if examples else [])])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def written(page: Path, text: str) -> None:
    """Put a section into the page between its marks."""
    whole = page.read_text() if page.is_file() else f"{_HEAD}\n{BEGIN}\n{END}\n"
    begin, end = whole.index(BEGIN) + len(BEGIN), whole.index(END)
    page.write_text(f"{whole[:begin]}\n{text}\n{whole[end:]}")


_HEAD = """# Reliability

What damaged files, kills and crowds do to the workbench. Each section names its command and its machine.

## 10,000 mutated files of every format

Bits, bytes and numbers are changed, stretches cut, repeated and removed (`tests/mutation.py`). Torch
archives, TorchScript, torch.export and .npz keep a CRC-32 of every entry: what is accepted is what was
written. Parquet files of predictions keep one of every page, and none of the footer. Files of torch before
1.6, bare pickles, safetensors, ONNX, TensorFlow Lite and .npy keep no checksum: a changed number in them
cannot be told from a written one.
"""

if __name__ == "__main__":
    raise SystemExit(main())
