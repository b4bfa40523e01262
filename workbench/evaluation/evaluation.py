"""What is shown of an evaluation: figures with their protocol, worst keypoint first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.report import Report, plain
from workbench.evaluation.evaluate import RULE
from workbench.evaluation.keypoint_ap import KeypointAP
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class Evaluation(Report):
    """One model, or one result file, on one data set.

    Attributes:
        ap: the ten figures and the matches behind them.
        protocol: the rules, all of them.
        per_keypoint: see workbench.evaluation.pck.
        pairing: which poses the rows of per_keypoint compare.
        pck: what counts as right there.
        oks: of every annotated instance, in the order of ap.truth; nan where nothing is labelled.
        skeleton: of the data set.
        crowding: AP of easy, medium and hard images where they state a crowd index (CrowdPose); else None.
    """

    ap: KeypointAP
    protocol: Protocol
    per_keypoint: tuple[dict[str, Any], ...]
    pairing: str
    pck: str
    oks: Float[np.ndarray, " G"]
    skeleton: Skeleton
    crowding: Mapping[str, float] | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The ten figures; nan where there is no such ground truth."""
        return self.ap.figures

    @property
    def per_category(self) -> list[dict[str, Any]]:
        """The ten figures of each category that has instances, the lowest AP first."""
        names = dict(zip(self.ap.truth.category_ids.tolist(), self.ap.truth.category_names, strict=True))
        rows = [{"category": names[c], "id": c, **f} for c, f in self.ap.per_category.items()]
        return sorted(rows, key=lambda row: row["AP"])

    def summary(self) -> str:
        figures = self.figures
        if math.isnan(figures["AP"]):
            return (
                f"No AP: {self.protocol.data} has no instance that counts. Protocol: {self.protocol.text()}."
            )
        if not len(self.ap.detections):
            return f"AP 0: there is not one pose to score. Protocol: {self.protocol.text()}."
        worst = min((r for r in self.per_keypoint if r["labelled"]), key=lambda row: row["oks"], default=None)
        weakest = f"; weakest keypoint {worst['keypoint']} (OKS {worst['oks']:.3f})" if worst else ""
        categories = len(self.ap.per_category)
        mean = f", mean over {categories} categories" if categories > 1 else ""
        warning = (
            "Not a result of the published model, it is only partly loaded: "
            if self.protocol.partly_loaded
            else ""
        )
        return (
            f"{warning}AP {figures['AP']:.3f}, AR {figures['AR']:.3f}{mean}{weakest}. "
            f"Protocol: {self.protocol.text()}."
        )

    def plot(self) -> Figure:
        """Mean OKS of every keypoint, the weakest at the top."""
        import plotly.graph_objects as go

        from workbench.figures import keypoint_colours, new_figure

        rows = sorted((r for r in self.per_keypoint if r["labelled"]), key=lambda r: -r["oks"])
        colours = dict(zip(self.skeleton.keypoints, keypoint_colours(self.skeleton), strict=True))
        title = f"AP {said(self.figures['AP'])}, AR {said(self.figures['AR'])}: {self.protocol.text()}"
        figure = new_figure(title, x="mean OKS (0 to 1)", height=140 + 22 * max(len(rows), 4))
        figure.add_trace(
            go.Bar(
                x=np.array([r["oks"] for r in rows], np.float32),
                y=[r["keypoint"] for r in rows],
                orientation="h",
                marker={"color": [colours[r["keypoint"]] for r in rows]},
                customdata=np.array(
                    [[r["pck"], r["error_px"], r["labelled"]] for r in rows], np.float32
                ).reshape(-1, 3),
                hovertemplate=(
                    "%{y}: OKS %{x:.3f}<br>" + self.pck + " %{customdata[0]:.1%}<br>"
                    "median error %{customdata[1]:.1f} px<br>labelled %{customdata[2]:.0f}<extra></extra>"
                ),
                showlegend=False,
            )
        )
        figure.update_xaxes(range=[0, 1])
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row for each keypoint."""
        return [plain(row) for row in self.per_keypoint]

    def to_json(self) -> dict[str, Any]:
        """The figures under COCO's names, null where there is no such ground truth, and all tables."""
        return {
            "summary": self.summary(),
            **plain(self.figures),
            "per_keypoint": self.table(),
            "per_category": plain(self.per_category),
            **({"crowding": plain(self.crowding)} if self.crowding else {}),
            "pairing": self.pairing,
            "pck": self.pck,
            "instances": self.instances(),
            "protocol": self.protocol.to_json(),
        }

    def instances(self) -> list[dict[str, Any]]:
        """One row for each labelled instance, the worst first."""
        truth = self.ap.truth
        shown = np.flatnonzero(np.isfinite(self.oks) & ~truth.ignored)
        return [
            {
                "annotation_id": int(truth.ids[i]),
                "image_id": int(truth.image_ids[truth.image[i]]),
                "oks": float(self.oks[i]),
            }
            for i in shown[np.argsort(self.oks[shown], kind="stable")]
        ]

    def text(self) -> str:
        """For the command line: figures, keypoints, protocol."""
        lines = [self.summary(), ""]
        lines.append("  ".join(f"{name} {said(value)}" for name, value in self.figures.items()))
        if any(math.isnan(v) for v in self.figures.values()):
            lines.append("-: no such ground truth")
        if self.crowding:
            told = "  ".join(f"{name} {said(value)}" for name, value in self.crowding.items())
            lines.append(f"{told}   ({RULE})")
        lines += ["", f"{'keypoint':<20} labelled    OKS    PCK  error px   ({self.pairing}; {self.pck})"]
        for row in self.per_keypoint:
            error = "-" if math.isnan(row["error_px"]) else f"{row['error_px']:.1f}"
            oks, pck = said(row["oks"]), said(row["pck"])
            lines.append(f"{row['keypoint']:<20} {row['labelled']:8d}  {oks}  {pck}  {error:>8}")
        categories = self.per_category
        if len(categories) > 1:
            lines += ["", f"{'category':<20}      AP      AR"]
            lines += [f"{r['category']:<20}   {said(r['AP'])}   {said(r['AR'])}" for r in categories]
        return "\n".join(lines)


def said(value: float) -> str:
    """A figure with three digits; a dash where there is none."""
    return "    -" if math.isnan(value) else f"{value:.3f}"
