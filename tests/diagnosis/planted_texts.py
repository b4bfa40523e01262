"""Causes planted in texts: audits, messages, code of a head or a loss, damaged files."""

from __future__ import annotations

from tests.diagnosis.systems import RTMPOSE

SOURCES = {
    "sapiens": "facebookresearch/sapiens `pose/configs/sapiens_pose/coco/sapiens_1b-210e_coco-1024x768.py`",
    "vitpose": "ViTAE-Transformer/ViTPose "
    "`configs/body/2d_kpt_sview_rgb_img/topdown_heatmap/coco/ViTPose_base_coco_256x192.py`",
    "rtmpose": "mmpose `rtmpose-m_8xb256-420e_coco-256x192.py`",
}
SENTENCES = """
- Learning rate of {}.
- Weight decay of {}.
- Batch size of {} per GPU.
"""
CODEC = """
```python
codec = dict(type='{}', input_size={}, heatmap_size={}, sigma={})
```
"""
# Learning rate, decay, batch; codec, input, maps, sigma: as published, and as people write them from memory.
STATED = {
    "sapiens": (("5e-4", "0.1", "64", "UDPHeatmap", "(768, 1024)", "(192, 256)", "6"),
                ("4e-3", "0.05", "32", "MSRAHeatmap", "(192, 256)", "(48, 64)", "2")),
    "vitpose": (("5e-4", "0.1", "64", "UDPHeatmap", "(192, 256)", "(48, 64)", "2"),
                ("4e-3", "0.05", "256", "MSRAHeatmap", "(288, 384)", "(72, 96)", "3")),
    "rtmpose": (("4e-3", "0.05", "256", "SimCCLabel", "(192, 256)", "(192, 256)", "(4.9, 5.66)"),
                ("5e-4", "0.1", "64", "UDPHeatmap", "(288, 384)", "(72, 96)", "3")),
}  # fmt: skip
HEAD = """
decoder = nn.Sequential(
    nn.ConvTranspose2d(1024, 768, kernel_size=4, stride=2, padding=1, bias=False),
    nn.{norm}(768),
    nn.SiLU(inplace=True),
    nn.Conv2d(768, 768, kernel_size=1, bias={bias}),
)
"""
MASK = """
import torch

class Stage2:
    def loss(self, predictions, temperature=0.5, confidence_threshold={threshold}):
        mean = torch.stack(predictions).mean(0)
        sharp = torch.softmax(mean.flatten(2) / temperature, dim=-1)
        confidence = sharp.max(dim=-1)[0]
        mask = (confidence > confidence_threshold).float()
        return sum((p - mean).pow(2).mean() * mask.mean() for p in predictions)
"""


def claims_about(family, wrong):
    """An audit of a published recipe; its first `wrong` statements of seven are false."""

    def make(folder):
        right, false = STATED[family]
        statements = [*false[:wrong], *right[wrong:]]
        path = folder / "audit.md"
        text = SENTENCES.format(*statements[:3]) + CODEC.format(*statements[3:])
        path.write_text(f"# Audit against {SOURCES[family]}\n{text}")
        return [path], {}

    return make


def head_code(norm, bias):
    """A right audit of Sapiens beside code of its head with this norm and bias."""

    def make(folder):
        (audit,), _ = claims_about("sapiens", 0)(folder)
        text = HEAD.format(norm=norm, bias=bias)
        audit.write_text(f"{audit.read_text()}\n\n```python{text}```\n")
        return [audit], {}

    return make


def mask_code(threshold, family="sapiens"):
    """Code of a loss that counts keypoints above a threshold, beside a right audit."""

    def make(folder):
        (audit,), _ = claims_about(family, 0)(folder)
        (folder / "stage2.py").write_text(MASK.replace("{threshold}", threshold))
        return [folder / "stage2.py", audit], {}

    return make


def message(text):
    """The last lines of a traceback in a file."""

    def make(folder):
        path = folder / "error.txt"
        path.write_text(f'Traceback (most recent call last):\n  File "train.py", line 12, in main\n{text}\n')
        return [path], {}

    return make


def damaged(name, text):
    """A file that ends early, beside the checkpoint of the demo."""

    def make(folder):
        (folder / name).write_text(text)
        return [RTMPOSE.last(), folder / name], {}

    return make
