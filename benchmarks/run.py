"""Measure everything and write benchmarks/results.md: `make bench`, `python -m benchmarks.run [MODULE]`."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.row import Row

MODULES = (
    "cli_start",
    "open_checkpoint",
    "keypoint_ap",
    "history",
    "onnx_evaluate",
    "sprite",
    "slider",
    "rollout",
    "overfit",
    "grouping",
    "grouping_page",
    "ablation",
    "attribution",
    "decoders",
    "sweep",
)
RESULTS = Path(__file__).with_name("results.md")
PACKAGES = ("torch", "numpy", "pycocotools", "plotly", "gradio", "mmpose", "mmengine")


def main(argv: list[str] | None = None) -> int:
    """Run the named modules (all by default); 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--out", type=Path, help="results.md; not written when only some modules run")
    options = parser.parse_args(argv)
    unknown = [name for name in options.modules if name not in MODULES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(MODULES)}")
    measured: dict[str, list[Row]] = {}
    for name in options.modules or MODULES:
        measured[name] = importlib.import_module(f"benchmarks.{name}").rows()
        for row in measured[name]:
            print(as_line(name, row), flush=True)
    out = options.out or (None if options.modules else RESULTS)
    if out:
        out.write_text(as_markdown(measured), encoding="utf-8")
    return int(any(row["met"] is False for rows in measured.values() for row in rows))


def as_markdown(measured: dict[str, list[Row]]) -> str:
    """The whole results.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ours and the peer's were measured in the same run, on this machine:",
        machine(),
        "",
        "| benchmark | what | ours | peer | ratio | target | met |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(as_line(name, row) for name, rows in measured.items() for row in rows),
        "",
    ]
    return "\n".join(lines)


def as_line(name: str, row: Row) -> str:
    """One table line."""
    met = "not measured" if row["met"] is None else "yes" if row["met"] else "**no**"
    cells = (name, row["what"], row["ours"], row["peer"], row["ratio"], row["target"], met)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def machine() -> str:
    """Processor, cores, load, versions and date, one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return (
        f"{processor()}, {os.cpu_count()} cores{load}, {platform.system()}, Python "
        f"{platform.python_version()}, {versions}; {today}."
    )


def processor() -> str:
    """The processor's name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
