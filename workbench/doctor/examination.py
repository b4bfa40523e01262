"""The whole examination of an environment: versions, device, and what is known about the pairs in it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.doctor.examination import PACKAGES, Probe, Problem, Scene, probed, problems, versions


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        python: version.
        platform: system and processor.
        device: what networks run on, in words.
        packages: distribution -> version; None where it is absent.
        problems: the broken first.
    """

    python: str
    platform: str
    device: str
    packages: Mapping[str, str | None]
    problems: tuple[Problem, ...]

    @property
    def broken(self) -> tuple[Problem, ...]:
        """What does not work and has to be seen to by the user."""
        return tuple(p for p in self.problems if p.status == "broken")

    def summary(self) -> str:
        """One sentence a person can act on."""
        if self.broken:
            first = self.broken[0]
            return f"{len(self.broken)} broken: {first.name}, {first.found}: {first.do}"
        missing = [p.name for p in self.problems if p.status == "missing"]
        handled = sum(p.status == "handled" for p in self.problems)
        rest = f"; not installed: {', '.join(missing)}" if missing else ""
        return f"nothing is broken; {handled} known traps are seen to{rest}"


def examine() -> Examination:
    """Versions from metadata; what may be broken is imported in processes of its own. Takes some seconds."""
    found = versions()
    probes = probed(found)
    return Examination(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=_device(probes.get("torch")),
        packages=found,
        problems=tuple(problems(Scene(found, probes, sys.version_info[:2]))),
    )


def table(examination: Examination) -> list[dict[str, str]]:
    """A row for each package that matters: version, and what it is needed for."""
    return [
        {"package": name, "version": examination.packages.get(name) or "absent", "for": what}
        for name, what in PACKAGES.items()
    ]


def _device(probe: Probe | None) -> str:
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
    return f"CPU, {probe.facts.get('threads')} threads ({built})"
