"""AP on the set by the chosen grouping rules: stored outputs are grouped again, without a forward pass."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.pages.job_sections import job_key
from apps.pages.sections import table_html
from apps.pages.subject import Subject
from apps.server.context import Context
from apps.server.encoding import sent_json
from workbench.core import Groups, NotAvailable
from workbench.core.capabilities import GroupingModel
from workbench.core.inspector import absent_capability
from workbench.core.job import Job, LruCache
from workbench.core.plain_text import escaped
from workbench.core.report import counted, signed_text
from workbench.inspectors.grouping.replay import MapCache, PictureParams

if TYPE_CHECKING:
    from workbench.core.job import Job
    from workbench.data import PoseSet
    from workbench.evaluation.predict import Looked
    from workbench.inspectors.grouping.replay import SetFigures


# Of a larger set only so many images count here: AP then follows a slider within seconds. The verbs evaluate
# and ablate take all of them.
IMAGES = 48
# Outputs of so many images are kept for each set; at an input of 512 pixels one has some 20 MB.
BYTES = 1 << 30
# Answers remembered, a few hundred bytes each.
ANSWERS = 400


def _room() -> int:
    """Bytes for enlarged maps: 36 images of 512 x 768 cells, if that is no eighth of the memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known on this system
        return BYTES
    return min(2 * BYTES, memory // 8)


@dataclass(frozen=True)
class SetResult:
    """What some rules reach on the first images of a set.

    Attributes:
        reached: figures and counts.
        of: images in the set.
        moved: knobs away from their defaults, in words.
        protocol: of the model's own rules, in one line.
    """

    reached: SetFigures
    of: int
    moved: str
    protocol: str


@dataclass(eq=False)
class StoredPasses:
    """Outputs of the first images of a set, in the order they were looked at."""

    looked: list[Looked] = field(default_factory=list)
    full: bool = False


class SetEvaluations:
    """Results of all requests and their jobs; one for the server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stored: LruCache[StoredPasses] = LruCache(2)
        self._maps = MapCache(_room())
        self._found: LruCache[SetResult] = LruCache(ANSWERS)

    def begin(self, request: SetRequest, before: str = "") -> None:
        """Start on a request where it is not answered yet.

        Args:
            request: asked for now.
            before: text of what the same page asked for before; its job is given up with nobody else waiting.

        Raises:
            NotAvailable: the model does not find people, or there is no set.
        """
        if not request.data:
            raise NotAvailable("AP: no data set with this model's keypoints is served")
        if before != request.text():
            old = self.job(SetRequest.of_text(before)) if before else None
            if old is not None and old.alive:
                old.give_up()
        if self.found(request) is None or self.found(request.plain()) is None:
            title = f"AP on {request.data}: {self._context.registry.run(request.run).title}"
            settings = self._context.settings
            self._context.jobs.start(
                self._key(request), title, lambda job: self._work(job, request), settings.device
            )

    def found(self, request: SetRequest) -> SetResult | None:
        """The answer; None while there is none."""
        return self._found.peek(self._version(request))

    def job(self, request: SetRequest) -> Job | None:
        """The newest job of a request."""
        return self._context.jobs.latest(self._key(request))

    def _key(self, request: SetRequest) -> str:
        return job_key("grouping", request.text(), self._version(request))

    def _version(self, request: SetRequest) -> tuple[Any, ...]:
        registry = self._context.registry
        version = registry.version(request.run, request.epoch)
        return version, registry.sets.version(request.data), request.rules

    def _work(self, job: Job, request: SetRequest) -> None:
        # A file that is replaced meanwhile has another version, of which this is no answer.
        files = self._version(request)[:2]
        model = self._context.registry.model(request.run, request.epoch, request.data).model
        if not isinstance(model, GroupingModel):
            raise NotAvailable(absent_capability(Groups))
        pose_set = self._context.registry.sets.apart(request.data)
        if files != self._version(request)[:2]:
            raise ValueError("the checkpoint or the data set was replaced while it was read; start again")
        stored = self._stored.get(files, StoredPasses)
        asked = [w for w in (request.plain(), request) if self._found.peek((*files, w.rules)) is None]
        self._run_passes(job, model, pose_set, stored, len(asked))
        passes = len(stored.looked)
        for number, one in enumerate(asked, 1):
            step = number * passes, (1 + len(asked)) * passes
            answer = self._grouped(job, model, (pose_set, files), one, stored, *step)
            self._found.get((*files, one.rules), lambda found=answer: found)
        job.progress((1 + len(asked)) * passes, (1 + len(asked)) * passes)

    def _run_passes(
        self, job: Job, model: GroupingModel, pose_set: PoseSet, stored: StoredPasses, rounds: int
    ) -> None:
        """Forward passes over the images that have none yet."""
        import torch

        from workbench.evaluation.predict import forward_passes

        ids = pose_set.first_images(IMAGES)
        if stored.full or not ids:
            return
        more = forward_passes(
            model,
            pose_set,
            ids[len(stored.looked) :],
            flip=bool(model.skeleton.mirror),
            cancelled=job.cancelled,
        )
        for looked in more:
            # The input itself is the larger half, and is not read again.
            bare = dataclasses.replace(looked.batch, pixels=torch.zeros(0), extra={})
            stored.looked.append(dataclasses.replace(looked, batch=bare))
            count = min(len(ids), max(1, BYTES // _bytes(stored.looked[0].outputs)))
            job.progress(len(stored.looked), (1 + rounds) * count)
            if len(stored.looked) >= count:
                break
        stored.full = True

    def _grouped(
        self,
        job: Job,
        model: GroupingModel,
        data: tuple[PoseSet, tuple[Any, ...]],
        request: SetRequest,
        stored: StoredPasses,
        done: int,
        total: int,
    ) -> SetResult:
        """Group every stored output by the request's rules, and evaluate."""
        from workbench.evaluation import protocol_of
        from workbench.evaluation.protocol import judged_by
        from workbench.inspectors.grouping.replay import evaluate_settings

        # With the model's own sigmas, as `workbench evaluate` judges it.
        pose_set = judged_by(data[0], model.skeleton)
        answer = evaluate_settings(
            model,
            stored.looked,
            pose_set,
            request.params,
            lambda n: job.advance(done + n, total),
            self._maps,
            data[1],
        )
        moved = ", ".join(f"{name.replace('_', ' ')} {_value_text(value)}" for name, value in request.rules)
        protocol = protocol_of(model, flip=request.params.flip and bool(model.skeleton.mirror)).text()
        return SetResult(answer, len(pose_set.images), moved, protocol)


def _value_text(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _bytes(outputs: Any) -> int:
    own = [outputs.heatmaps, outputs.coarse, outputs.tags]
    return sum(t.numel() * 4 for t in own if t is not None) + sum(map(_bytes, outputs.passes.values()))


# What a set's AP is asked for: a checkpoint, a set, and the rules; as text, so that the page can hold it.


# Those of one image; AP does not depend on them.
OF_THE_IMAGE = ("instance", "step", "person", "least_score")


@dataclass(frozen=True)
class SetRequest:
    """AP of one epoch on one set by some rules.

    Attributes:
        run: id of the run.
        epoch: its index.
        data: id of the set.
        rules: the knobs away from their defaults, by name; empty for the model's own rules.
    """

    run: str
    epoch: int
    data: str
    rules: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, subject: Subject, params: PictureParams) -> SetRequest:
        """What the page asks for."""
        changed = tuple(
            (f.name, getattr(params, f.name))
            for f in dataclasses.fields(params)
            if f.name not in OF_THE_IMAGE and getattr(params, f.name) != f.default
        )
        return cls(subject.run, subject.epoch, subject.data, changed)

    @property
    def params(self) -> PictureParams:
        """The knobs."""
        return PictureParams(**dict(self.rules))

    def plain(self) -> SetRequest:
        """The same by the knobs' defaults."""
        return dataclasses.replace(self, rules=())

    def text(self) -> str:
        """As the page holds it."""
        return json.dumps([self.run, self.epoch, self.data, self.rules])

    @classmethod
    def of_text(cls, text: str) -> SetRequest:
        """What `text` wrote.

        Raises:
            ValueError: it is no request.
        """
        try:
            run, epoch, data, rules = sent_json(text, list)
            return cls(str(run), int(epoch), str(data), tuple((str(k), v) for k, v in rules))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"expected a request of this page, got {text[:60]!r}") from None


# AP on the set as a card under the knobs: figures, the change from the published rules, how far a job is.


SHOWN = ("AP", "AP50", "AP75", "APM", "APL", "AR")


def card_html(
    found: SetResult | None,
    plain: SetResult | None,
    job: Job | None,
    data: str,
    stale: SetResult | None = None,
) -> str:
    """The card; while a job runs, what was found before stays, paler.

    Args:
        found: for the rules asked for.
        plain: for the knobs' defaults.
        job: at work on it.
        data: name of the set.
        stale: the answer to the rules before.
    """
    shown = found or stale
    alive = job is not None and job.alive
    parts = [f'<div class="grp-card" data-testid="set-card" data-state="{_state(found, job)}">']
    if shown is not None:
        parts.append(_figures(shown, plain, pale=found is None))
        parts.append(f'<p class="wb-protocol">{escaped(_about(shown, data))}</p>')
    elif not alive:
        parts.append(f"<p>{escaped(_why(job, data))}</p>")
    if alive and job is not None and (found is None or plain is None):
        parts.append(_progress(job))
    elif found is None and shown is not None:
        parts.append(f"<p>{escaped(_why(job, data))}</p>")
    return "".join([*parts, "</div>"])


def figures_html(found: SetResult, plain: SetResult | None, data: str) -> str:
    """The card's figures as a table with its protocol, for a document."""
    rows = [
        {
            "figure": name,
            "value": _number(_figure(found, name)),
            "with default values": "" if plain is None else _number(_figure(plain, name)),
        }
        for name in SHOWN
    ]
    return f"<h2>On the set</h2>{table_html(rows)}<p>{escaped(_about(found, data))}</p>"


def _state(found: SetResult | None, job: Job | None) -> str:
    return "ready" if found is not None else job.state if job is not None else "none"


def _figures(shown: SetResult, plain: SetResult | None, pale: bool) -> str:
    boxes = []
    for name in SHOWN:
        value = _figure(shown, name)
        change = ""
        difference = math.nan if plain is None else value - _figure(plain, name)
        if shown is not plain and not math.isnan(difference):
            mark = "grp-up" if difference > 0.0005 else "grp-down" if difference < -0.0005 else ""
            change = (
                f'<small class="{mark}" data-testid="set-change-{name}">{signed_text(difference)}</small>'
            )
        boxes.append(f'<span><i>{name}</i><b data-testid="set-{name}">{_number(value)}</b>{change}</span>')
    for words, name, count in (
        ("people", "found", shown.reached.found),
        ("annotated", "annotated", shown.reached.annotated),
    ):
        boxes.append(f'<span><i>{words}</i><b data-testid="set-{name}">{count}</b></span>')
    return f'<div class="grp-figures{" grp-pale" if pale else ""}">{"".join(boxes)}</div>'


def _figure(found: SetResult, name: str) -> float:
    return found.reached.figures.get(name, math.nan)


def _number(value: float) -> str:
    return "\u2013" if math.isnan(value) else f"{value:.3f}"


def _about(shown: SetResult, data: str) -> str:
    part = (
        f"all {shown.of}"
        if shown.reached.images == shown.of
        else f"the first {shown.reached.images} of {shown.of}"
    )
    moved = f" with {shown.moved}" if shown.moved else ""
    return (
        f"on {counted(part, 'image')} of {data}{moved}; changes are relative to the default values; "
        f"{shown.protocol}"
    )


def _why(job: Job | None, data: str) -> str:
    if job is not None and job.state == "cancelled":
        return f"AP on {data} was cancelled; change a control to compute it"
    if job is not None and job.error:
        return f"AP on {data}: {job.error}"
    return f"AP on {data} is not computed yet"


def _progress(job: Job) -> str:
    left = job.seconds_left
    more = f", {left:.0f} s left" if left is not None else ""
    words = f"{job.title}: {job.done} of {job.total}{more}" if job.total else f"{job.title}: {job.state}"
    value = f' value="{job.done}" max="{job.total}"' if job.total else ""
    return f'<p class="grp-job"><progress{value}></progress> <span>{escaped(words)}</span></p>'
