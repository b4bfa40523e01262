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
# # The model with text is worse than the one without: the conditioning clinic
#
# `rtmpose-text-fusion` is `rtmpose-text-base` with a neck that reads a sentence (FiLM) and a refiner behind
# the head, trained as a published project did it. Its AP is lower. One would guess that the start of the
# neck's weights is the cause; the measurements below show other causes first.

# %%
from workbench.checkpoints.demo import demo_checkpoints, demo_run
from workbench.core.run import run
from workbench.data import builtin
from workbench.inspectors.conditioning import features_kept, film, paths, refined_scores, switches
from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.evidence import gradient_groups
from workbench.inspectors.conditioning.film import over_epochs
from workbench.inspectors.conditioning.passes import several, spread
from workbench.inspectors.conditioning.training_log import Trends, curve_of
from workbench.models import open_model
from workbench.text.vectors import similarity

FUSION, BASE = "rtmpose-text-fusion", "rtmpose-text-base"
scenes = builtin("scenes-val")
loaded = open_model(demo_checkpoints(FUSION)[-1])
looked = run(loaded.model, several(scenes, 8), title=loaded.title)

# %% [markdown]
# ## Do AP and AR change in opposite directions?
# With one pose for each annotation AR only asks where keypoints lie; AP also asks for an order of the poses.

# %%
Trends(tuple(curve_of(demo_run(name)) for name in (FUSION, BASE)))

# %% [markdown]
# ## Is AP lost by the order of the poses, or by the place of the keypoints?
# All paths through the same weights, on some instances spread over the set.

# %%
found = predicted(loaded.model, scenes, spread(scenes, 32), title=loaded.title)
ranking(found, scenes, loaded.title)

# %% [markdown]
# ## Does inference do what training did?

# %%
paths.compute(looked, paths.Params())

# %% [markdown]
# ## What are γ and β, and do they differ between images?

# %%
film.compute(looked, film.Params())

# %%
epochs = []
for file in demo_checkpoints(FUSION):
    early = open_model(file)
    epochs.append(film.compute(run(early.model, looked.samples, title=early.title), film.Params()))
over_epochs(epochs)

# %%
features_kept.compute(looked, features_kept.Params())

# %% [markdown]
# ## What does one uncertain keypoint do to the scores of the others?

# %%
refined_scores.compute(looked, refined_scores.Params())

# %% [markdown]
# ## What does each part give back?
# First what moves on a few samples, then AP with intervals.

# %%
switches.compute(looked, switches.Params())

# %%
ablation(found, loaded.title)

# %% [markdown]
# ## Which parts does the training loss reach?

# %%
gradient_groups(looked)

# %% [markdown]
# ## Do the sentences distinguish the keypoints?

# %%
similarity(loaded.model.text)

# %% [markdown]
# ## The verdict

# %%
verdict = clinic(looked, found, scenes)
for finding in verdict.findings:
    print(f"{finding.cause}: {finding.evidence}\n  -> {finding.fix}\n")
verdict.summary()

# %% [markdown]
# ## Another network: a class embedding that scales the channels of a residual block
# The clinic knows nothing about this network but the names of its taps, which an adapter of 25 lines gives
# (`ByTaps`). The network is untrained, and nothing is wrong with it; with its gate at 0 the clinic says so.

# %%
from pathlib import Path

import torch

import workbench
from workbench.inspectors.conditioning.clinic import examine

adapter = Path(workbench.__file__).parents[1] / "tests/adapters/class_film.py"
other = open_model(None, adapter=adapter)
healthy = examine(other, scenes, samples=4)
with torch.no_grad():
    other.model.module.block.gate.zero_()
shut = examine(other, scenes, samples=4)
print(healthy.summary(), shut.summary(), sep="\n")
shut
