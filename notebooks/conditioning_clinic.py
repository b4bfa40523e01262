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
# the head, trained as a published project did it. Its AP is lower. A guess at the cause would be the start of
# the neck's weights; the evidence puts other things first.

# %%
from workbench.inspectors.conditioning.evidence import gradient_groups
from workbench.inspectors.conditioning.training_log import Trends, curve_of

from workbench.checkpoints.demo import demo_checkpoints, demo_run
from workbench.core.run import run
from workbench.data import builtin
from workbench.inspectors.conditioning import features_kept, film, paths, refined_scores, switches
from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.over_epochs import over_epochs
from workbench.inspectors.conditioning.passes import several, spread
from workbench.models import open_model
from workbench.text.vectors import similarity

FUSION, BASE = "rtmpose-text-fusion", "rtmpose-text-base"
scenes = builtin("scenes-val")
loaded = open_model(demo_checkpoints(FUSION)[-1])
looked = run(loaded.model, several(scenes, 8), title=loaded.title)

# %% [markdown]
# ## Do AP and AR go opposite ways?
# With one pose for each annotation AR only asks where keypoints lie; AP also asks for an order of the poses.

# %%
Trends(tuple(curve_of(demo_run(name)) for name in (FUSION, BASE)))

# %% [markdown]
# ## Is it the order of the poses, or the place of the keypoints?
# Every way through the same weights, on some instances spread over the set.

# %%
found = predicted(loaded.model, scenes, spread(scenes, 32), title=loaded.title)
ranking(found, scenes, loaded.title)

# %% [markdown]
# ## Does inference go the way that training went?

# %%
paths.compute(looked, paths.Params())

# %% [markdown]
# ## What are γ and β, and do they know anything about the image?

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
# ## Which parts does training's loss reach?

# %%
gradient_groups(looked)

# %% [markdown]
# ## Do the sentences tell the keypoints apart?

# %%
similarity(loaded.model.text)

# %% [markdown]
# ## The verdict

# %%
verdict = clinic(looked, found, scenes)
for finding in verdict.findings:
    print(f"{finding.name}: {finding.evidence}\n  -> {finding.advice}\n")
verdict.summary()
