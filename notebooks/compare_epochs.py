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
# # Compare epochs
#
# Which epoch is better, by how much, and on which images? And what did training learn and **forget** on the
# way? This notebook predicts a run's checkpoints once, keeps the predictions as one file per epoch, asks
# that folder its questions, and ends in the **report**: one HTML file to keep or to send. It works offline,
# on the checkpoints and the drawn scenes that come with the workbench.

# %%
import tempfile
from pathlib import Path

from workbench.checkpoints.checkpoint_files import training_order
from workbench.checkpoints.demo import demo_checkpoints, demo_data, demo_log
from workbench.data import builtin

# yours: training_order(Path("work_dirs/my_run").glob("epoch_*.pth"))
files = training_order(demo_checkpoints())
scenes = builtin(demo_data())  # yours: workbench.data.read_coco("annotations.json", "images/")
some = list(scenes.labelled)[:32]  # a part of the set, so that this takes seconds
folder = Path(tempfile.mkdtemp()) / "predictions"  # yours: a folder to keep
[path.name for path in files], len(some)

# %% [markdown]
# ## Predict every epoch once
# One Parquet file per epoch, with its protocol. On the command line this is
# `workbench history RUN --data … --out FOLDER`, or `workbench sweep` for many checkpoints; both go on where
# they were stopped.

# %%
from workbench.evaluation import evaluate, predict, protocol_of_loaded
from workbench.evaluation.evaluate import pose_oks
from workbench.models import open_model

for path in files:
    opened = open_model(path)
    poses, rules = predict(opened.model, scenes, indices=some), protocol_of_loaded(opened)
    judged = evaluate(scenes, poses, rules, indices=some)
    oks, terms = pose_oks(poses, judged.ap)
    poses.to_parquet(
        folder / f"{path.stem}.parquet",
        epoch=opened.checkpoint.epoch,
        protocol=judged.protocol,
        oks=oks,
        terms=terms,
    )
sorted(path.name for path in folder.iterdir())

# %% [markdown]
# ## Ask the folder
# From here on no model is needed. Questions to the folder read only the columns that they need.

# %%
from workbench.evaluation import query_epochs

history = query_epochs(folder)
history.score(scenes, indices=some)
history.epochs()

# %% [markdown]
# An instance is **right** when its OKS reaches a threshold. It is **forgotten** in an epoch when it is wrong
# there and was right in the epoch before.

# %%
from workbench.evaluation.forgetting import forgetting

learned = forgetting(history, right=0.5)
learned

# %%
learned.table()[:5]

# %% [markdown]
# One image through all epochs: where is the first keypoint of its first instance, and how good is the pose?

# %%
instance = scenes.instances[some[0]]
course = history.poses_of_image(instance.image_id).of_instance(instance.annotation_id)
[
    (epoch, [round(v, 1) for v in xy], round(oks, 2))
    for epoch, xy, oks in zip(
        course.epoch.tolist(), course.keypoints[:, 0].tolist(), course.oks.tolist(), strict=True
    )
]

# %% [markdown]
# ## Compare two epochs
# Every figure of COCO with the interval of its change (paired bootstrap over images), and the instances
# that were gained and lost. A difference whose interval holds zero is not one yet.

# %%
from workbench.evaluation import Predictions, compare

early, late = list(history.files)[1], list(history.files)[-1]
chosen = {f"epoch {n}": Predictions.from_parquet(history.files[n]) for n in (early, late)}
epochs = [(title, poses) for title, (poses, _) in chosen.items()]
protocols = [rules for _, rules in chosen.values()]
change = compare(scenes, epochs, protocols, indices=some, details=True, resamples=200)
change

# %%
history.gained(early, late, 3), history.lost(early, late, 3), history.regressions(early, late, 3)

# %% [markdown]
# ## What is still wrong?
# Errors of the last epoch by kind, and the AP that repairing each kind alone would give back.

# %%
from workbench.evaluation.errors_report import errors

errors(change.evaluations[-1], scenes, sliced=False)

# %% [markdown]
# ## The curves of the training log

# %%
from workbench.curves import read_logs
from workbench.curves.report import CurvesReport

curves = CurvesReport(read_logs([demo_log()], "rtmpose-demo"))
curves

# %% [markdown]
# ## The report
# All of it in one file without anything from outside: numbers with protocol and intervals, all epochs,
# errors, findings, curves, worst cases with pictures, and the hashes of what went in. The command line
# makes the same with `workbench report FOLDER --data …`.

# %%
from workbench.diagnosis.run_report import document, run_report
from workbench.figures.document import Input

report = run_report(
    scenes,
    epochs,
    protocols,
    curves=curves,
    history=history,
    inputs=[Input.of("results", history.files[n]) for n in (early, late)],
    commands=[f"workbench report {folder} --data {demo_data()}"],
    worst=4,
    resamples=200,
    indices=some,
)
target = folder.parent / "report.html"
target.write_text(document(report), encoding="utf-8")
print(target.name, f"{target.stat().st_size / 1e6:.2f} MB")
report
