"""What a set's AP is asked for: a checkpoint, a set, and the rules; as text, so that the page can hold it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from apps.pages.subject import Subject
from workbench.inspectors.grouping.replay import PictureParams

# Those of one image; AP does not depend on them.
OF_THE_IMAGE = ("instance", "step", "person", "least_score")


@dataclass(frozen=True)
class Wish:
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
    def of(cls, subject: Subject, params: PictureParams) -> Wish:
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

    def plain(self) -> Wish:
        """The same by the knobs' defaults."""
        return dataclasses.replace(self, rules=())

    def text(self) -> str:
        """As the page holds it."""
        return json.dumps([self.run, self.epoch, self.data, self.rules])

    @classmethod
    def of_text(cls, text: str) -> Wish:
        """What `text` wrote.

        Raises:
            ValueError: it is no wish.
        """
        try:
            run, epoch, data, rules = json.loads(text)
            return cls(str(run), int(epoch), str(data), tuple((str(k), v) for k, v in rules))
        except (TypeError, ValueError):
            raise ValueError(f"expected a wish of this page, got {text[:60]!r}") from None
