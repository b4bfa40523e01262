"""Faces. Their points have numbers for names, and nobody has published OKS constants: PCK, NME and AUC."""

from __future__ import annotations

from workbench.core import Skeleton


def _face(name: str, mirror: tuple[int, ...], source: str) -> Skeleton:
    return Skeleton(name, tuple(f"kpt-{i}" for i in range(len(mirror))), mirror=mirror, source=source)


FACE_68 = _face(
    "300w-68",
    (
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
        39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ),
    "300W (Sagonas et al. 2013); mirror of mmpose 1.3.2 configs/_base_/datasets/300w.py",
)  # fmt: skip

WFLW_98 = _face(
    "wflw-98",
    (
        *range(32, -1, -1), *range(46, 41, -1), *range(50, 46, -1), *range(37, 32, -1), *range(41, 37, -1),
        *range(51, 55), *range(59, 54, -1), *range(72, 67, -1), 75, 74, 73, *range(64, 59, -1), 67, 66, 65,
        *range(82, 75, -1), *range(87, 82, -1), *range(92, 87, -1), 95, 94, 93, 97, 96,
    ),
    "WFLW (Wu et al. 2018); mirror of mmpose 1.3.2 configs/_base_/datasets/wflw.py",
)  # fmt: skip
