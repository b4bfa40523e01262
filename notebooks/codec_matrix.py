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
# # Is the output read in the best way, and what does the codec alone cost? The codec matrix
#
# A network leaves heatmaps or SimCC vectors; a decoder makes keypoints of them. Decoder, flip test and
# score rule can be changed without training and without another forward pass. This notebook reads one
# output in every way, says which is best and whether that is luck, and measures what a perfect network
# would lose.

# %%
from workbench.checkpoints.demo import demo_checkpoints, demo_data
from workbench.data import builtin
from workbench.evaluation.codecs import Moves, Person, Setup, codec_errors, codec_matrix
from workbench.models import open_model

loaded = open_model(demo_checkpoints()[-1])
scenes = builtin(demo_data())

# %% [markdown]
# ## One pass, many questions
# Each crop goes through the network once, and its mirror image once. Everything else is reading.
# Intervals are 95 % of the difference in AP from the model's own reading over resampled images; `*`
# marks those without zero.

# %%
images = list(scenes.labelled_of_image)[:8]
matrix = codec_matrix(loaded.model, scenes, images, title=loaded.title, resamples=200)
matrix

# %%
print(matrix.text())

# %% [markdown]
# `verdict` is `own` (nothing else has more AP), `within` (something has, within the interval that holds
# for all variants at once) or `better`. A flip test is not among the rivals of a reading without one:
# it costs a second pass. `to_findings()` names what is read wrongly, if anything is.

# %%
print(matrix.verdict, [finding.cause for finding in matrix.to_findings()])

# %% [markdown]
# ## Where does another decoder move the keypoints?
# Arrows lead from the model's own keypoints to those of another reading, lengthened as the title says.
# A bias that is the same for all keypoints comes from decoder, cells or flip.

# %%
Moves(matrix, "simcc, flip")

# %% [markdown]
# ## What would a perfect network lose?
# Encode a keypoint as in training, decode it as in inference: the difference is the codec's alone. The
# map shows it over the input, the curve by distance from the edge. DARK is exact inside, and not within
# two cells of the edge; SimCC with DARK can miss by a hundred pixels there, in mmpose as well.

# %%
codec_errors([Setup((256, 192))])

# %% [markdown]
# ## A plain Gaussian at 256 x 192 against UDP at 1024 x 768
# The second size is that of Sapiens (sigma 6). The errors differ ten times, in pixels of the image; the
# AP that they leave hardly does for a person of this size. Whoever misses AP should look elsewhere
# first.

# %%
plain, sapiens = Setup((256, 192), (64, 48), 2.0), Setup((1024, 768), (256, 192), 6.0)
codec_errors([plain, sapiens], ["quarter", "udp"], person=Person(100, 200))

# %% [markdown]
# For small inputs the codec does matter: cells of four pixels in an input of 64 x 48.

# %%
print(codec_errors([Setup((64, 48))], ["argmax", "dark", "udp", "simcc"]).text())

# %% [markdown]
# ## A planted mismatch
# The same network, declared with the wrong decoder, is told by the matrix: the better variant is named.

# %%
from dataclasses import replace

import numpy as np
import torch

from workbench.core import Codec, Outputs
from workbench.core.geometry import apply, inverse
from workbench.decoding.targets import target
from workbench.models import TopDown

# A network that has learned everything: it leaves the target of the annotation, by DARK's encoding.
taught = Codec("heatmap", (64, 48), (16, 12), (2.0, 2.0), decoder="dark")


class Perfect(TopDown):
    """Returns the codec's own target."""

    def forward(self, batch):
        points, seen = [], []
        for sample, affine in zip(batch.samples, batch.to_image, strict=True):
            points.append(apply(inverse(affine), sample.truth[:, :2]))
            seen.append(sample.truth[:, 2] > 0)
        made = target(taught, np.stack(points), np.stack(seen).astype(float))
        return Outputs(heatmaps=torch.from_numpy(made["heatmaps"]))


skeleton = replace(scenes.skeleton, mirror=())  # its maps come from annotations: nothing to mirror
declared = Perfect(torch.nn.Identity(), skeleton, replace(taught, decoder="argmax"), device="cpu")
wrong = codec_matrix(declared, scenes, images, title="read with argmax", resamples=200)
for finding in wrong.to_findings():
    print(finding.text())
wrong
