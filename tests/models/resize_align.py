"""The published way from an image to the input and back, said again step by step to compare with.

It knows nothing of workbench. Source: HigherHRNet-Human-Pose-Estimation, lib/utils/transforms.py.
"""

from __future__ import annotations

import cv2
import numpy as np


def sizes(shape, input_size, now, least):
    """(width, height) of the input, the centre, and the box's size in units of 200 pixels."""
    h, w = shape[:2]
    centre = np.array([int(w / 2.0 + 0.5), int(h / 2.0 + 0.5)])
    short = int((least * input_size + 63) // 64 * 64)
    if w < h:
        width = int(short * now / least)
        height = int(int((short / w * h + 63) // 64 * 64) * now / least)
        return (width, height), centre, np.array([w / 200.0, height / width * w / 200.0])
    height = int(short * now / least)
    width = int(int((short / h * w + 63) // 64 * 64) * now / least)
    return (width, height), centre, np.array([width / height * h / 200.0, h / 200.0])


def affine(centre, scale, size, inverse=False):
    """The matrix through three points: the centre, one straight above it, and one beside that."""
    box = scale * 200.0
    here, there = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    here[0], there[0] = centre, [size[0] * 0.5, size[1] * 0.5]
    here[1] = centre + np.array([0, box[0] * -0.5])
    there[1] = np.array([size[0] * 0.5, size[1] * 0.5]) + np.array([0, size[0] * -0.5], np.float32)
    for points in (here, there):
        turned = points[0] - points[1]
        points[2] = points[1] + np.array([-turned[1], turned[0]], np.float32)
    return cv2.getAffineTransform(there, here) if inverse else cv2.getAffineTransform(here, there)


def resized(image, input_size, now=1.0, least=1.0):
    """The input, and the matrix from its pixels to the image's."""
    size, centre, scale = sizes(image.shape, input_size, now, least)
    return cv2.warpAffine(image, affine(centre, scale, size), size), affine(centre, scale, size, True)
