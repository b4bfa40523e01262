"""At which epoch is each instance right first, and which instances are forgotten again?

An instance is right in an epoch when the OKS of its pose reaches a threshold. It is forgotten in an epoch
when it is wrong there and was right in the epoch before, as in Toneva et al., "An Empirical Study of Example
Forgetting during Deep Neural Network Learning" (2019), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, counted, plain, rows
from workbench.evaluation.history import History
from workbench.evaluation.oks import FOUND

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from plotly.graph_objects import Figure

    from workbench.evaluation.history import History


@dataclass(frozen=True, eq=False)
class Forgetting(Report):
    """When each instance is right over the epochs.

    Attributes:
        epochs: numbers, rising.
        annotation_ids: of the instances, as in the annotation file.
        image_ids: of the instances.
        oks: of each instance in each epoch; nan where an epoch has no pose of it.
        right: OKS from which a pose is right.
    """

    epochs: Int[np.ndarray, " E"]
    annotation_ids: Int[np.ndarray, " N"]
    image_ids: Int[np.ndarray, " N"]
    oks: Float[np.ndarray, "E N"]
    right: float = FOUND

    @cached_property
    def _changes(self) -> tuple[Bool[np.ndarray, "E N"], Bool[np.ndarray, "E N"]]:
        """Where an instance becomes right, and where it becomes wrong again.

        An epoch without a pose of the instance says nothing: the next one is compared with the last that has.
        """
        was = np.zeros(len(self.annotation_ids), bool)
        learned, forgotten = (np.zeros(self.oks.shape, bool) for _ in range(2))
        for e, oks in enumerate(self.oks):
            known, now = np.isfinite(oks), np.nan_to_num(oks, nan=-1.0) >= self.right
            learned[e] = known & now & ~was
            forgotten[e] = known & ~now & was
            was = np.where(known, now, was)
        return learned, forgotten

    @property
    def first_right(self) -> Float[np.ndarray, " N"]:
        """Number of the first epoch in which each instance is right; nan where there is none."""
        hit = np.nan_to_num(self.oks, nan=-1.0) >= self.right
        return np.where(hit.any(0), self.epochs[hit.argmax(0)], np.nan)

    @property
    def forgotten(self) -> Int[np.ndarray, " N"]:
        """How often each instance is forgotten."""
        return self._changes[1].sum(0)

    @property
    def right_last(self) -> Bool[np.ndarray, " N"]:
        """Whether each instance is right in the last epoch that has a pose of it."""
        learned, forgotten = self._changes
        return learned.sum(0) > forgotten.sum(0)

    @property
    def never(self) -> int:
        """Instances that are right in no epoch."""
        return int(np.isnan(self.first_right).sum())

    def events(self) -> list[dict[str, Any]]:
        """One row for each epoch: instances right, learned there and forgotten there."""
        learned, forgotten = self._changes
        right = (np.nan_to_num(self.oks, nan=-1.0) >= self.right).sum(1)
        return rows(epoch=self.epochs, right=right, learned=learned.sum(1), forgotten=forgotten.sum(1))

    def epochs_of(self, annotation_id: int) -> dict[str, Any]:
        """One instance: first epoch right, and every epoch in which it is learned or forgotten.

        Raises:
            KeyError: no epoch has a pose of it.
        """
        (found,) = np.nonzero(self.annotation_ids == annotation_id)
        if not len(found):
            raise KeyError(
                f"no instance {annotation_id} among the {len(self.annotation_ids)} of these epochs"
            )
        n = int(found[0])
        learned, forgotten = (self.epochs[change[:, n]].tolist() for change in self._changes)
        return {
            "annotation_id": annotation_id, "image_id": int(self.image_ids[n]),
            "first_right": plain(self.first_right[n]), "learned": learned, "forgotten": forgotten,
            "right_last": bool(self.right_last[n]),
        }  # fmt: skip

    def of_image(self, image_id: int) -> list[dict[str, Any]]:
        """`epochs_of` every instance of one image, in the order of annotation ids."""
        own = np.sort(self.annotation_ids[self.image_ids == image_id])
        return [self.epochs_of(int(number)) for number in own]

    def summary(self) -> str:
        count, ever = len(self.annotation_ids), int((self.forgotten > 0).sum())
        lost = int(((self.forgotten > 0) & ~self.right_last).sum())
        text = (
            f"{count - self.never} of {counted(count, 'instance is', 'instances are')} right (OKS from "
            f"{self.right:g}) in at least one of {counted(len(self.epochs), 'epoch')}"
        )
        if not ever:
            return f"{text}; none is forgotten."
        events = self.events()
        worst = max(events, key=lambda row: row["forgotten"])
        return (
            f"{text}; {ever} are forgotten at least once, {lost} of them are wrong at the end; most in epoch "
            f"{worst['epoch']} ({worst['forgotten']})."
        )

    def plot(self) -> Figure:
        """Instances learned and forgotten in each epoch, and how many are right."""
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, as_title, new_figure

        events = self.events()

        def column(name: str) -> np.ndarray:
            return np.array([row[name] for row in events], np.float32)

        figure = new_figure(as_title(self.summary()), x="epoch", y="instances")
        figure.add_scatter(x=column("epoch"), y=column("right"), name="right", line_color=RUN_COLOURS[0])
        figure.add_bar(x=column("epoch"), y=column("learned"), name="learned", marker_color=QUIET_COLOUR)
        figure.add_bar(
            x=column("epoch"), y=-column("forgotten"), name="forgotten (below 0)", marker_color=FINDING_COLOUR
        )
        figure.update_layout(barmode="relative")
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row for each instance, those forgotten most often first."""
        order = np.lexsort((self.annotation_ids, -self.forgotten))
        return rows(
            image_id=self.image_ids[order],
            annotation_id=self.annotation_ids[order],
            first_right=self.first_right[order],
            forgotten=self.forgotten[order],
            right_last=self.right_last[order],
        )

    def to_json(self) -> dict[str, Any]:
        """summary, right, never, events by epoch, and the instances that are forgotten."""
        instances = [row for row in self.table() if row["forgotten"]]
        return plain(
            {
                "summary": self.summary(), "right": self.right, "never": self.never,
                "events": self.events(), "instances": instances,
            }
        )  # fmt: skip


def forgetting(history: History, right: float = FOUND) -> Forgetting:
    """When each instance of a folder of epochs is right.

    Args:
        history: of `workbench.evaluation.query_epochs`.
        right: OKS from which a pose is right, above 0 and up to 1.

    Raises:
        ValueError: `right` is out of range, or no pose belongs to an annotation.

    Example:
        >>> import numpy as np
        >>> report = Forgetting(
        ...     np.array([1, 2, 3]), np.array([7]), np.array([1]), np.array([[0.2], [0.9], [0.4]])
        ... )
        >>> report.first_right.tolist(), report.forgotten.tolist()
        ([2.0], [1])
    """
    check_threshold(right)
    annotation_ids, image_ids, oks = oks_over_epochs(history)
    return Forgetting(np.array(list(history.files)), annotation_ids, image_ids, oks, right)


def check_threshold(right: float) -> None:
    """Raise ValueError unless `right` is an OKS that a pose can reach and miss."""
    if not 0 < right <= 1:
        raise ValueError(f"OKS from which a pose is right: expected above 0 and up to 1, got {right:g}")


def oks_over_epochs(
    history: History,
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"], Float[np.ndarray, "E N"]]:
    """Annotation ids, rising, their image ids, and the OKS of each in each epoch; nan where there is none.

    Raises:
        ValueError: the files cannot be read, or no pose in them belongs to an annotation.
    """
    columns, folder = history.instances(), history.folder.name
    if not len(columns["epoch"]):
        raise ValueError(
            f"{folder}: no pose in these files belongs to an annotation, so no instance can be followed; "
            "predict from annotated boxes (workbench history RUN --data … --out …)"
        )
    ids, first, place = np.unique(columns["annotation_id"], return_index=True, return_inverse=True)
    oks = np.full((len(history.files), len(ids)), np.nan)
    epoch = np.searchsorted(np.array(list(history.files)), columns["epoch"])
    oks[epoch, place.reshape(-1)] = columns["oks"]
    return ids.astype(np.int64), columns["image_id"][first].astype(np.int64), oks


# A folder of epochs as a report: AP over the epochs, and the instances behind two of them.


@dataclass(frozen=True, eq=False)
class HistoryReport(Report):
    """All epochs of a folder; lists of instances are cut, `counts` are not.

    Attributes:
        title: of the folder.
        epochs: as `History.epochs`; with ``rules``, the number of its rules, where epochs differ in them.
        a: the earlier of two epochs that are compared.
        b: the later.
        worst: instances of b with the lowest OKS.
        gained: found in b and not in a; the largest change first.
        lost: found in a and not in b; the largest change first.
        regressions: keypoints whose part of the OKS fell most.
        counts: of gained and lost instances.
        image_id: one image, followed over the epochs; None for none.
        instances: of that image: OKS by epoch, by annotation id.
        not_compared: why a and b are not compared; "" where they are.
    """

    title: str
    epochs: list[dict[str, Any]]
    a: int
    b: int
    worst: list[dict[str, Any]]
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    regressions: list[dict[str, Any]]
    counts: dict[str, int]
    image_id: int | None = None
    instances: dict[int, list[dict[str, Any]]] | None = None
    not_compared: str = ""

    @property
    def figure(self) -> str:
        """What the curve shows: AP, or the mean OKS where AP is not known."""
        return "AP" if any(row.get("AP") is not None for row in self.epochs) else "oks"

    def summary(self) -> str:
        name = "AP" if self.figure == "AP" else "mean OKS"
        known = [row for row in self.epochs if row.get(self.figure) is not None]
        if not known:
            return (
                f"{self.title}: {counted(len(self.epochs), 'epoch')}, and none is compared with annotations."
            )
        best, last = max(known, key=lambda row: row[self.figure]), known[-1]
        text = (
            f"{counted(len(self.epochs), 'epoch')}: {name} is highest at epoch {best['epoch']}, "
            f"{best[self.figure]:.3f}"
        )
        if best is not last:
            text += f"; the last, epoch {last['epoch']}, has {last[self.figure]:.3f}"
        if self.not_compared:
            return f"{text}. {self.not_compared}"
        change = f"{self.counts['gained']} gained, {self.counts['lost']} lost"
        return f"{text}. Instances from epoch {self.a} to {self.b}: {change}."

    def plot(self) -> Figure:
        """The curve; the two epochs; the instances of the chosen image."""
        from workbench.figures import QUIET_COLOUR, RUN_COLOURS, new_figure

        name = "AP" if self.figure == "AP" else "mean OKS"
        figure = new_figure(self.summary(), x="epoch", y=f"{name} (0 to 1)")
        numbers = np.array([row["epoch"] for row in self.epochs], np.float32)
        for number, own in enumerate((self.instances or {}).items()):
            annotation_id, rows = own
            figure.add_scatter(
                x=np.array([row["epoch"] for row in rows], np.float32),
                y=np.array([row["oks"] for row in rows], np.float32),
                mode="lines", line={"width": 1, "color": QUIET_COLOUR}, showlegend=number == 0,
                name=f"OKS of the instances of image {self.image_id}",
                hovertemplate=f"{annotation_id}, epoch %{{x:.0f}}: OKS %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
        values = np.array(
            [np.nan if row.get(self.figure) is None else row[self.figure] for row in self.epochs], np.float32
        )
        figure.add_scatter(
            x=numbers, y=values, mode="lines+markers", name=name, line={"color": RUN_COLOURS[0]},
            hovertemplate=f"epoch %{{x:.0f}}: {name} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        for letter, epoch in (("A", self.a), ("B", self.b)):
            line = {"dash": "dot", "width": 1.5, "color": QUIET_COLOUR}
            figure.add_vline(x=epoch, line=line, annotation_text=letter)
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row for each epoch."""
        return [plain(row) for row in self.epochs]


def history_report(
    history: History,
    a: int | None = None,
    b: int | None = None,
    image_id: int | None = None,
    count: int = 50,
    title: str = "",
) -> HistoryReport:
    """The report of a folder.

    Args:
        history: of `workbench.evaluation.query_epochs`.
        a: an epoch; the first by default.
        b: another; the last by default.
        image_id: an image to be followed.
        count: rows of a list at most.
        title: of the folder; its name by default.

    Raises:
        KeyError: there is no such epoch.
        ValueError: a file cannot be read.
    """
    known = list(history.files)
    a, b = known[0] if a is None else a, known[-1] if b is None else b
    epochs, differences = history.epochs(), history.differences
    if differences:
        epochs = [{**row, "rules": history.rules[row["epoch"]]} for row in epochs]
    not_compared = ""
    try:
        history.check_comparable([a, b])
    except ValueError as reason:
        not_compared = str(reason).partition(": ")[2].partition(";")[0] + "."
    gained = lost = regressions = []
    if not not_compared:
        gained, lost = history.gained(a, b), history.lost(a, b)
        same = history.keypoint_counts[a] == history.keypoint_counts[b]
        regressions = history.regressions(a, b, count) if same else []
    instances = None
    if image_id is not None:
        own = [row for row in history.worst(b, 1_000_000) if row["image_id"] == image_id]
        instances = {row["annotation_id"]: history.of(row["annotation_id"]) for row in own}
    return HistoryReport(
        title or history.folder.name, epochs, a, b, history.worst(b, count), gained[:count], lost[:count],
        regressions, {"gained": len(gained), "lost": len(lost)}, image_id, instances, not_compared,
    )  # fmt: skip
