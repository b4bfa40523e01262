"""A stand-in for the server behind the Compare page, whose every number is known by hand.

It follows the contract in apps/server/api.py. Four epochs, six samples of four keypoints, a 200 x 160 image:
keypoint k of an epoch lies (k + 1) * ERROR[epoch] pixels right of its annotation, times FACTOR[sample]; its
score is SCORE[epoch] - k / 10. The page is served without Gradio, as its own SHELL and ON_LOAD.
"""

from __future__ import annotations

import io
import json
import struct

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

from apps.compare.page import ON_LOAD, SHELL, STATIC

NAMES = ["nose", "neck", "left paw", "right paw"]
EPOCHS = [1, 5, 10, 20]
ERROR = [9.0, 6.0, 3.0, 1.0]
SCORE = [0.4, 0.6, 0.8, 1.2]
FACTOR = [1.0, 2.0, 0.5, 3.0, 1.5, 1.0]
TRUTH = np.array([[60, 40, 2], [80, 60, 2], [70, 100, 1], [110, 100, 0]], np.float32)
OKS = np.array(
    # a sample per column; the last one gets worse, the fourth crosses .5 upwards, the fifth downwards
    [[0.30, 0.55, 0.70, 0.20, 0.80, 0.99], [0.40, 0.60, 0.75, 0.30, 0.55, 0.98],
     [0.45, 0.70, 0.80, 0.60, 0.60, 0.85], [0.48, 0.90, 0.85, 0.85, 0.40, 0.81]], np.float32
)  # fmt: skip
N, K, E = len(FACTOR), len(NAMES), len(EPOCHS)
KEYS = ["b/1", "b/2", "b/10", "a/1", "a/2", "c/1"]
SKELETON = {
    "name": "toy", "keypoints": NAMES, "limbs": [[0, 1], [1, 2], [1, 3]], "mirror": [0, 1, 3, 2],
    "colours": ["#56b4e9", "#e69f00", "#009e73", "#cc79a7"], "sigmas": [],
}  # fmt: skip
CROP = (20.0, 0.0, 160.0)  # left, top, side in image pixels
CELLS, BINS = 16, 64


def predictions(decoder: str, score: str) -> np.ndarray:
    """[E, N, K, 3]: x, y in image pixels, score."""
    out = np.zeros((E, N, K, 3), np.float32)
    for e in range(E):
        for n in range(N):
            shift = (np.arange(K) + 1) * ERROR[e] * FACTOR[n] * (0.5 if decoder == "fine" else 1)
            out[e, n, :, 0] = TRUTH[:, 0] + shift
            out[e, n, :, 1] = TRUTH[:, 1]
            out[e, n, :, 2] = SCORE[e] - np.arange(K) / 10 + (0.1 if score == "mean" else 0)
    return out


def pack(head: dict, blocks: dict[str, np.ndarray]) -> bytes:
    """A PACK of apps/server/api.py, written from its description."""
    head = {**head, "blocks": [{"name": n, "shape": list(a.shape)} for n, a in blocks.items()]}
    text = json.dumps(head).encode()
    text += b" " * (-(4 + len(text)) % 8)
    return struct.pack("<I", len(text)) + text + b"".join(a.astype("<f4").tobytes() for a in blocks.values())


def peaks(epoch: int, sample: int) -> np.ndarray:
    """[K, 2] where the maps of an epoch peak, image pixels: the predictions."""
    return predictions("", "")[epoch, sample, :, :2]


class Double:
    """The server, its switches, and what it was asked.

    Attributes:
        asked: path and query of every request, in order.
        ready: epochs that are computed; the others stay in the job's queue.
        cancelled: the job was cancelled by the page.
        names: of the two runs, one with SimCC and one with heatmaps.
        sets: ids of the sets; the samples of those after the first have other names.
        without_data: a third run, `alone`, that no set fits.
        short: the second run has only its first two epochs.
        failing: the list of runs, and cancelling, are answered 409.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ready = E
        self.cancelled = False
        self.empty = False
        self.names = ("curves", "heats")
        self.sets = ("toy-val",)
        self.without_data = self.short = self.failing = False
        self.app = FastAPI()
        self.app.middleware("http")(self._remember)
        self.app.mount("/workbench/static/compare", StaticFiles(directory=STATIC))
        for path, answer in {
            "runs": self.runs, "data": self.data, "compare": self.compare, "compare/arrays": self.arrays,
            "interval": self.interval, "image": self.image, "thumb": self.image, "maps": self.maps,
        }.items():  # fmt: skip
            methods = ["GET", "POST"] if path == "compare" else ["GET"]
            self.app.api_route(f"/workbench/api/{path}", methods=methods, response_model=None)(answer)
        self.app.post("/workbench/api/jobs/{name}/cancel", response_model=None)(self.cancel)
        self.app.get("/")(self.page)

    async def _remember(self, request: Request, call):
        self.asked.append(f"{request.url.path}?{request.url.query}")
        return await call(request)

    def page(self) -> HTMLResponse:
        return HTMLResponse(
            "<!doctype html><html><head><title>Compare</title><link rel=icon href=data:,></head>"
            "<body style='margin:0;padding:8px'><div id=host></div><script>"
            "const dark = new URLSearchParams(location.search).get('__theme') === 'dark';"
            "document.body.classList.toggle('dark', dark); const element = document.getElementById('host');"
            f"element.innerHTML = {json.dumps(SHELL)};{ON_LOAD}"
            "</script></body></html>"
        )

    def runs(self) -> list[dict] | JSONResponse:
        if self.failing:
            return JSONResponse({"error": "not just now"}, 409)
        if self.empty:
            return []
        epochs = [
            {"index": i, "epoch": e, "label": f"epoch {e}", "file": f"{e}.pth"} for i, e in enumerate(EPOCHS)
        ]
        entry = {"protocol": "", "epochs": epochs, "data": list(self.sets)}
        alone = {"id": "alone", "title": "alone", "family": "rtmpose", **entry, "data": []}
        second = {**entry, "epochs": epochs[:2]} if self.short else entry
        return [
            {"id": self.names[0], "title": self.names[0], "family": "rtmpose", **entry},
            {"id": self.names[1], "title": self.names[1], "family": "hrnet", **second},
            *([alone] if self.without_data else []),
            {"id": "broken", "title": "broken", "family": None, "reason": "1.pth: cut", "protocol": "",
             "epochs": [], "data": []},
        ]  # fmt: skip

    def data(self) -> list[dict]:
        return [{"id": name, "title": name, "count": N, "skeleton": SKELETON} for name in self.sets]

    def job(self) -> dict:
        state = "cancelled" if self.cancelled else "running"
        return {"id": "j1", "title": "predicting curves on toy-val", "state": state, "done": self.ready * N,
                "total": E * N, "seconds_left": 7.0, "error": None}  # fmt: skip

    def compare(self, run: str, data: str, decoder: str = "", score: str = "", start: int = 0):
        if decoder not in ("", "plain", "fine"):
            return JSONResponse({"error": f"no decoder {decoder!r}"}, 400)
        if start:
            self.cancelled = False
        job = self.job() if self.ready < E else None
        if not self.ready and not self.cancelled:
            return JSONResponse({"job": job}, 202)
        simcc = run == "curves"
        decoder, score = decoder or "plain", score or ("min" if simcc else "")
        bonus = 0.01 if decoder == "fine" else 0
        epochs = [
            {
                "index": i, "epoch": e, "label": f"epoch {e}", "file": f"{e}.pth", "ready": i < self.ready,
                "figures": {"AP": 0.2 * (i + 1) + bonus, "AR": 0.21 * (i + 1), "AP50": 0.9, "AP75": 0.5,
                            "APM": None, "APL": 0.4} if i < self.ready else None,
                "per_keypoint": None, "loaded_fraction": 1.0,
            } for i, e in enumerate(EPOCHS[: 2 if self.short and run == self.names[1] else E])
        ]  # fmt: skip
        samples = [
            {"index": 10 + n, "key": KEYS[n] if data == self.sets[0] else f"z{KEYS[n]}", "image_id": n,
             "width": 200, "height": 160, "scale": 1.0, "box": [40, 20, 140, 120], "area": 8000.0,
             "category": "toy"} for n in range(N)
        ]  # fmt: skip
        return {
            "version": "v1", "run": run, "data": data, "title": run, "job": job, "count": N, "total": N,
            "decoder": decoder, "decoders": ["plain", "fine"], "score": score,
            "score_rules": ["min", "mean"] if simcc else [], "maps": "simcc" if simcc else "heatmap",
            "oks_threshold": 0.5, "protocol": {"boxes": "ground truth", "padding": 1.25, "decoder": decoder},
            "protocol_text": f"GT boxes, pad 1.25, {decoder}", "skeleton": SKELETON, "epochs": epochs,
            "samples": samples,
            "arrays": f"/workbench/api/compare/arrays?run={run}&data=toy-val&decoder={decoder}&score={score}",
        }  # fmt: skip

    def arrays(self, decoder: str, score: str = "", epochs: str = ""):
        ready_epochs = [e for e in range(self.ready) if not epochs or str(e) in epochs.split(",")]
        found = predictions(decoder, score)[ready_epochs]
        blocks = {
            "predictions": found,
            "truth": np.stack([TRUTH] * N),
            "oks": OKS[ready_epochs],
            "scores": found[..., 2].mean(-1),
        }
        body = pack({"epochs": ready_epochs, "samples": list(range(10, 10 + N))}, blocks)
        return Response(body, media_type="application/octet-stream")

    def interval(self, a: int, b: int) -> dict:
        delta = 0.2 * (b - a)
        return {
            "a": a,
            "b": b,
            "delta": delta,
            "low": delta - 0.05,
            "high": delta + 0.04,
            "resamples": 1000,
            "level": 0.95,
        }

    def image(self, sample: int):
        shade = 40 + 20 * (sample - 10)
        stream = io.BytesIO()
        Image.new("RGB", (200, 160), (shade, shade, shade)).save(stream, "JPEG")
        return Response(stream.getvalue(), media_type="image/jpeg", headers={"X-Scale": "1"})

    def maps(self, run: str, epoch: int, sample: int):
        left, top, side = CROP
        found = peaks(epoch, sample - 10)
        if run == "curves":
            pitch = side / BINS
            at = (found - [left, top]) / pitch
            x, y = (np.exp(-0.5 * ((np.arange(BINS) - at[:, i : i + 1]) / 2) ** 2) for i in (0, 1))
            affine = [[pitch, 0, left], [0, pitch, top]]
            head = {"kind": "simcc", "K": K, "bins_x": BINS, "bins_y": BINS, "to_image": affine}
            return Response(pack(head, {"x": x, "y": y}), media_type="application/octet-stream")
        pitch = side / CELLS
        grey = np.zeros((2 * CELLS, 2 * CELLS), np.uint8)  # two columns of maps
        for k, (column, row) in enumerate(((found - [left, top]) / pitch - 0.5).round().astype(int)):
            if 0 <= column < CELLS:
                grey[k // 2 * CELLS + row, k % 2 * CELLS + column] = 255
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "PNG")
        affine = [[pitch, 0, left + pitch / 2], [0, pitch, top + pitch / 2]]
        layout = {
            "kind": "heatmap",
            "K": K,
            "h": CELLS,
            "w": CELLS,
            "columns": 2,
            "low": 0.0,
            "high": 2.0,
            "to_image": affine,
        }
        return Response(stream.getvalue(), media_type="image/png", headers={"X-Sprite": json.dumps(layout)})

    def cancel(self, name: str) -> dict | JSONResponse:
        if self.failing:
            return JSONResponse({"error": "not just now"}, 409)
        self.cancelled = True
        return self.job()


class Stage:
    """One ASGI application for the stand-ins of all tests: one address, whose scripts are compiled once."""

    def __init__(self) -> None:
        self.double = Double()

    async def __call__(self, scope, receive, send) -> None:
        await self.double.app(scope, receive, send)
