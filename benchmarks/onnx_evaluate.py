"""What does `workbench evaluate model.onnx` cost beside a bare script of onnxruntime and pycocotools?

Whole processes, imports included: 68 people in drawn scenes, a network of RTMPose-t's size with fresh
weights, crops in batches of 16 for both, one thread. Both write down the same ten figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.row import Row

PEOPLE = 68
RUNS = 5
TARGET = 1.3

PEER = """
import json, sys
import cv2, numpy as np, onnxruntime
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

model, annotations, images = sys.argv[1:]
H, W = 256, 192
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
mean = np.array([123.675, 116.28, 103.53], np.float32)
std = np.array([58.395, 57.12, 57.375], np.float32)
coco = COCO(annotations)
people = [a for a in coco.loadAnns(coco.getAnnIds()) if a["num_keypoints"] and not a["iscrowd"]]
found = []
for start in range(0, len(people), 16):
    part, crops, maps = people[start : start + 16], [], []
    for one in part:
        image = cv2.imread(f"{images}/{coco.imgs[one['image_id']]['file_name']}")[..., ::-1]
        x, y, w, h = one["bbox"]
        centre = np.array([x + w / 2, y + h / 2])
        w, h = np.array([max(w, h * W / H), max(h, w * H / W)]) * 1.25
        scale = W / w
        affine = np.array([[scale, 0, W / 2 - scale * centre[0]], [0, scale, H / 2 - scale * centre[1]]])
        crop = cv2.warpAffine(np.ascontiguousarray(image), affine, (W, H), flags=cv2.INTER_LINEAR)
        crops.append((crop.astype(np.float32) - mean) / std)
        maps.append((scale, centre))
    x, y = session.run(None, {"pixels": np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))})
    for one, u, v, (scale, centre) in zip(part, x, y, maps):
        points = (np.stack([u.argmax(-1), v.argmax(-1)], -1) / 2 - [W / 2, H / 2]) / scale + centre
        scores = np.minimum(u.max(-1), v.max(-1))
        found.append({
            "image_id": one["image_id"], "category_id": one["category_id"], "score": float(scores.mean()),
            "keypoints": np.concatenate([points, scores[:, None]], 1).ravel().tolist(),
        })
judged = COCOeval(coco, coco.loadRes(found), "keypoints")
judged.evaluate(); judged.accumulate(); judged.summarize()
"""


def write(folder: Path) -> tuple[Path, Path, Path]:
    """The model, the annotations and the folder of images."""
    import torch

    from workbench.data import builtin
    from workbench.data.images import write_image
    from workbench.models.fresh import new_model

    torch.manual_seed(0)
    model = new_model("rtmpose", skeleton="coco-17")[0].module.eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.net.head(self.net.extract_feat(pixels))

    path = folder / "rtmpose-t.onnx"
    torch.onnx.export(
        Logits(), (torch.zeros(1, 3, 256, 192),), str(path), input_names=["pixels"],
        output_names=["simcc_x", "simcc_y"], dynamo=False, opset_version=17,
        dynamic_axes={name: {0: "N"} for name in ("pixels", "simcc_x", "simcc_y")},
    )  # fmt: skip
    scenes = builtin("scenes-people-val")
    images, annotations = [], []
    for image_id in scenes.images:
        people = [one for one in scenes.instances if one.image_id == image_id and one.num_keypoints]
        if len(annotations) + len(people) > PEOPLE:
            continue
        image = scenes.image(image_id)
        write_image(folder / f"{image_id}.png", image)
        height, width = image.shape[:2]
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
        for one in people:
            x0, y0, x1, y1 = one.box
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(one.area),
                    "num_keypoints": one.num_keypoints, "keypoints": one.truth.ravel().tolist(),
                }
            )  # fmt: skip
        if len(annotations) == PEOPLE:
            break
    category = {"id": 1, "name": "person", "keypoints": list(scenes.skeleton.keypoints)}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "set.json").write_text(json.dumps(content))
    return path, folder / "set.json", folder


def seconds(words: list[str], runs: int, compiled: Path) -> tuple[float, float]:
    """Of a whole process, on the clock and of the processor: the best of a few after a first one.

    Args:
        words: of the command.
        runs: that count.
        compiled: where Python keeps compiled modules, as an installation does; the first run fills it.
    """
    root = Path(__file__).parents[1]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    own["PYTHONPYCACHEPREFIX"] = str(compiled)
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    found = []
    for _ in range(runs + 1):
        before, began = os.times(), time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, env=own, cwd=root)
        clock, after = time.perf_counter() - began, os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((clock, used))
    return min(f[0] for f in found[1:]), min(f[1] for f in found[1:])


def rows(runs: int = RUNS) -> list[Row]:
    """One row."""
    with tempfile.TemporaryDirectory() as name:
        model, annotations, images = map(str, write(Path(name)))
        ours = [
            sys.executable,
            "-m",
            "workbench",
            "evaluate",
            model,
            "--data",
            annotations,
            "--images",
            images,
        ]
        compiled = Path(name) / "compiled"
        clock, used = seconds([*ours, "--no-flip"], runs, compiled)
        peer, peer_used = seconds(
            [sys.executable, "-c", PEER, model, annotations, images], runs, Path(name) / "compiled"
        )
    return [
        {
            "what": f"evaluate an ONNX file of RTMPose-t's size on {PEOPLE} people, whole process, 1 thread",
            "ours": f"{clock:.2f} s ({used:.2f} s of processor)",
            "peer": f"bare onnxruntime and pycocotools {peer:.2f} s ({peer_used:.2f} s)",
            "ratio": f"{used / peer_used:.2f} of its processor time",
            "target": f"<= {TARGET:g} of its time",
            "met": used <= TARGET * peer_used,
        }
    ]
