"""What a tensor of a model is made of: tensors of a file, as they are, joined, cut or resampled.

Values carry over exactly, or by the arithmetic that the other code base does in its forward pass. The one
exception are positions of another number of patches, which are resampled only where that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.checkpoints.tensors import TensorInfo, read_tensor
from workbench.checkpoints.vit_names import grid_of_positions, resampled

if TYPE_CHECKING:
    from torch import Tensor


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """What a tensor of the model would be made of.

    Attributes:
        sources: tensors of the file.
        how: ``copy``; ``stack`` concatenates the sources along the first axis; ``rows`` takes a third of the
            rows of the one source; ``join class token`` turns positions (1, 1 + n, C) into (1, n, C) by
            adding the first to all others; ``no class token`` turns (1, n, C) into (1, 1 + n, C) with a first
            of zeros.
        shape: of the result.
        part: which third, of ``rows``.
        grids: (h, w) of the patches that positions have and shall have, where they are resampled besides.
    """

    sources: tuple[TensorInfo, ...]
    how: Literal["copy", "stack", "rows", "join class token", "no class token"]
    shape: Shape
    part: int = 0
    grids: tuple[tuple[int, int], tuple[int, int]] | None = None

    def read(self) -> Tensor:
        """The values in the shape `shape`, read now."""
        import torch

        parts = [read_tensor(info) for info in self.sources]
        if self.grids is not None:
            joined = parts[0][:, 1:] + parts[0][:, :1] if self.how == "join class token" else parts[0]
            return resampled(joined, *self.grids)
        if self.how == "stack":
            return torch.cat(parts)
        if self.how == "rows":
            return parts[0].chunk(3)[self.part]
        if self.how == "join class token":
            # ViTPose 0.x adds both in its forward pass: x + pos_embed[:, 1:] + pos_embed[:, :1].
            return parts[0][:, 1:] + parts[0][:, :1]
        if self.how == "no class token":
            return torch.cat([torch.zeros_like(parts[0][:, :1]), parts[0]], dim=1)
        return parts[0]


Pieces = dict[str, Piece]


def pieces_of(infos: Mapping[str, TensorInfo]) -> Pieces:
    """One piece per tensor of the file, under its own name."""
    return {name: Piece((info,), "copy", info.shape) for name, info in infos.items()}


def fitting(pieces: Mapping[str, Piece], model: Mapping[str, Shape]) -> int:
    """Number of tensors of the model that have a piece of their name and shape.

    Args:
        pieces: by name.
        model: names and shapes of the model's tensors.
    """
    return sum(name in pieces and pieces[name].shape == shape for name, shape in model.items())


class Collision(ValueError):  # noqa: N818 - reads as a claim
    """Two tensors of the file would get one name."""


def moved(pieces: Pieces, rename: Callable[[str], str]) -> Pieces:
    """Pieces under new names.

    Args:
        pieces: by name.
        rename: from the old name to the new one.

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
    """Pieces with query, key and value joined into the one projection that another convention has.

    Args:
        pieces: by name.
        stacks: part of the joined name -> parts of the names of its sources, in order.
    """
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
    """Pieces with position embeddings as the model has them, with or without that of a class token.

    Args:
        pieces: by name.
        model: names and shapes of the model's tensors.
    """
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


def regridded(pieces: Pieces, model: Mapping[str, Shape], grids: Mapping[str, tuple[int, int]]) -> Pieces:
    """Pieces with position embeddings resampled for the model's number of patches.

    Args:
        pieces: by name.
        model: names and shapes of the model's tensors.
        grids: name of a position embedding -> (h, w) of the model's patches.
    """
    found = dict(pieces)
    for name, grid in grids.items():
        piece, want = pieces.get(name), model.get(name)
        if piece is None or want is None or piece.shape == want or len(piece.shape) != 3:
            continue
        # A class token's row is folded into the others first, as it is where the sizes agree.
        for how, count in ((piece.how, piece.shape[1]), ("join class token", piece.shape[1] - 1)):
            before = grid_of_positions(count)
            if before is not None and want == (1, grid[0] * grid[1], piece.shape[2]):
                found[name] = replace(piece, how=how, shape=want, grids=(before, grid))
                break
    return found
