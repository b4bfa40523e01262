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
# # First look
#
# From a file on disk to a sentence you can act on, in five steps: **open** a checkpoint, **run** it,
# **look** inside, **evaluate** it, **compare** two epochs. Everything here works offline, on the
# checkpoints and the drawn scenes that come with the workbench. To look at your own, change the two
# paths in the first cell.

# %%
from workbench.checkpoints.checkpoint_files import training_order  # epoch_5 before epoch_40
from workbench.checkpoints.demo import demo_checkpoints, demo_data
from workbench.data import builtin

# yours: training_order(Path("work_dirs/my_run").glob("epoch_*.pth"))
files = training_order(demo_checkpoints())
scenes = builtin(demo_data())  # yours: workbench.data.read_coco("annotations.json", "images/")
early, late = files[1], files[-1]
[path.name for path in files]

# %% [markdown]
# ## Open
# Opening reads what a file says about itself and executes nothing in it: no class that a pickle names
# is imported, and tensors stay on disk until they are asked for.

# %%
from workbench.checkpoints import open_checkpoint

checkpoint = open_checkpoint(late)
print(checkpoint.format, "| epoch", checkpoint.epoch, "| iteration", checkpoint.iteration)
print(checkpoint.identity.family, "because of", *checkpoint.identity.evidence, sep="\n  ")
print({part: f"{count:,}" for part, count in checkpoint.parts().items()})

# %% [markdown]
# A family comes with its **evidence**: tensor names, shapes, or the config inside. When the evidence is
# thin you will want to know before you trust a number.
#
# ## Load
# A network with a few missing tensors still runs, and is quietly worse. So loading is a gate: it tells
# what was filled, and a model that is not full is refused unless you say otherwise.

# %%
from workbench.models import open_model

opened = open_model(late)
opened.load

# %% [markdown]
# ## Run
# One forward pass. A `Run` keeps what the network left, so that every question below is answered from
# the same pass and nothing is computed twice.

# %%
from workbench.core.run import run

index = scenes.labelled[2]
result = run(opened.model, [scenes.sample(index)], title=opened.title)
result.predictions[0].scores.round(2)

# %% [markdown]
# These scores are **not probabilities**. SimCC heads answer with raw logits, one vector along x and one
# along y; mmpose scores a keypoint by the smaller of the two maxima. The training target peaks at 1, so
# a sure keypoint comes out near 1, and somewhat above 1 is normal.
#
# ## Look
# An inspector answers one question about a run. All of them have the same form: knobs in, a report out.

# %%
from workbench.inspectors.outputs import overlay

overlay.compute(result, overlay.Params())

# %% [markdown]
# Filled markers are predictions, rings are annotations, and the line between them is the error. Look
# for three things: one keypoint far off (its map will tell why), left and right exchanged, everything
# shifted alike (then suspect the crop or the coordinates, not the network).
#
# How sure is it of each? A vector with two hills is a network that cannot decide between two places,
# most often the left and the right leg.

# %%
from workbench.inspectors.outputs import peaks

peaks.compute(result, peaks.Params())

# %%
from workbench.inspectors.outputs import simcc_curves

simcc_curves.compute(result, simcc_curves.Params())

# %% [markdown]
# Left are the raw logits, right their softmax, which is what the loss compares with the target. The
# keypoint drawn is the one with the lowest score; name another with `Params(keypoint="L_F_Paw")`.
#
# And what was it asked to answer? The target, the prediction and what is left between them:

# %%
from workbench.inspectors.outputs import target_residual

target_residual.compute(result, target_residual.Params())

# %% [markdown]
# ## Evaluate
# Forty instances, so that it takes seconds; the command line does the whole set. A number without its
# rules says nothing, so they travel together: which boxes, how padded, flipped or not, which decoder,
# how poses are scored.

# %%
from workbench.evaluation import evaluate, predict, protocol_of

some = scenes.labelled[:40]
late_poses = predict(opened.model, scenes, indices=some)
report = evaluate(scenes, late_poses, protocol_of(opened.model, load=opened.load), indices=some)
report

# %% [markdown]
# Read **AP** and **AR** together. With one box per annotation, AR says how well keypoints are placed;
# AP also punishes a pose that is wrong and scored high. AR up and AP down means that the ranking is
# broken, not the placing. The table says which keypoints cost the most:

# %%
import pandas

pandas.DataFrame(report.table()).head(8)

# %% [markdown]
# ## Compare two epochs
# A change of AP on forty instances may be luck. The interval comes from drawing the images anew a
# thousand times, the same ones for both epochs; if it holds 0, another sample may well turn the sign.

# %%
from workbench.evaluation import compare

before = open_model(early)
early_poses = predict(before.model, scenes, indices=some)
comparison = compare(
    scenes,
    [(before.title, early_poses), (opened.title, late_poses)],
    [protocol_of(m.model, load=m.load) for m in (before, opened)],
    indices=some,
)
comparison

# %% [markdown]
# The mean hides what you want to see: which instances were **gained** and which were **lost**. Here is
# the one that changed most, as both epochs see it.

# %%
most = int(comparison.most_changed()[0])
truth = comparison.evaluations[0].ap.truth
number = next(i for i in some if scenes.instances[i].annotation_id == truth.ids[most])
print(f"OKS {comparison.oks[0, most]:.2f} -> {comparison.oks[1, most]:.2f}")
sample = scenes.sample(number)
overlay.compute(run(before.model, [sample], title=before.title), overlay.Params(view="crop"))

# %%
overlay.compute(run(opened.model, [sample], title=opened.title), overlay.Params(view="crop"))

# %% [markdown]
# ## Next
# - The same, with a slider over all epochs: `workbench app checkpoints`.
# - From a shell: `workbench open FILE`, `workbench evaluate FILE --data ANN.json --images DIR`, each
#   with `--json`.
# - A model that is not RTMPose: [bring your model](bring_your_model.ipynb).
