"""Parity with mmpose's encodings, and how far encoding and decoding lose."""

import numpy as np
import pytest
import torch

from workbench.core import Codec, Outputs
from workbench.decoding import decode
from workbench.decoding.targets import target

SIZE, CELLS = (256, 192), (64, 48)


def points(seed=0, N=4, K=17, margin=30):
    """Anywhere in the input and up to `margin` pixels outside it, on ties of rounding too."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-margin, np.array(SIZE[::-1]) + margin, (N, K, 2))
    drawn[0, :5] = [[0, 0], [2, 2], [6, 6], [191, 255], [192.25, 10.75]]
    return drawn, (rng.random((N, K)) > 0.2).astype(float)


@pytest.mark.parametrize("sigma", [2.0, 3.0, 1.5])
@pytest.mark.parametrize("kind", ["msra", "unbiased", "udp"])
def test_heatmap_targets_equal_mmposes(codecs, kind, sigma):
    options = {"input_size": SIZE[::-1], "heatmap_size": CELLS[::-1], "sigma": sigma}
    theirs = {
        "msra": lambda: codecs.MSRAHeatmap(**options),
        "unbiased": lambda: codecs.MSRAHeatmap(**options, unbiased=True),
        "udp": lambda: codecs.UDPHeatmap(**options),
    }[kind]()
    decoder = {"msra": "quarter", "unbiased": "dark", "udp": "udp"}[kind]
    codec = Codec("heatmap", SIZE, CELLS, (sigma, sigma), udp=kind == "udp", decoder=decoder, mmpose_cut=True)
    drawn, visible = points()
    ours = target(codec, drawn, visible)
    for n in range(len(drawn)):
        wanted = theirs.encode(drawn[n : n + 1], visible[n : n + 1])
        np.testing.assert_allclose(ours["heatmaps"][n], wanted["heatmaps"], atol=1e-6)
        np.testing.assert_array_equal(ours["weights"][n], wanted["keypoint_weights"][0])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("split", [2.0, 3.0])
def test_simcc_targets_equal_mmposes(codecs, normalize, split):
    theirs = codecs.SimCCLabel(SIZE[::-1], sigma=(4.9, 5.66), simcc_split_ratio=split, normalize=normalize)
    bins = int(256 * split), int(192 * split)
    codec = Codec("simcc", SIZE, bins, (4.9, 5.66), split, normalized=normalize, decoder="simcc")
    drawn, visible = points(1)
    ours, wanted = target(codec, drawn, visible), theirs.encode(drawn, visible)
    np.testing.assert_allclose(ours["simcc"][0], wanted["keypoint_x_labels"], atol=1e-6)
    np.testing.assert_allclose(ours["simcc"][1], wanted["keypoint_y_labels"], atol=1e-6)
    np.testing.assert_array_equal(ours["weights"], wanted["keypoint_weights"])


@pytest.mark.parametrize(
    ("codec", "bound"),
    [
        # The nearest cell is half a cell off at most: 2 of 4 pixels.
        (Codec("heatmap", SIZE, CELLS, decoder="argmax"), 2.0),
        (Codec("heatmap", SIZE, CELLS, decoder="dark"), 0.05),
        (Codec("heatmap", SIZE, CELLS, decoder="udp", udp=True), 0.2),
        # Half a bin of half a pixel.
        (Codec("simcc", SIZE, (512, 384), (4.9, 5.66), decoder="simcc"), 0.25),
    ],
)
def test_encoding_and_decoding_lose_no_more_than_the_codec_must(codec, bound):
    inside = np.random.default_rng(2).uniform(40, [150, 210], (3, 17, 2))
    encoded = target(codec, inside, np.ones((3, 17)))
    maps = torch.tensor(encoded["heatmaps"]) if "heatmaps" in encoded else None
    simcc = tuple(map(torch.tensor, encoded["simcc"])) if "simcc" in encoded else None
    decoded, scores = decode(Outputs(heatmaps=maps, simcc=simcc), codec)
    assert np.abs(decoded - inside).max() <= bound + 1e-6
    assert scores.max() <= 1 + 1e-6


def test_a_point_that_is_nan_has_an_empty_target():
    codec = Codec("heatmap", SIZE, CELLS)
    made = target(codec, np.array([[[np.nan, np.nan], [96, 128]]]), np.ones((1, 2)))
    assert made["weights"].tolist() == [[0, 1]]
    assert made["heatmaps"].max((2, 3)).tolist() == [[0, 1]]


def test_points_that_do_not_fit_their_visibility_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 17, 2\) and \(1, 26\)"):
        target(Codec("heatmap", SIZE, CELLS), np.zeros((1, 17, 2)), np.zeros((1, 26)))
