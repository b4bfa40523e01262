# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your model, then your question
#
# The workbench asks little of a model: its keypoints, how to crop for it, a forward pass, how to read
# keypoints off the output. For a network that sees one crop at a time that is one record, `TopDown`.
# Here is a whole adapter, [my_model.py](my_model.py), for a network that has nothing to do with mmpose:

# %%
import inspect
from pathlib import Path

import my_model

print(inspect.getsource(my_model.wrap), inspect.getsource(my_model.load), sep="\n")

# %% [markdown]
# `Codec` is the part that people get wrong. It says how coordinates stand in the output: size of input
# and map, width of the target, plain or UDP. With it the workbench crops, draws the target, decodes,
# and puts keypoints back into the image, all by the same rules. A wrong codec looks like a bad network:
# everything is off by a little.
#
# ## Overfit eight instances
# The cheapest test of a model and its codec: eight instances, seen over and over, must come out right.
# If they do not, the fault is in the code and not in the data. The crops for training come from the
# same `prepare` that evaluation uses, so the two cannot disagree.

# %%
import numpy as np
import torch

from workbench.core import geometry
from workbench.data import builtin
from workbench.decoding.targets import target

torch.manual_seed(0)
scenes = builtin("scenes-val")
eight = [i for i in scenes.labelled if scenes.instances[i].num_keypoints >= 15][:8]
samples = scenes.samples(eight)

net = my_model.TinyNet(keypoints=17)
model = my_model.wrap(net)
batch = model.prepare(samples)
truth = np.stack([s.truth for s in samples])
pixels = [geometry.apply(geometry.inverse(a), t[:, :2]) for a, t in zip(batch.to_image, truth, strict=True)]
wanted = target(model.codec, np.stack(pixels), truth[..., 2] > 0)
heatmaps, weights = (torch.tensor(wanted[name]) for name in ("heatmaps", "weights"))
heatmaps.shape, weights.mean()

# %%
STEPS = 120
optimizer = torch.optim.AdamW(net.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)
losses = []
for _ in range(STEPS):
    error = (net(batch.pixels) - heatmaps) ** 2
    loss = (error.mean((2, 3)) * weights).mean() * 1000
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.1f} -> {losses[-1]:.3f} in {STEPS} steps")

# %% [markdown]
# ## Look at it
# Every inspector that applies to heatmaps now applies to this network.

# %%
from workbench.core.run import run
from workbench.inspectors.outputs import heatmap_grid, overlay

result = run(model, samples, title="tiny net, eight instances")
overlay.compute(result, overlay.Params(view="crop"))

# %%
heatmap_grid.compute(result, heatmap_grid.Params())

# %% [markdown]
# ## Through a file, as the command line does it
# Save it, open it through the adapter, and the gate says that every parameter arrived.

# %%
import tempfile

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "tiny.pth"
    torch.save({"state_dict": net.state_dict(), "epoch": 120}, file)
    from workbench.models import open_model

    opened = open_model(file, adapter=my_model.__file__)
opened.load.summary()

# %% [markdown]
# From a shell that is `workbench evaluate tiny.pth --adapter my_model.py --data scenes-val`. On the eight it
# was made for it should be good, and on eight others useless: that is what overfitting means, and a test
# that your evaluation can tell the two apart. Good, not perfect: 24 cells for 96 pixels have a ceiling of
# their own, which no training lifts. Set `udp=False, decoder="quarter"` in `my_model.wrap`, run again,
# and AP on the same eight falls, though the network learned its targets just as well.

# %%
from workbench.evaluation import evaluate, predict, protocol_of

others = [i for i in scenes.labelled if i not in eight][:8]
for name, indices in (("seen", eight), ("not seen", others)):
    poses = predict(opened.model, scenes, indices=indices)
    print(
        name,
        "->",
        evaluate(scenes, poses, protocol_of(opened.model, load=opened.load), indices=indices).summary(),
    )

# %% [markdown]
# ## Ask your own question
# An inspector is a frozen `Params`, a `compute` from a run to a report, and a report that can say
# itself in one sentence, as a picture and as a table. The question here: *where a keypoint has a
# left-right partner, how much of its heat lies at the partner's place?* A network that mixes up legs
# shows it here before it shows in AP.

# %%
from dataclasses import dataclass
from typing import Annotated, Any

from workbench.core import Run, Skeleton
from workbench.core.inspector import INSTANCE, Inspector
from workbench.core.report import Report, rows
from workbench.figures import keypoint_colours, new_figure


@dataclass(frozen=True)
class Params:
    """Knobs. instance: which sample of the run; the first when empty."""

    instance: Annotated[str, INSTANCE] = ""


@dataclass(frozen=True, eq=False)
class SideDoubt(Report):
    """doubt: heat at the partner's peak over heat at its own, per keypoint; 0 sure, 1 cannot tell."""

    skeleton: Skeleton
    doubt: np.ndarray

    def summary(self) -> str:
        k = int(np.nanargmax(self.doubt))
        return f"{self.skeleton.keypoints[k]} has {self.doubt[k]:.0%} of its heat at its partner's place"

    def plot(self):
        figure = new_figure(self.summary(), x="keypoint", y="heat at the partner's place (share of own peak)")
        colours = list(keypoint_colours(self.skeleton))
        return figure.add_bar(
            x=self.skeleton.keypoints, y=self.doubt.astype(np.float32), marker_color=colours
        )

    def table(self) -> list[dict[str, Any]]:
        return rows(keypoint=self.skeleton.keypoints, doubt=self.doubt)


def compute(run: Run, params: Params) -> SideDoubt:
    """Heat of each map at its partner's peak."""
    maps = run.heatmaps[INSTANCE.index(run, params.instance)].clip(min=0)
    flat = maps.reshape(len(maps), -1)
    partner = np.array(run.model.skeleton.mirror)
    own = flat.max(1)
    there = flat[np.arange(len(flat)), flat.argmax(1)[partner]]
    paired = (partner != np.arange(len(partner))) & (own > 0)
    return SideDoubt(run.model.skeleton, np.where(paired, there / np.where(own > 0, own, 1), np.nan))


INSPECTOR = Inspector(
    "Side doubt", Params, compute, question="Which keypoints does it confuse with their mirror partner?"
)

# %% [markdown]
# On an instance it was trained on, and on one it has never seen:

# %%
INSPECTOR.compute(result, Params())

# %%
unseen = run(model, scenes.samples(others[:1]), title="tiny net, not seen")
INSPECTOR.compute(unseen, Params())

# %% [markdown]
# To give it a page in the app, a verb on the command line and a test of the contract: put the cell
# above into a file in a folder of `workbench/inspectors/`, such as `outputs/side_doubt.py`. It is found
# there, and needs no further line.
