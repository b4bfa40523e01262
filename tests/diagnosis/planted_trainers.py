"""Mistakes of a training in two further forms of code: a loop inside a class, and Lightning's own loop."""

# ruff: noqa: E501 - one line of planted code a line
from __future__ import annotations

# A ViTPose trained by a class: the loop, the step and the validation are methods of their own.
TRAINER = """
import torch
from torch.utils.data import DataLoader


class Trainer:
    def __init__(self, model, train_set, val_set, epochs=210):
        self.model, self.epochs = model.cuda(), epochs
        self.train_loader = DataLoader(train_set, batch_size=64, shuffle=True, num_workers=8)
        self.val_loader = DataLoader(val_set, batch_size=64)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones=[170, 200])
        self.criterion = torch.nn.MSELoss(reduction="none")

    def fit(self):
        for epoch in range(self.epochs):
            self.train_epoch(epoch)
            print(epoch, self.validate())

    def train_epoch(self, epoch):
        self.model.train()
        for i, (images, heatmaps, weights) in enumerate(self.train_loader):
            found = self.model(images.cuda())
            loss = (self.criterion(found, heatmaps.cuda()) * weights.cuda()).mean()
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        self.scheduler.step()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        return [self.model(images.cuda()) for images, _, _ in self.val_loader]
"""
CLEAR, BACK = "            self.optimizer.zero_grad()\n", "            loss.backward()\n"
CLIP = "            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)\n"
STEP, END = "            self.optimizer.step()\n", "        self.scheduler.step()\n"
FOUND = "            found = self.model(images.cuda())\n"
LOSS = "            loss = (self.criterion(found, heatmaps.cuda()) * weights.cuda()).mean()\n"
MILESTONES = "MultiStepLR(self.optimizer, milestones=[170, 200])"
SCALER = ('reduction="none")\n', 'reduction="none")\n        self.scaler = torch.cuda.amp.GradScaler()\n')

# name -> cause, edits.
OF_TRAINER = {
    "optimizer made in every epoch": ("optimizer is made anew in the loop", ("        self.model.train()\n", "        self.model.train()\n        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4)\n")),
    "one step an epoch": ("optimizer steps once an epoch", (STEP + END, "        self.optimizer.step()\n" + END)),
    "no step": ("optimizer never steps", (STEP, "")),
    "half precision without a scaler": ("half precision without a loss scale", (FOUND + LOSS, "            with torch.autocast('cuda', dtype=torch.float16):\n    " + FOUND + "    " + LOSS)),
    "loss scale stays on": ("loss scale is never taken off the gradients", SCALER, (BACK, "            self.scaler.scale(loss).backward()\n"), (CLIP, "")),
    "scheduler never stepped": ("scheduler is never stepped", (END, "")),
    "milestones after the end": ("milestones after the end of the run", ("milestones=[170, 200]", "milestones=[1700, 2000]")),
    "plateau that asks a loss to rise": ("scheduler waits for the wrong direction", (MILESTONES, "ReduceLROnPlateau(self.optimizer, mode='max')"), (END, "        self.scheduler.step(loss)\n")),
    "scheduler of epochs stepped every batch": ("scheduler counts epochs and is stepped every batch", (STEP + END, STEP + "            self.scheduler.step()\n")),
    "sigmoid before a loss of logits": ("loss does not fit the outputs", ('MSELoss(reduction="none")', 'BCEWithLogitsLoss(reduction="none")'), ("self.criterion(found,", "self.criterion(torch.sigmoid(found),")),
    "KL of probabilities": ("loss does not fit the outputs", ('MSELoss(reduction="none")', 'KLDivLoss(reduction="none")'), ("self.criterion(found,", "self.criterion(found.softmax(-1),")),
    "weights not used": ("keypoints without labels are learned", (" * weights.cuda()", "")),
    "twenty batches an epoch": ("only part of the data is trained on", (STEP, STEP + "            if i >= 20:\n                break\n")),
    "one batch an epoch": ("only part of the data is trained on", (STEP, STEP + "            break\n")),
    "validated without eval()": ("network is used in training mode", ("        self.model.eval()\n", "")),
    "training mode once, before the epochs": ("network is trained in evaluation mode", ("        self.model.train()\n", ""), ("        for epoch in range(self.epochs):\n", "        self.model.train()\n        for epoch in range(self.epochs):\n")),
    "gradients never cleared": ("gradients are not cleared", (CLEAR, "")),
    "gradients cleared before the step": ("gradients are cleared before the step", (CLEAR, ""), (STEP, CLEAR + STEP)),
    "head alone": ("optimizer misses parameters", ("AdamW(self.model.parameters()", "AdamW(self.model.head.parameters()")),
    "clipped to .00001": ("gradient clipping too small", ("parameters(), 1.0", "parameters(), 1e-5")),
    "not shuffled": ("training data not shuffled", ("shuffle=True, ", "")),
    "validated on the training set": ("validated on the training data", ("DataLoader(val_set", "DataLoader(train_set")),
    "rate of .5": ("learning rate too high or too low", ("lr=5e-4", "lr=0.5")),
    "detached": ("no gradient reaches the network", ("self.criterion(found,", "self.criterion(found.detach(),")),
}  # fmt: skip
TRAINER_TWINS = {
    "as it is": (),
    "scaled and updated": (SCALER, (BACK, "            self.scaler.scale(loss).backward()\n"), (CLIP, "            self.scaler.unscale_(self.optimizer)\n" + CLIP), (STEP, "            self.scaler.step(self.optimizer)\n            self.scaler.update()\n")),
    "plateau of the loss": ((MILESTONES, "ReduceLROnPlateau(self.optimizer)"), (END, "        self.scheduler.step(loss)\n")),
    "left once the loss is nan": ((STEP, STEP + "            if torch.isnan(loss):\n                break\n"),),
}  # fmt: skip

# Lightning makes the loop, the steps and the modes.
MODULE = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader


class Pose(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net, self.criterion = net, torch.nn.MSELoss()

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        images, heatmaps = batch
        found = self(images)
        loss = self.criterion(found, heatmaps)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, heatmaps = batch
        self.log("val_loss", self.criterion(self(images), heatmaps))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=5e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=210)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
val_loader = DataLoader(val_set, batch_size=64)
trainer = pl.Trainer(max_epochs=210, gradient_clip_val=1.0, precision="bf16-mixed")
trainer.fit(Pose(net), train_loader, val_loader)
"""
COSINE = "CosineAnnealingLR(optimizer, T_max=210)"
OF_MODULE = {
    "scheduler of epochs stepped every batch": ("scheduler counts epochs and is stepped every batch", ('"interval": "epoch"', '"interval": "step"')),
    "one cycle of batches stepped once an epoch": ("scheduler counts batches and is stepped every epoch", (COSINE, "OneCycleLR(optimizer, 5e-4, total_steps=210 * 2000)")),
    "clipped to .00001": ("gradient clipping too small", ("gradient_clip_val=1.0", "gradient_clip_val=1e-5")),
    "a tenth of the batches": ("only part of the data is trained on", ("max_epochs=210,", "max_epochs=210, limit_train_batches=0.1,")),
    "twenty batches": ("only part of the data is trained on", ("max_epochs=210,", "max_epochs=210, limit_train_batches=20,")),
    "validated on the training data": ("validated on the training data", ("train_loader, val_loader)", "train_loader, train_loader)")),
    "sigmoid before a loss of logits": ("loss does not fit the outputs", ("MSELoss", "BCEWithLogitsLoss"), ("        found = self(images)\n", "        found = self(images).sigmoid()\n")),
    "network in evaluation mode": ("network is trained in evaluation mode", ("        found = self(images)\n", "        self.net.eval()\n        found = self(images)\n")),
    "head alone": ("optimizer misses parameters", ("AdamW(self.net.parameters()", "AdamW(self.net.head.parameters()")),
    "milestones after the end": ("milestones after the end of the run", (COSINE, "MultiStepLR(optimizer, milestones=[1700, 2000])")),
    "plateau that asks a loss to rise": ("scheduler waits for the wrong direction", (COSINE, "ReduceLROnPlateau(optimizer, mode='max')"), ('"interval": "epoch"}', '"interval": "epoch", "monitor": "val_loss"}')),
    "rate of .5": ("learning rate too high or too low", ("lr=5e-4", "lr=0.5")),
    "not shuffled": ("training data not shuffled", (", shuffle=True", "")),
    "detached": ("no gradient reaches the network", ("self.criterion(found, heatmaps)\n        self.log(\"train", "self.criterion(found.detach(), heatmaps)\n        self.log(\"train")),
}  # fmt: skip
MODULE_TWINS = {
    "as it is": (),
    "one cycle by step": ((COSINE, "OneCycleLR(optimizer, 5e-4, total_steps=420000)"), ('"interval": "epoch"', '"interval": "step"')),
    "a fifth of the validation": (("max_epochs=210,", "max_epochs=210, limit_val_batches=0.2,"),),
    "plateau of the validation loss": ((COSINE, "ReduceLROnPlateau(optimizer)"), ('"interval": "epoch"}', '"interval": "epoch", "monitor": "val_loss"}')),
}  # fmt: skip
