"""The reference protocol told again, slowly and word for word: torch, munkres, dictionaries.

It knows nothing of workbench.decoding.grouping. Source: HRNet/HigherHRNet-Human-Pose-Estimation,
lib/core/group.py.
"""

from __future__ import annotations

import numpy as np
import torch
from munkres import Munkres

ORDER = [number - 1 for number in (1, 2, 3, 4, 5, 6, 7, 12, 13, 8, 9, 10, 11, 14, 15, 16, 17)]


def grouped(
    heatmaps,
    tags,
    adjust=True,
    refine=True,
    order=ORDER,
    kernel=5,
    top_k=30,
    threshold=0.1,
    near=1.0,
    use_value=True,
    max_people=30,
    ignore_too_much=False,
    dealt_only=False,
):
    """People [P, K, 3 + L] and their scores [P]; missing keypoints are zeros. tags [K, H, W, L]."""
    heat = torch.from_numpy(heatmaps)[None]
    _, K, H, W = heat.shape
    pooled = torch.nn.functional.max_pool2d(heat, kernel, 1, kernel // 2)
    values, places = (heat * (pooled == heat).float()).view(1, K, -1).topk(top_k, dim=2)
    flat = torch.from_numpy(tags).reshape(K, H * W, -1)
    read = torch.stack([flat[k][places[0, k]] for k in range(K)]).numpy()
    where = torch.stack([places % W, places // W], 3)[0].numpy()
    people = dealt(
        read, where, values[0].numpy(), order, threshold, near, use_value, max_people, ignore_too_much
    )
    if dealt_only:
        return people, None
    if adjust:
        people = moved(people, heatmaps)
    scores = [person[:, 2].mean() for person in people]
    if refine:
        for person in people:
            complete(person, heatmaps, tags)
    return people, scores


def dealt(read, where, values, order, threshold, near, use_value, max_people, ignore_too_much):
    K, _, L = read.shape
    joints_of, tags_of = {}, {}
    for turn, k in enumerate(order):
        rows = np.concatenate([where[k], values[k][:, None], read[k]], 1)
        above = rows[:, 2] > threshold
        rows, tags = rows[above], read[k][above]
        if len(rows) == 0:
            continue
        if turn == 0 or len(joints_of) == 0:
            for row, tag in zip(rows, tags, strict=True):
                joints_of.setdefault(tag[0], np.zeros((K, 3 + L)))[k] = row
                tags_of[tag[0]] = [tag]
            continue
        keys = list(joints_of)[:max_people]
        if ignore_too_much and len(keys) == max_people:
            continue
        centres = np.array([np.mean(tags_of[key], axis=0) for key in keys])
        distance = np.linalg.norm(rows[:, None, 3:] - centres[None], ord=2, axis=2)
        cost = np.round(distance) * 100 - rows[:, 2:3] if use_value else distance.copy()
        if len(rows) > len(keys):
            cost = np.concatenate([cost, np.zeros((len(rows), len(rows) - len(keys))) + 1e10], axis=1)
        for r, c in Munkres().compute(cost.tolist()):
            if c < len(keys) and distance[r, c] < near:
                joints_of[keys[c]][k] = rows[r]
                tags_of[keys[c]].append(tags[r])
            else:
                joints_of.setdefault(tags[r][0], np.zeros((K, 3 + L)))[k] = rows[r]
                tags_of[tags[r][0]] = [tags[r]]
    return np.array(list(joints_of.values())).astype(np.float32).reshape(-1, K, 3 + L)


def moved(people, heatmaps):
    people = people.copy()
    for person in people:
        for k, joint in enumerate(person):
            if joint[2] > 0:
                x, y = int(joint[0]), int(joint[1])
                joint[0:2] = np.array(quarters(heatmaps[k], x, y), np.float32) + joint[0:2] + np.float32(0.5)
    return people


def quarters(heat, x, y):
    H, W = heat.shape
    right = heat[y, min(x + 1, W - 1)] > heat[y, max(x - 1, 0)]
    below = heat[min(y + 1, H - 1), x] > heat[max(y - 1, 0), x]
    return (0.25 if right else -0.25), (0.25 if below else -0.25)


def complete(person, heatmaps, tags):
    """Fill the missing keypoints of one person, in place."""
    own = []
    for k, joint in enumerate(person):
        if joint[2] > 0:
            x, y = joint[:2].astype(np.int32)
            own.append(tags[k, y, x])
    own = np.mean(own, axis=0)
    for k, joint in enumerate(person):
        if joint[2] != 0:
            continue
        distance = ((tags[k] - own[None, None, :]) ** 2).sum(axis=2) ** 0.5
        y, x = np.unravel_index(np.argmax(heatmaps[k] - np.round(distance)), heatmaps[k].shape)
        value = heatmaps[k][y, x]
        if value > 0:
            dx, dy = quarters(heatmaps[k], x, y)
            joint[:3] = x + 0.5 + dx, y + 0.5 + dy, value
