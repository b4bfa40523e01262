"""Mistakes in the code of a training, each as edits of the healthy loop or as code of its own; healthy twins."""

# ruff: noqa: E501 - one line of planted code a line
from __future__ import annotations

EPOCHS, LOOP = "    for epoch in range(10):\n", "        for batch in loader:\n"
CLEAR, BACK, STEP = (
    "            optimizer.zero_grad()\n",
    "            loss.backward()\n",
    "            optimizer.step()\n",
)
CLIP = "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
LOSS = "            loss = (model(batch) - targets).pow(2).mean()\n"
LOADER = "    loader = torch.utils.data.DataLoader(images, batch_size=8, shuffle=True)\n"
MADE = "    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)\n"
NUMBERED = (LOOP, "        for i, batch in enumerate(loader):\n")
SCALER = (EPOCHS, "    scaler = torch.cuda.amp.GradScaler()\n" + EPOCHS)
SCALED = (BACK, "            scaler.scale(loss).backward()\n")
RESUMED = "    state = torch.load('last.pth')\n    model.load_state_dict(state['model'])\n    optimizer.load_state_dict(state['optimizer'])\n    start = state['epoch'] + 1\n    for epoch in range(start, 10):\n"
COSINE = "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)\n"


def scheduled(made, stepped):
    """Edits that add a scheduler: the code that makes it, and that which steps it."""
    made = f"    schedule = torch.optim.lr_scheduler.{made}\n"
    return (EPOCHS, made + EPOCHS), (STEP, STEP + stepped)


EACH_BATCH, EACH_EPOCH = "            schedule.step()\n", "        schedule.step()\n"
KEPT, CUT, MISSING = (
    "gradients are not cleared",
    "no gradient reaches the network",
    "optimizer misses parameters",
)
UNIT = "scheduler counts epochs and is stepped every batch"
ORDERED, PART = "training data not shuffled", "only part of the data is trained on"
RATE, WARM_UP = "learning rate too high or too low", "warm-up longer than the run"
UNFIT = "loss does not fit the outputs"

# name -> cause, edits of the healthy loop.
FAULTS = {
    "cleared once, before the epochs": (KEPT, (CLEAR, ""), (EPOCHS, "    optimizer.zero_grad()\n" + EPOCHS)),
    "cleared once an epoch": (KEPT, (CLEAR, ""), (LOOP, "        optimizer.zero_grad()\n" + LOOP)),
    "cleared at each batch, stepped at every fourth": ("gradients are cleared before the step", NUMBERED, (CLIP, ""), (STEP, "            if (i + 1) % 4 == 0:\n                optimizer.step()\n")),
    "no step": ("optimizer never steps", (STEP, "")),
    "of two optimizers one steps": (MISSING, (MADE, "    optimizer = torch.optim.AdamW(model.stem.parameters(), lr=5e-3)\n    of_head = torch.optim.AdamW(model.head.parameters(), lr=5e-3)\n")),
    "decorated with no_grad": (CUT, ("def train", "@torch.no_grad()\ndef train")),
    "gradients switched off": (CUT, (EPOCHS, EPOCHS + "        torch.set_grad_enabled(False)\n")),
    "loss of decoded places": (CUT, (LOSS, "            places = model(batch).flatten(2).argmax(-1).float()\n            loss = (places - targets).pow(2).mean()\n")),
    "eval() after train()": ("network is trained in evaluation mode", (EPOCHS, "    model.eval()\n" + EPOCHS)),
    "loss scale stays on": ("loss scale is never taken off the gradients", SCALER, SCALED, (CLIP, "")),
    "scaler never updated": ("half precision overflows in training", SCALER, SCALED, (CLIP, ""), (STEP, "            scaler.step(optimizer)\n")),
    "half precision without a scaler": ("half precision without a loss scale", (LOSS, "            with torch.autocast('cuda', dtype=torch.float16):\n                loss = (model(batch) - targets).pow(2).mean()\n")),
    "rate of .5": (RATE, ("lr=5e-3", "lr=0.5")),
    "rate of 5e-9": (RATE, ("lr=5e-3", "lr=5e-9")),
    "decay of 5": ("weight decay too strong", ("lr=5e-3", "lr=5e-3, weight_decay=5.0")),
    "stem at a rate of 0": ("parts of the network get a learning rate near 0", ("model.parameters(), lr=5e-3", "[{'params': model.stem.parameters(), 'lr': 0.0}, {'params': model.head.parameters()}], lr=5e-3")),
    "exponential at each batch": (UNIT, *scheduled("ExponentialLR(optimizer, gamma=0.9)", EACH_BATCH)),
    "milestones at each batch": (UNIT, *scheduled("MultiStepLR(optimizer, milestones=[6, 8])", EACH_BATCH)),
    "steps at each batch": (UNIT, *scheduled("StepLR(optimizer, step_size=3)", EACH_BATCH)),
    "milestones after the end": ("milestones after the end of the run", *scheduled("MultiStepLR(optimizer, milestones=[170, 200])", EACH_EPOCH)),
    "scheduler never stepped": ("scheduler is never stepped", *scheduled("OneCycleLR(optimizer, 5e-3, total_steps=100)", "")),
    "plateau that asks a loss to rise": ("scheduler waits for the wrong direction", *scheduled("ReduceLROnPlateau(optimizer, mode='max')", "        schedule.step(loss)\n")),
    "plateau that asks AP to fall": ("scheduler waits for the wrong direction", *scheduled("ReduceLROnPlateau(optimizer)", "        schedule.step(val_ap)\n")),
    "warm-up of 100 epochs": (WARM_UP, *scheduled("LinearLR(optimizer, 0.001, 1.0, total_iters=100)", EACH_EPOCH)),
    "warm-up of 500 epochs by hand": (WARM_UP, *scheduled("LambdaLR(optimizer, lambda e: min(1.0, e / 500))", EACH_EPOCH)),
    "warm-up longer than all steps": (WARM_UP, (EPOCHS, "    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=10000, num_training_steps=1000)\n" + EPOCHS), (STEP, STEP + EACH_BATCH)),
    "resumed without the schedule": ("resume restarted the schedule", (EPOCHS, COSINE + RESUMED), (STEP, STEP + EACH_EPOCH)),
    "resumed without the optimizer": ("resume lost the optimizer's state", (EPOCHS, RESUMED.replace("    optimizer.load_state_dict(state['optimizer'])\n", ""))),
    "network made anew": (MISSING, (EPOCHS, "    model = PoseNet(17).cuda()\n" + EPOCHS)),
    "stem frozen by its name": (MISSING, (MADE, "    for name, p in model.named_parameters():\n        if 'stem' in name:\n            p.requires_grad = False\n" + MADE)),
    "norms without momentum": ("batch-norm statistics not updated", (EPOCHS, "    for m in model.modules():\n        if isinstance(m, torch.nn.BatchNorm2d):\n            m.momentum = 0.0\n" + EPOCHS)),
    "seeded at each epoch": (ORDERED, (EPOCHS, EPOCHS + "        torch.manual_seed(0)\n")),
    "sampler that is not told the epoch": (ORDERED, (LOADER, "    sampler = DistributedSampler(images)\n    loader = torch.utils.data.DataLoader(images, batch_size=8, sampler=sampler)\n")),
    "one batch an epoch": (PART, (STEP, STEP + "            break\n")),
    "ten batches an epoch": (PART, NUMBERED, (CLEAR, "            if i >= 10:\n                break\n" + CLEAR)),
    "weights not used": ("keypoints without labels are learned", (LOOP, "        for batch, heatmaps, weights in loader:\n"), ("- targets", "- heatmaps")),
    "KL of probabilities": (UNFIT, (LOSS, "            loss = torch.nn.functional.kl_div(model(batch).softmax(-1), targets)\n")),
    "softmax twice": (UNFIT, (LOSS, "            found = torch.softmax(model(batch), -1)\n            loss = torch.nn.functional.cross_entropy(found, targets)\n")),
    "sigmoid twice": (UNFIT, (EPOCHS, "    criterion = torch.nn.BCEWithLogitsLoss()\n" + EPOCHS), (LOSS, "            loss = criterion(torch.sigmoid(model(batch)), targets)\n")),
    "one file for both": ("validated on the training data", (LOADER, "    train_set = Poses('person_keypoints_val2017.json')\n    val_set = Poses('person_keypoints_val2017.json')\n    loader = torch.utils.data.DataLoader(train_set, batch_size=8, shuffle=True)\n")),
}  # fmt: skip

# name -> edits after which nothing is wrong.
HEALTHY_TWINS = {
    "cleared after the step": ((CLEAR, ""), (STEP, STEP + CLEAR)),
    "cleared by the network": ((CLEAR, "            model.zero_grad()\n"),),
    "every fourth batch": (NUMBERED, (CLEAR, ""), (CLIP, ""), (STEP, "            if (i + 1) % 4 == 0:\n                optimizer.step()\n                optimizer.zero_grad()\n")),
    "handed to a function that steps": ((STEP, "            advance(optimizer)\n"),),
    "two optimizers": ((MADE, "    optimizer = torch.optim.AdamW(model.stem.parameters(), lr=5e-3)\n    of_head = torch.optim.SGD(model.head.parameters(), lr=0.1)\n"), (STEP, STEP + "            of_head.step()\n"), (CLEAR, CLEAR + "            of_head.zero_grad()\n")),
    "no_grad around the validation": ((STEP, STEP + "        with torch.no_grad():\n            print(model(images))\n"),),
    "argmax for the accuracy": ((LOSS, LOSS + "            hits = (model(batch).argmax(-1) == targets.argmax(-1)).float().mean()\n"),),
    "scaled, stepped and updated": (SCALER, SCALED, (CLIP, "            scaler.unscale_(optimizer)\n" + CLIP), (STEP, "            scaler.step(optimizer)\n            scaler.update()\n")),
    "bfloat16": ((LOSS, "            with torch.autocast('cuda', dtype=torch.bfloat16):\n                loss = (model(batch) - targets).pow(2).mean()\n"),),
    "SGD at .1": (("AdamW(model.parameters(), lr=5e-3)", "SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)"),),
    "exponential at each epoch": scheduled("ExponentialLR(optimizer, gamma=0.9)", EACH_EPOCH),
    "milestones in batches": scheduled("MultiStepLR(optimizer, milestones=[600, 800])", EACH_BATCH),
    "milestones": scheduled("MultiStepLR(optimizer, milestones=[6, 8])", EACH_EPOCH),
    "plateau of the loss": scheduled("ReduceLROnPlateau(optimizer)", "        schedule.step(loss)\n"),
    "plateau of AP": scheduled("ReduceLROnPlateau(optimizer, mode='max')", "        schedule.step(val_ap)\n"),
    "warm-up of two epochs": scheduled("LinearLR(optimizer, 0.001, total_iters=2)", EACH_EPOCH),
    "resumed whole": ((EPOCHS, COSINE + RESUMED.replace("    start", "    schedule.load_state_dict(state['schedule'])\n    start")), (STEP, STEP + EACH_EPOCH)),
    "wrapped after the optimizer": ((EPOCHS, "    model = torch.nn.DataParallel(model)\n" + EPOCHS),),
    "fine-tuned: stem frozen by its name": ((MADE, "    model.load_state_dict(torch.load('coco.pth'))\n    for name, p in model.named_parameters():\n        if 'stem' in name:\n            p.requires_grad = False\n" + MADE),),
    "seeded once": ((EPOCHS, "    torch.manual_seed(0)\n" + EPOCHS),),
    "seeded by the epoch": ((EPOCHS, EPOCHS + "        torch.manual_seed(epoch)\n"),),
    "sampler that is told the epoch": ((LOADER, "    sampler = DistributedSampler(images)\n    loader = torch.utils.data.DataLoader(images, batch_size=8, sampler=sampler)\n"), (EPOCHS, EPOCHS + "        sampler.set_epoch(epoch)\n")),
    "left where the loss is nan": ((STEP, STEP + "            if loss != loss:\n                break\n"),),
    "weights used": ((LOOP, "        for batch, heatmaps, weights in loader:\n"), ("(model(batch) - targets).pow(2)", "((model(batch) - heatmaps).pow(2) * weights)")),
    "KL of log-probabilities": ((LOSS, "            loss = torch.nn.functional.kl_div(model(batch).log_softmax(-1), targets)\n"),),
    "shuffle in a dictionary": ((LOADER, "    loader = torch.utils.data.DataLoader(images, **{'shuffle': True})\n"),),
    "two files": ((LOADER, "    train_set = Poses('train2017.json')\n    val_set = Poses('val2017.json')\n    loader = torch.utils.data.DataLoader(train_set, batch_size=8, shuffle=True)\n"),),
}  # fmt: skip

APART = "augmentation changes image and keypoints differently"
_READ = """
import cv2
class Horses(Dataset):
    def __getitem__(self, i):
        image, keypoints = cv2.imread(self.files[i]), self.keypoints[i].copy()
{lines}
        return image, heatmaps_of(keypoints)
"""
_NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        {line}

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x
"""
_USED = """
import torch
model = PoseNet(17)
model.load_state_dict(torch.load("best.pth"))
{line}
for path in files:
    with torch.no_grad():
        heatmaps = model(read(path)[None])
"""


def read(*lines):
    """A data set that reads pictures by cv2, with some lines."""
    return _READ.replace("{lines}", "\n".join(f"        {line}" for line in lines))


_MIRROR = (
    "if np.random.rand() < 0.5:",
    "    image = image[:, ::-1].copy()",
    "    keypoints[:, 0] = image.shape[1] - 1 - keypoints[:, 0]",
)
_SIZE = "image = cv2.resize(image, (256, 256))"
_RGB = "image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)"
_MEAN = "image = (image / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]"
# name -> cause ("" for a healthy one), code.
OTHER_CODE = {
    "keypoints mirrored, sides not exchanged": (APART, read(*_MIRROR)),
    "keypoints mirrored, sides exchanged": ("", read(*_MIRROR, "    keypoints = keypoints[FLIP_PAIRS]")),
    "picture resized alone": (APART, read(_SIZE)),
    "picture and keypoints resized": ("", read("scale = 256 / image.shape[0]", _SIZE, "keypoints = keypoints * scale")),
    "picture resized, keypoints by a function": ("", read("scale = 256 / image.shape[0]", _SIZE, "keypoints = resized(keypoints, scale)")),
    "blue first with ImageNet's mean": ("channel order", read("image, keypoints = crop(image, keypoints)", _MEAN)),
    "red first with ImageNet's mean": ("", read("image, keypoints = crop(image, keypoints)", _RGB, _MEAN)),
    "pixels not divided": ("value range", read("image, keypoints = crop(image, keypoints)", _RGB.replace("image = ", "image = "), _MEAN.replace("image / 255.0", "image"))),
    "pixels divided, mean of 0 to 255": ("value range", read("image, keypoints = crop(image, keypoints)", _RGB, "image = (image / 255 - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]")),
    "layers in a plain list": (MISSING, _NET.replace("{line}", "self.blocks = [nn.Conv2d(8, 8, 3) for _ in range(4)]")),
    "layers in a ModuleList": ("", _NET.replace("{line}", "self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 3) for _ in range(4)])")),
    "layers in a list that is wrapped": ("", _NET.replace("{line}", "self.blocks = [nn.Conv2d(8, 8, 3)]; self.all = nn.Sequential(*self.blocks)")),
    "momentum of TensorFlow": ("batch-norm statistics do not fit", _NET.replace("{line}", "self.norm, self.blocks = nn.BatchNorm2d(8, momentum=0.99), ()")),
    "used without eval()": ("network is used in training mode", _USED.replace("{line}", "")),
    "used with eval()": ("", _USED.replace("{line}", "model.eval()")),
}  # fmt: skip
