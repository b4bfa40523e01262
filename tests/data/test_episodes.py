"""Episodes: a support and a query of one category, from two images."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from workbench.data import builtin
from workbench.data.coco import episodes, read_episodes


def mp100_like(folder, images_per_category):
    """Two categories with keypoints of their own; the second names none, as MP-100's faces."""
    (folder / "images").mkdir()
    raw = {"images": [], "annotations": [], "categories": [
        {"id": 1, "name": "chair", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2]]},
        {"id": 2, "name": "face", "keypoints": [], "skeleton": []},
    ]}  # fmt: skip
    for category, K in ((1, 3), (2, 68)):
        for _ in range(images_per_category):
            number = len(raw["images"]) + 1
            cv2.imwrite(str(folder / f"images/{number}.png"), np.zeros((40, 40, 3), np.uint8))
            raw["images"].append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 40})
            raw["annotations"].append({
                "id": number, "image_id": number, "category_id": category, "bbox": [2, 2, 30, 30],
                "num_keypoints": K, "keypoints": [10.0, 12.0, 2] * K,
            })  # fmt: skip
    path = folder / "mp100.json"
    path.write_text(json.dumps(raw))
    return path


def test_support_and_query_share_a_category_and_no_image():
    drawn = episodes(builtin("scenes-val"), 6, shots=2)
    for episode in drawn:
        images = [s.image_id for s in (episode.query, *episode.support)]
        assert len(set(images)) == 3
        assert len({s.category_id for s in (episode.query, *episode.support)}) == 1
    assert [e.query.key for e in episodes(builtin("scenes-val"), 6, shots=2)] == [e.query.key for e in drawn]


def test_categories_of_one_file_may_have_keypoints_of_their_own(tmp_path):
    found = read_episodes(mp100_like(tmp_path, 2), 2, tmp_path / "images")
    assert [len(e.skeleton) for e in found] == [3, 68]
    assert [e.category for e in found] == ["chair", "face"]


def test_no_second_image_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="2 different images"):
        read_episodes(mp100_like(tmp_path, 1), 2, tmp_path / "images")
    with pytest.raises(ValueError, match="2 different images"):
        episodes(builtin("astronaut"), 1)
    with pytest.raises(KeyError, match="no category"):
        episodes(builtin("astronaut"), 1, category="teapot")
