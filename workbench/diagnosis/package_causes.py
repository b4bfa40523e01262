"""Package versions that do not fit each other: those of the run, of a text, and of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable
from workbench.core.finding import Finding
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.loading_causes import backbone_alone
from workbench.diagnosis.texts import explained
from workbench.doctor.examination import numbers, versions

if TYPE_CHECKING:
    from workbench.doctor import Examination

Version = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two packages of which some versions do not work together.

    Attributes:
        first: distribution.
        second: distribution.
        breaks: of both versions, whether they break.
        why: what happens then.
        do: what to do.
    """

    first: str
    second: str
    breaks: Callable[[Version, Version], bool]
    why: str
    do: str


PAIRS: tuple[Pair, ...] = (
    Pair("mmdet", "mmcv", lambda mmdet, mmcv: (3,) <= mmdet < (4,) and mmcv >= (2, 2),
         "mmdet 3 refuses mmcv 2.2 and later when it is imported", 'pip install "mmcv<2.2"'),
    Pair("mmpose", "mmcv", lambda mmpose, mmcv: mmpose >= (1,) and mmcv < (2,),
         "mmpose 1 needs mmcv 2: names of the layers moved", 'pip install "mmcv>=2,<2.2"'),
    Pair("mmpose", "mmcv", lambda mmpose, mmcv: mmpose < (1,) and mmcv >= (2,),
         "mmpose 0.x needs mmcv 1: mmcv.runner is gone in 2", 'pip install "mmcv-full<2"'),
    Pair("torchvision", "torch", lambda vision, torch: vision[:2] != _vision_of(torch),
         "torchvision was built for another torch: its operators (nms) are not found",
         "install the torchvision that belongs to this torch"),
    Pair("mmengine", "setuptools", lambda mmengine, tools: mmengine <= (0, 10, 7) and tools >= (82,),
         "mmengine imports pkg_resources, which setuptools 82 no longer has", 'pip install "setuptools<82"'),
    Pair("torch", "numpy", lambda torch, numpy: torch < (2, 3) and numpy >= (2,),
         "wheels of torch before 2.3 were built for numpy 1: tensors and arrays cannot be exchanged",
         'pip install "numpy<2"'),
    Pair("xtcocotools", "numpy", lambda tools, numpy: tools <= (1, 14, 3) and numpy >= (2,),
         "the wheel of xtcocotools was built for numpy 1: numpy.dtype size changed",
         'pip install "numpy<2", or build xtcocotools from source'),
    Pair("mmpretrain", "transformers", lambda mmpretrain, transformers: transformers >= (5,),
         "mmpretrain cannot be imported beside transformers 5, so VisionTransformer is not registered",
         'pip install "transformers<5"'),
)  # fmt: skip
"""What was measured with these packages; versions that lie between the tested ones are not named.

torch with numpy 2 was not measured here: torch's own thread on numpy 2 (pytorch issue 107302) has 2.3.0 as
the first that works, and 2.2.2 answers "Numpy is not available" (openfederatedlearning issue 999).
"""

# What files call a distribution otherwise.
_OTHER_NAMES = {"pytorch": "torch", "mmcv-full": "mmcv", "mmcv-lite": "mmcv"}


def _vision_of(torch: Version) -> Version:
    """The torchvision of a torch: 0.15 of 2.0, 0.14 of 1.13; both count on together."""
    major, minor = torch[0], torch[1] if len(torch) > 1 else 0
    return (0, minor + 15) if major >= 2 else (0, minor + 1)


class PackageVersions(Cause):
    """Packages of which some versions do not work together.

    Three places say versions: the checkpoint, for the environment of the training; the text around an error
    message; and this environment. The first two are looked up in `PAIRS`, this environment is examined.
    """

    name, group = "package versions that do not fit", "file"
    needs = ("checkpoint with versions in it, an error message, or a model that cannot be built",)
    refuted_by = "the same two versions importing each other, or the same error with others"

    def test(self, case: Case) -> Answer:
        findings: list[Finding] = []
        ruled_out, missing = [], []
        for evidence in (self._recorded, self._named, self._installed):
            try:
                answer = evidence(case)
            except NotAvailable as reason:
                missing.append(str(reason))
                continue
            if isinstance(answer, RuledOut):
                ruled_out.append(answer.evidence)
            else:
                findings += answer
        if findings:
            return findings
        if ruled_out:
            return RuledOut("; ".join(ruled_out))
        raise NotAvailable("; ".join(missing))

    def _recorded(self, case: Case) -> list[Finding] | RuledOut:
        """The versions that the checkpoint records."""
        recorded = recorded_versions(case)
        if not recorded:
            raise NotAvailable("the checkpoint records no versions of packages")
        if found := self._broken(recorded, "the run records"):
            return found
        here = {_OTHER_NAMES.get(n, n): v for n, v in versions().items() if v}
        own, other = recorded.get("mmpose", ""), here.get("mmpose", "")
        if own and other and (numbers(own) < (1,)) != (numbers(other) < (1,)):
            return [
                self.found(
                    f"the run was written by mmpose {own}, and {other} is installed: names of configs and "
                    "tensors differ between 0.x and 1.x",
                    fix="load it with --remap, which translates the names, or install mmpose of that "
                    "generation",
                    severity="warning",
                )
            ]
        checked = ", ".join(f"{name} {version}" for name, version in sorted(recorded.items()))
        return RuledOut(f"no known pair of the run's versions breaks: {checked}")

    def _named(self, case: Case) -> list[Finding] | RuledOut:
        """The versions that the texts around error messages name."""
        named = plain_names(dict(pair for error in case.given.errors for pair in error.versions))
        if not named:
            raise NotAvailable("no text with an error message names versions")
        checked = ", ".join(f"{name} {version}" for name, version in sorted(named.items()))
        # A text may name versions of more than one environment, so that these are likely and not certain.
        broken = self._broken(named, "the text names", severity="warning", confidence="likely")
        return broken or RuledOut(f"no known pair of the text's versions breaks: {checked}")

    def _broken(self, known: Mapping[str, str], where: str, **more: Any) -> list[Finding]:
        """A finding for each known pair that breaks."""
        return [
            self.found(
                f"{where} {pair.first} {known[pair.first]} and {pair.second} {known[pair.second]}: "
                f"{pair.why}",
                fix=pair.do,
                **more,
            )
            for pair in PAIRS
            if pair.first in known
            and pair.second in known
            and pair.breaks(numbers(known[pair.first]), numbers(known[pair.second]))
        ]

    def _installed(self, case: Case) -> list[Finding] | RuledOut:
        """This environment, where an error message or a model that cannot be built asks for it."""
        # The examination imports the packages, and whether a model fails is seen by building it.
        if not case.reaches("forward"):
            raise NotAvailable("the packages here are examined with --level forward")
        if not case.given.errors and not _fails(case):
            raise NotAvailable("no error message was given, and no model fails to run")
        named = dict(pair for error in case.given.errors for pair in error.versions)
        known = [explained(error.message) for error in case.given.errors]
        # The examination imports every package, which takes long: not for a message with another cause.
        if known and not named and all(e and not e.version for e in known) and not _fails(case):
            raise NotAvailable(
                "the message has a known cause that is none of versions; workbench doctor examines them"
            )
        case.step()
        found = case.once("installation", _installation)
        blamed = [e for e in known if e and e.version]
        beside = _named_versions(named, found.packages)
        if found.broken:
            first = found.broken[0]
            return [
                self.found(
                    f"{len(found.broken)} packages do not work here, first {first.name} ({first.found}): "
                    f"{first.matters}{beside}",
                    fix=first.do,
                    severity="error" if blamed else "warning",
                )
            ]
        if found.untested:
            raise NotAvailable(f"the packages here could not be tested: {found.untested}")
        handled = [p for p in found.problems if p.status in ("handled", "fine")]
        names = f", and {len(handled)} known conflicts do no harm here ({', '.join(p.name for p in handled)})"
        why = f"no installed version explains the message{names if handled else ''}"
        if blamed:
            why = f"the message comes from versions, but they fit each other here{names if handled else ''}"
        return RuledOut(f"{why}{beside}")


def recorded_versions(case: Case) -> dict[str, str]:
    """Package -> version, as the checkpoint says; names as in the package index."""
    return plain_names(case.checkpoint().versions)


def plain_names(found: Mapping[str, str]) -> dict[str, str]:
    """Package -> version with the names of the package index; what is no version is left out."""
    known = {}
    for name, version in found.items():
        plain = name.lower().replace("_", "-")
        if numbers(version) and " " not in name:  # `torch file version` is that of a format
            known[_OTHER_NAMES.get(plain, plain)] = version
    return known


def _installation() -> Examination:
    from workbench.doctor import examine

    return examine()


def _fails(case: Case) -> bool:
    """Whether a model cannot be built, and neither the message nor its file tells a reason but versions."""
    try:
        case.as_given()
    except NotAvailable as error:
        if (known := explained(str(error))) is not None:
            return known.version
        return case.options.adapter is not None or (
            case.given.checkpoint is not None and not backbone_alone(case)
        )
    return False


def _named_versions(named: Mapping[str, str], installed: Mapping[str, str | None]) -> str:
    """Versions that a text names beside those installed; "" where it names none."""
    if not named:
        return ""
    beside = {"mmcv": installed.get("mmcv") or installed.get("mmcv-lite")}
    pairs = [
        f"{name} {version} ({beside.get(name) or installed.get(name) or 'not'} installed)"
        for name, version in named.items()
    ]
    return f"; the text names {', '.join(pairs)}"


CAUSES: tuple[Cause, ...] = (PackageVersions(),)
