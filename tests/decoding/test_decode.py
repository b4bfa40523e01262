"""Parity with mmpose's codecs, laws, and values by hand."""

import copy

import numpy as np
import pytest
import torch

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs
from workbench.decoding import DECODERS, decode, decoders_for

SIZE, CELLS = (256, 192), (64, 48)


def heatmap_codec(decoder="argmax", udp=False, **options):
    return Codec("heatmap", SIZE, CELLS, decoder=decoder, udp=udp, **options)


def bumps(seed=0, N=3, K=17, noise=0.02, sigma=2.0):
    """Gaussians anywhere, borders and corners included, of random height, in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: CELLS[0], : CELLS[1]]
    centre = rng.uniform(-0.5, [47.5, 63.5], (N, K, 2))
    centre[0, :6] = [[0, 0], [47, 63], [1, 30], [46, 30], [20, 1], [20, 62]]
    height = rng.uniform(0.1, 1.2, (N, K, 1, 1))
    square = (x - centre[..., 0, None, None]) ** 2 + (y - centre[..., 1, None, None]) ** 2
    maps = height * np.exp(-square / 2 / sigma**2) + noise * rng.standard_normal((N, K, *CELLS))
    return maps.astype(np.float32)


def read(maps, codec, **options):
    return decode(Outputs(heatmaps=torch.tensor(maps)), codec, DecodeOptions(**options))


@pytest.mark.parametrize("kernel", [11, 17])
@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp"])
@pytest.mark.parametrize("kind", ["bumps", "random", "clean"])
def test_heatmaps_decode_as_mmposes_codecs_do(codecs, decoder, kernel, kind):
    rng = np.random.default_rng(1)
    maps = {
        "bumps": lambda: bumps(1),
        "random": lambda: rng.uniform(0, 1, (3, 17, *CELLS)).astype(np.float32),
        "clean": lambda: bumps(2, noise=0),
    }[kind]()
    size = {"input_size": SIZE[::-1], "heatmap_size": CELLS[::-1], "sigma": 2.0, "blur_kernel_size": kernel}
    theirs = (
        codecs.UDPHeatmap(**size)
        if decoder == "udp"
        else codecs.MSRAHeatmap(**size, unbiased=decoder == "dark")
    )
    points, scores = read(maps, heatmap_codec(decoder, udp=decoder == "udp", blur_kernel=kernel))
    expected = [theirs.decode(copy.deepcopy(m)) for m in maps]
    wanted = np.concatenate([e[0] for e in expected])
    if decoder == "udp":
        # mmpose divides by w - 1 and multiplies by W; the input pixel is one less, the image pixel the same.
        wanted = wanted / SIZE[::-1] * (np.array(SIZE[::-1]) - 1)
    np.testing.assert_allclose(points, wanted, rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(scores, np.concatenate([e[1] for e in expected]))


@pytest.mark.parametrize("use_dark", [False, True])
def test_simcc_decodes_as_mmposes_codec_does(codecs, use_dark):
    rng = np.random.default_rng(3)
    theirs = codecs.SimCCLabel(SIZE[::-1], sigma=(4.9, 5.66), use_dark=use_dark)
    centre = rng.uniform(0, [384, 512], (4, 17, 2))
    x = np.exp(-((np.arange(384) - centre[..., :1]) ** 2) / 2 / 4.9**2) * rng.uniform(0.2, 1.3, (4, 17, 1))
    y = np.exp(-((np.arange(512) - centre[..., 1:]) ** 2) / 2 / 5.66**2) * rng.uniform(0.2, 1.3, (4, 17, 1))
    x, y = (v.astype(np.float32) + 0.01 * rng.standard_normal(v.shape).astype(np.float32) for v in (x, y))
    codec = Codec("simcc", SIZE, (512, 384), sigma=(4.9, 5.66), decoder="simcc-dark" if use_dark else "simcc")
    points, scores = decode(Outputs(simcc=(torch.tensor(x), torch.tensor(y))), codec)
    wanted, wanted_scores = theirs.decode(x.copy(), y.copy())
    np.testing.assert_allclose(points, wanted, rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(scores, wanted_scores)


def test_argmax_reads_the_cell_by_hand():
    maps = np.zeros((1, 2, *CELLS), np.float32)
    maps[0, 0, 10, 5], maps[0, 1, 63, 47] = 0.7, 0.2
    points, scores = read(maps, heatmap_codec())
    assert points.tolist() == [[[20, 40], [188, 252]]]
    assert scores.tolist() == [pytest.approx([0.7, 0.2])]


def test_the_udp_span_reaches_the_last_input_pixel():
    maps = np.zeros((1, 1, *CELLS), np.float32)
    maps[0, 0, 63, 47] = 1
    points, _ = read(maps, heatmap_codec(udp=True))
    assert points.tolist() == [[[191, 255]]]


def test_scores_above_one_and_both_rules_by_hand():
    x, y = torch.zeros(1, 1, 384), torch.zeros(1, 1, 512)
    x[0, 0, 100], y[0, 0, 31] = 1.3, 0.7
    codec = Codec("simcc", SIZE, (512, 384), decoder="simcc")
    points, least = decode(Outputs(simcc=(x, y)), codec)
    _, mean = decode(Outputs(simcc=(x, y)), codec, DecodeOptions(score="mean"))
    assert points.tolist() == [[[50, 15.5]]]
    assert (least.item(), mean.item()) == (pytest.approx(0.7), pytest.approx(1.0))


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark", "udp"])
def test_no_peak_gives_nan_and_the_score_as_it_is(decoder):
    maps = np.stack([np.zeros((2, *CELLS)), np.full((2, *CELLS), -1.0)]).astype(np.float32)
    points, scores = read(maps, heatmap_codec(decoder))
    assert np.isnan(points).all()
    assert scores.tolist() == [[0, 0], [-1, -1]]


def test_simcc_without_a_positive_peak_gives_nan():
    x, y = torch.full((1, 1, 384), -0.5), torch.ones(1, 1, 512)
    points, scores = decode(Outputs(simcc=(x, y)), Codec("simcc", SIZE, (512, 384), decoder="simcc"))
    assert np.isnan(points).all()
    assert scores.item() == -0.5


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark", "udp"])
def test_a_flat_map_is_read_without_a_warning(decoder):
    with np.errstate(all="raise"):
        points, _ = read(np.ones((1, 3, *CELLS), np.float32), heatmap_codec(decoder))
    assert np.isfinite(points).all()


@pytest.mark.parametrize("name", list(DECODERS))
def test_decoding_leaves_the_outputs_alone(name):
    maps = torch.tensor(bumps(4))
    vectors = torch.tensor(bumps(5)[:, :, 0]), torch.tensor(bumps(5)[..., 0])
    offsets = torch.stack([maps, -maps], 2)
    outputs = Outputs(heatmaps=maps, simcc=vectors, fields={"offsets": offsets})
    given = (maps, *vectors, offsets)
    before = [tensor.clone() for tensor in given]
    codec = Codec(DECODERS[name].kind, SIZE, CELLS, decoder=name)
    first = decode(outputs, codec)
    second = decode(outputs, codec)
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
    np.testing.assert_array_equal(first[0], second[0])


# UDP reads its mixed derivative off two of the four diagonal neighbours only: it has a handedness.
@pytest.mark.parametrize(("decoder", "pixels"), [("argmax", 0), ("dark", 2e-3), ("udp", 0.05)])
def test_decoding_a_mirrored_map_mirrors_the_coordinates(decoder, pixels):
    maps = bumps(6)
    codec = heatmap_codec(decoder, udp=True)
    points, scores = read(maps, codec)
    mirrored, same = read(maps[..., ::-1].copy(), codec)
    np.testing.assert_array_equal(scores, same)
    np.testing.assert_allclose(191 - mirrored[..., 0], points[..., 0], atol=pixels)
    np.testing.assert_allclose(mirrored[..., 1], points[..., 1], atol=pixels)


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark"])
def test_a_scaled_map_has_its_peak_where_it_was(decoder, factor):
    maps = bumps(7, noise=0)
    codec = heatmap_codec(decoder)
    scaled = read(maps * np.float32(factor), codec)[0]
    np.testing.assert_allclose(scaled, read(maps, codec)[0], atol=0.05)


@pytest.mark.parametrize("block", [1, 20, 1000])
def test_the_highest_cell_is_that_of_argmax_for_numbers_of_any_sign(monkeypatch, block):
    """Blocks without a negative number, with one and with nothing else, equal peaks and both zeros."""
    import workbench.decoding.decoders as decoders

    monkeypatch.setattr(decoders, "_BLOCK", block)
    maps = np.random.default_rng(0).integers(-3, 4, (9, 4, 3, 2)).astype(np.float32) / 2
    maps[:3] = np.abs(maps[:3])
    maps[4, 1:] = -np.abs(maps[4, 1:]) - 1
    maps[5, 0], maps[5, 1], maps[5, 2] = 0, -0.0, [[-0.0, 0], [-1, -0.0], [0, -2]]
    for given in (maps, maps[3:], maps[..., ::-1], -maps):
        best, peaks = decoders._highest("heatmap", given)
        flat = given.reshape(*given.shape[:2], -1)
        np.testing.assert_array_equal(best, flat.argmax(-1))
        np.testing.assert_array_equal(peaks, flat.max(-1))


@pytest.mark.parametrize("lowest", [0, -1])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("decoder", ["dark", "udp", "soft-argmax", "megvii"])
def test_a_number_that_is_not_finite_is_named(decoder, number, lowest):
    maps = np.maximum(bumps(0), lowest)
    maps[1, 4, 3, 2] = number
    with pytest.raises(ValueError, match=r"sample 1, keypoint 4 .* not finite \(1 in all\)"):
        read(maps, heatmap_codec(decoder))


@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp"])
def test_the_sample_is_counted_over_all_blocks(decoder):
    maps = np.zeros((80, 17, 32, 32), np.float32)  # more cells than are read in one go
    maps[70, 4, 3, 2] = np.nan
    with pytest.raises(ValueError, match=r"sample 70, keypoint 4 .* not finite \(1 in all\)"):
        read(maps, heatmap_codec(decoder))


def test_a_cell_of_minus_infinity_cannot_be_chosen_and_harms_no_other():
    maps = bumps(0)
    before = read(maps, heatmap_codec("quarter"))
    row, column = np.argwhere(maps[1, 4] == maps[1, 4].max())[0]
    near = maps[1, 4, row - 1 : row + 2, column - 1 : column + 2].copy()
    maps[1, 4] = -np.inf
    maps[1, 4, row - 1 : row + 2, column - 1 : column + 2] = near
    for found, wanted in zip(read(maps, heatmap_codec("quarter")), before, strict=True):
        np.testing.assert_array_equal(found, wanted)
    maps[1, 4, [row - 1, row + 1], column] = -np.inf  # neither is the higher one
    with pytest.raises(ValueError, match=r"sample 1, keypoint 4 .* not finite"):
        read(maps, heatmap_codec("quarter"))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_found_in_every_cell(number):
    # 15 cells: an odd number has no halves.
    for cell in range(15):
        maps = np.zeros((1, 1, 5, 3), np.float32)
        maps.reshape(-1)[cell] = number
        with pytest.raises(ValueError, match="not finite"):
            read(maps, heatmap_codec("argmax"))


def test_the_largest_finite_numbers_are_read():
    maps = np.zeros((1, 2, 16, 12), np.float32)
    maps[0, :, 5, 3] = np.finfo(np.float32).max
    maps[0, 1, 0, 0] = np.finfo(np.float32).min
    points, scores = read(maps, heatmap_codec("argmax"))
    assert np.isfinite(points).all()
    assert (scores == np.finfo(np.float32).max).all()


def test_a_wrong_decoder_is_answered_with_what_there_is():
    with pytest.raises(KeyError, match="nearest: dark"):
        read(bumps(0), heatmap_codec(), decoder="darkk")
    with pytest.raises(NotAvailable, match="argmax, quarter, dark, udp, soft-argmax, megvii"):
        read(bumps(0), heatmap_codec(), decoder="simcc")
    with pytest.raises(ValueError, match="min, mean, max"):
        read(bumps(0), heatmap_codec(), score="median")
    with pytest.raises(ValueError, match="odd number of cells, got 4"):
        read(bumps(0), heatmap_codec("dark", blur_kernel=4))


def test_decoders_are_listed_by_output_and_by_codec():
    assert decoders_for(Outputs(heatmaps=torch.zeros(1, 1, 4, 4))) == [
        *("argmax", "quarter", "dark", "udp", "soft-argmax", "megvii")
    ]
    codec = Codec("simcc", SIZE, (512, 384))
    assert decoders_for(codec) == ["simcc", "simcc-dark", "simcc-soft"]
    assert codec.decoder == "simcc", "the default reads the stated kind of outputs"
    assert Codec("heatmap", SIZE, (64, 48)).decoder == "argmax"
    assert decoders_for(Outputs()) == []
