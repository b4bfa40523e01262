"""How are several people of one image told apart? One colour and one number each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Scatter

    from workbench.core import Skeleton

# Neighbours differ in hue and in lightness; all read on white and on near black. The number says it again.
PERSON_COLOURS: tuple[str, ...] = (
    "#3d8fdc", "#d9772b", "#12a594", "#a15fc9", "#b8960c", "#e5484d", "#5ab0c9", "#7f8f2a", "#c95d9a",
    "#8d7bea",
)  # fmt: skip


def person_colour(person: int) -> str:
    """The colour of person `person`, counted from 0; colours repeat after ten, numbers do not."""
    return PERSON_COLOURS[person % len(PERSON_COLOURS)]


# A number's room in a picture of some 450 screen pixels' height: two digits of 15 px.
_NUMBER = (0.062, 0.045)
# Where a number is tried, in sizes of its room, from above the highest keypoint on.
_TRIED = tuple(
    (across, down)
    for ring in range(6)
    for across, down in ((0, -ring), (-ring, 0), (ring, 0), (-ring, -ring), (ring, -ring), (0, ring))
)


def number_places(
    people: Sequence[Float[np.ndarray, "K 2"]], image: tuple[int, int]
) -> list[tuple[float, float]]:
    """Centres of the people's numbers, so that no two lie on each other, nor on a keypoint if possible.

    Each stands above its person's highest keypoint; where another's number is, beside it, and further away.

    Args:
        people: keypoints, (x, y) in image pixels; everybody has one at least.
        image: (height, width) of the picture.
    """
    room = np.array([_NUMBER[0] * image[0], _NUMBER[1] * image[0]])
    every = np.concatenate([np.zeros((0, 2)), *people])
    taken: list[np.ndarray] = []
    for points in people:
        top = points[int(np.where(np.isfinite(points[:, 0]), points[:, 1], np.inf).argmin())]
        first = top - (0, 0.8 * room[1])
        tried = [
            np.clip(first + np.array(step) * room, room / 2, np.array(image[::-1]) - room / 2)
            for step in _TRIED
        ]
        free = [at for at in tried if all((np.abs(at - other) >= 0.99 * room).any() for other in taken)]
        clear = [at for at in free if not (np.abs(every - at) < 0.5 * room).all(-1).any()]
        taken.append((clear or free or tried)[0])
    return [(float(x), float(y)) for x, y in taken]


def draw_person(
    keypoints: Float[np.ndarray, "K 2"],
    skeleton: Skeleton,
    person: int,
    *,
    name: str = "",
    notes: tuple[str, ...] = (),
    hollow: Float[np.ndarray, " K"] | None = None,
    size: float = 8,
    number_at: tuple[float, float] | None = None,
) -> list[Scatter]:
    """Traces of one person in one colour: limbs, keypoints with hover text, the number at the highest one.

    Args:
        keypoints: (x, y) in the figure's axis units; nan is not drawn.
        skeleton: names and limbs.
        person: counted from 0; decides the colour.
        name: in the legend; ``person 1`` ... by default.
        notes: a further hover line per keypoint.
        hollow: true where a keypoint is drawn as a ring; limbs to it are dashed.
        size: of markers, screen pixels.
        number_at: centre of the number; above the highest keypoint by default.
    """
    import plotly.graph_objects as go

    points = np.asarray(keypoints, np.float32)
    ink, name = person_colour(person), name or f"person {person + 1}"
    there = np.isfinite(points[:, 0])
    gap = np.full((1, 2), np.nan, np.float32)
    rings = np.zeros(len(points), bool) if hollow is None else np.asarray(hollow, bool)
    seen, given = (
        [
            np.concatenate([points[[a, b]], gap])
            for a, b in skeleton.limbs
            if there[a] and there[b] and bool(rings[a] or rings[b]) == dashed
        ]
        for dashed in (False, True)
    )
    marker: dict[str, Any] = {
        "size": size,
        "color": ink,
        "symbol": ["circle-open" if ring else "circle" for ring in rings],
        "line": {"width": 1.5, "color": ["rgba(20,22,28,.8)" if not ring else ink for ring in rings]},
    }
    text = [f"<b>{k}</b>{f'<br>{notes[i]}' if notes else ''}" for i, k in enumerate(skeleton.keypoints)]
    hover = "%{text}<br>x %{x:.1f}, y %{y:.1f}<extra>" + name + "</extra>"
    group = {"legendgroup": name}
    line = np.concatenate(seen) if seen else np.zeros((0, 2), np.float32)
    traces = [
        go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line={"color": ink, "width": 2.5}, **group,
                   hoverinfo="skip", showlegend=False, name=f"{name}, limbs"),
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers", marker=marker, text=text, name=name,
                   hovertemplate=hover, **group),
    ]  # fmt: skip
    if given:
        line = np.concatenate(given)
        traces.append(
            go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", **group, hoverinfo="skip", showlegend=False,
                       line={"color": ink, "width": 1.5, "dash": "dot"}, name=f"{name}, limbs filled in")
        )  # fmt: skip
    if number_at is not None:
        across, down = (np.array([value], np.float32) for value in number_at)
        traces.append(
            go.Scatter(x=across, y=down, mode="text", text=[f"<b>{person + 1}</b>"], hoverinfo="skip",
                       name=f"{name}, number",
                       textposition="middle center", showlegend=False, textfont={"color": ink, "size": 15},
                       **group)
        )  # fmt: skip
    elif there.any():
        top = points[int(np.where(there, points[:, 1], np.inf).argmin())]
        traces.append(
            go.Scatter(x=top[:1], y=top[1:], mode="text", text=[f"<b>{person + 1}</b>"], hoverinfo="skip",
                       name=f"{name}, number", textposition="top center", showlegend=False,
                       textfont={"color": ink, "size": 15}, **group)
        )  # fmt: skip
    return traces
