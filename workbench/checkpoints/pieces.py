"""What would the tensors of a model be made of? Names of a file, moved, and how their values carry over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.checkpoints.tensors import TensorInfo, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """What a tensor of the model would be made of.

    Attributes:
        sources: tensors of the file.
        how: ``copy``; ``stack`` lays the sources on top of each other along the first axis;
            ``join class token`` turns positions (1, 1 + n, C) into (1, n, C) by adding the first to all
            others; ``no class token`` turns (1, n, C) into (1, 1 + n, C) with a first of zeros.
        shape: of the result.
    """

    sources: tuple[TensorInfo, ...]
    how: Literal["copy", "stack", "join class token", "no class token"]
    shape: Shape

    def read(self) -> Tensor:
        """The values, read now."""
        import torch

        parts = [read_tensor(info) for info in self.sources]
        if self.how == "stack":
            return torch.cat(parts)
        if self.how == "join class token":
            # ViTPose 0.x adds both in its forward pass: x + pos_embed[:, 1:] + pos_embed[:, :1].
            return parts[0][:, 1:] + parts[0][:, :1]
        if self.how == "no class token":
            return torch.cat([torch.zeros_like(parts[0][:, :1]), parts[0]], dim=1)
        return parts[0]


Pieces = dict[str, Piece]
Change = Callable[[Pieces], Pieces]


def pieces_of(infos: Mapping[str, TensorInfo]) -> Pieces:
    """The file as it is."""
    return {name: Piece((info,), "copy", info.shape) for name, info in infos.items()}


def fitting(pieces: Mapping[str, Piece], model: Mapping[str, Shape]) -> int:
    """How many tensors of the model have a piece of their name and shape."""
    return sum(name in pieces and pieces[name].shape == shape for name, shape in model.items())


class Collision(ValueError):  # noqa: N818 - reads as a claim
    """Two tensors of the file would get one name."""


def moved(pieces: Pieces, rename: Callable[[str], str]) -> Pieces:
    """Pieces under new names.

    Raises:
        Collision: two would get one name.
    """
    found: dict[str, tuple[str, Piece]] = {}
    for name, piece in pieces.items():
        new = rename(name)
        if new in found:
            raise Collision(f"{found[new][0]!r} and {name!r} would both become {new!r}")
        found[new] = name, piece
    return {new: piece for new, (_, piece) in found.items()}


def stacked(pieces: Pieces, stacks: Mapping[str, tuple[str, ...]]) -> Pieces:
    """Join query, key and value into the one projection that the other convention has."""
    found = dict(pieces)
    for whole, parts in stacks.items():
        for name in [n for n in pieces if parts[0] in n]:
            names = [name.replace(parts[0], part) for part in parts]
            if not all(n in pieces for n in names):
                continue
            shapes = {pieces[n].shape for n in names}
            target = name.replace(parts[0], whole)
            if len(shapes) == 1 and target not in found:
                shape = next(iter(shapes))
                sources = tuple(info for n in names for info in pieces[n].sources)
                for n in names:
                    del found[n]
                found[target] = Piece(sources, "stack", (shape[0] * len(names), *shape[1:]))
    return found


def positions(pieces: Pieces, model: Mapping[str, Shape]) -> Pieces:
    """Positions of patches with or without that of a class token, as the model wants them."""
    found = dict(pieces)
    for name, want in model.items():
        piece = found.get(name)
        if not name.endswith("pos_embed") or piece is None or piece.how != "copy":
            continue
        have = piece.shape
        if len(have) == len(want) == 3 and have[0] == want[0] == 1 and have[2] == want[2]:
            if have[1] == want[1] + 1:
                found[name] = replace(piece, how="join class token", shape=want)
            elif have[1] + 1 == want[1]:
                found[name] = replace(piece, how="no class token", shape=want)
    return found
