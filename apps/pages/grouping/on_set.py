"""AP on the loaded set by the rules of the moment: its outputs are kept once, and only grouped anew."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from apps.pages.grouping.wishes import Wish
from apps.server.context import Context
from workbench.core import NotAvailable
from workbench.core.cache import LruCache, version_of
from workbench.core.job import Cancelled, Job
from workbench.inspectors.grouping.evaluation import MapCache

if TYPE_CHECKING:
    from workbench.evaluation.predict import Looked
    from workbench.inspectors.grouping.evaluation import SetFigures
    from workbench.models.bottom_up import BottomUp

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
class OnSet:
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
class Kept:
    """Outputs of the first images of a set, in the order they were looked at."""

    looked: list[Looked] = field(default_factory=list)
    full: bool = False


class OnSets:
    """Results of all wishes, and the jobs behind them; one for the server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: LruCache[Kept] = LruCache(2)
        self._maps = MapCache(_room())
        self._found: dict[tuple[Any, ...], OnSet] = {}
        # Pages that wait for a wish; a job that nobody waits for any more gives way to the next.
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, wish: Wish, before: str = "") -> None:
        """Start on a wish where it is not answered yet.

        Args:
            wish: asked for now.
            before: text of what the same page asked for before; its job is given up with nobody else waiting.

        Raises:
            NotAvailable: the model does not find people, or there is no set.
        """
        if not wish.data:
            raise NotAvailable("AP: no data set with this model's keypoints is served")
        if before != wish.text():
            with self._lock:
                self._waiting[wish.text()] += 1
                if before:
                    self._waiting[before] -= 1
            old = self._context.jobs.latest(_key(Wish.of_text(before))) if before else None
            if old is not None and old.alive and self._waiting[before] <= 0:
                old.cancel()
        if self.found(wish) is None or self.found(wish.plain()) is None:
            title = f"AP on {wish.data}: {self._context.registry.run(wish.run).title}"
            settings = self._context.settings
            self._context.jobs.start(_key(wish), title, lambda job: self._work(job, wish), settings.device)

    def found(self, wish: Wish) -> OnSet | None:
        """The answer; None while there is none."""
        return self._found.get(self._version(wish))

    def job(self, wish: Wish) -> Job | None:
        """The newest job of a wish."""
        return self._context.jobs.latest(_key(wish))

    def _version(self, wish: Wish) -> tuple[Any, ...]:
        registry = self._context.registry
        path = registry.epoch(wish.run, wish.epoch).path
        return version_of(path), registry.sets.version(wish.data), wish.rules

    def _work(self, job: Job, wish: Wish) -> None:
        from workbench.evaluation import Cancelled as Stopped

        model = cast("BottomUp", self._context.registry.model(wish.run, wish.epoch).model)
        kept = self._kept.get(self._version(wish)[:2], Kept)
        asked = [w for w in (wish.plain(), wish) if self.found(w) is None]
        try:
            self._look(job, model, wish.data, kept, len(asked))
        except Stopped:
            raise Cancelled from None
        looks = len(kept.looked)
        for number, one in enumerate(asked, 1):
            answer = self._grouped(job, model, one, kept, number * looks, (1 + len(asked)) * looks)
            with self._lock:
                self._found[self._version(one)] = answer
                for old in list(self._found)[:-ANSWERS]:
                    del self._found[old]
        job.progress((1 + len(asked)) * looks, (1 + len(asked)) * looks)

    def _look(self, job: Job, model: BottomUp, data: str, kept: Kept, rounds: int) -> None:
        """Forward passes over the images that are not kept yet."""
        import torch

        from workbench.evaluation.predict import looking

        pose_set = self._context.registry.sets.apart(data)
        ids = list(pose_set.labelled_of_image)[:IMAGES]
        if kept.full or not ids:
            return
        more = looking(
            model,
            pose_set,
            ids[len(kept.looked) :],
            flip=bool(model.skeleton.mirror),
            cancelled=job.cancelled,
        )
        for looked in more:
            # The input itself is the larger half, and is not read again.
            bare = dataclasses.replace(looked.batch, pixels=torch.zeros(0), extra={})
            kept.looked.append(dataclasses.replace(looked, batch=bare))
            count = min(len(ids), max(1, BYTES // _bytes(kept.looked[0].outputs)))
            job.progress(len(kept.looked), (1 + rounds) * count)
            if len(kept.looked) >= count:
                break
        kept.full = True

    def _grouped(self, job: Job, model: BottomUp, wish: Wish, kept: Kept, done: int, total: int) -> OnSet:
        """Group every kept output by the wish's rules, and evaluate."""
        from workbench.evaluation import protocol_of
        from workbench.inspectors.grouping.evaluation import evaluate_settings

        def told(n: int) -> None:
            job.checkpoint()
            job.progress(done + n, total)

        pose_set = self._context.registry.sets.apart(wish.data)
        answer = evaluate_settings(
            model, kept.looked, pose_set, wish.params, told, self._maps, self._version(wish)[:2]
        )
        moved = ", ".join(f"{name.replace('_', ' ')} {_said(value)}" for name, value in wish.rules)
        protocol = protocol_of(model, flip=wish.params.flip and bool(model.skeleton.mirror)).text()
        return OnSet(answer, len(pose_set.images), moved, protocol)


def _key(wish: Wish) -> str:
    return f"grouping {wish.text()}"


def _said(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _bytes(outputs: Any) -> int:
    own = [outputs.heatmaps, outputs.coarse, outputs.tags]
    return sum(t.numel() * 4 for t in own if t is not None) + sum(map(_bytes, outputs.passes.values()))
