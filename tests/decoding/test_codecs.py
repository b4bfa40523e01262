"""Codecs by name: parity of encoding and decoding with mmpose's, laws of decoders, sizes that do not fit."""

import copy

import numpy as np
import pytest
import torch

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs
from workbench.decoding import DECODERS, decode, decoders_for
from workbench.decoding.codecs import CODECS, checked_heatmap, codec_for, encode_decode, size_of
from workbench.decoding.targets import target

SIZE, CELLS = (256, 192), (64, 48)
HEATMAPS = [name for name, codec in CODECS.items() if codec.kind == "heatmap" and not DECODERS[name].offsets]
SIZES = [
    ((256, 192), (64, 48), 2.0),
    ((384, 288), (96, 72), 3.0),
    ((256, 256), (64, 64), 2.0),
    ((1024, 768), (256, 192), 6.0),
    ((128, 96), (64, 48), 1.5),
]


def reference(codecs, codec):
    """mmpose's codec with the same settings."""
    size = {"input_size": codec.input_size[::-1]}
    if codec.kind == "simcc":
        more = {"sigma": codec.sigma, "simcc_split_ratio": codec.split_ratio, "normalize": codec.normalized}
        return codecs.SimCCLabel(**size, **more, use_dark=codec.decoder == "simcc-dark")
    size["heatmap_size"] = codec.output_size[::-1]
    if codec.decoder == "megvii":
        return codecs.MegviiHeatmap(**size, kernel_size=codec.blur_kernel)
    size |= {"sigma": codec.sigma[0], "blur_kernel_size": codec.blur_kernel}
    if codec.decoder == "udp":
        return codecs.UDPHeatmap(**size)
    return codecs.MSRAHeatmap(**size, unbiased=codec.decoder == "dark")


def through_mmpose(theirs, codec, points):
    """mmpose's decoding of mmpose's encoding, (x, y) in input pixels; nan where it gives no weight."""
    made = theirs.encode(points[None], np.ones((1, len(points))))
    if codec.kind == "simcc":
        found, _ = theirs.decode(made["keypoint_x_labels"].copy(), made["keypoint_y_labels"].copy())
    else:
        found, _ = theirs.decode(made["heatmaps"].copy())
    if codec.decoder == "udp":
        # mmpose divides by w - 1 and multiplies by W; the input pixel is one less, the image pixel the same.
        found = found / codec.input_size[::-1] * (np.array(codec.input_size[::-1]) - 1)
    return np.where(made["keypoint_weights"].reshape(-1, 1) > 0, found[0], np.nan)


def places(codec, count=40, seed=0):
    """All over the input, corners, edges and ties of rounding included."""
    H, W = codec.input_size
    drawn = np.random.default_rng(seed).uniform(0, [W - 1, H - 1], (count, 2))
    drawn[:6] = [[0, 0], [W - 1, H - 1], [W - 1, 0], [2, H / 2], [W / 2, 6], [W / 2, H - 2.5]]
    return drawn


@pytest.mark.parametrize(("size", "cells", "sigma"), SIZES)
@pytest.mark.parametrize("name", ["quarter", "dark", "udp", "megvii"])
def test_encoding_and_decoding_heatmaps_gives_what_mmposes_codec_gives(codecs, name, size, cells, sigma):
    codec = codec_for(name, size, cells, sigma, blur_kernel=17 if sigma == 3 else 11)
    points = places(codec, 40 if cells[0] < 200 else 8)
    wanted = through_mmpose(reference(codecs, codec), codec, points)
    np.testing.assert_allclose(encode_decode(codec, points), wanted, atol=1e-3)


@pytest.mark.parametrize(("size", "split"), [((256, 192), 2.0), ((384, 288), 2.0), ((256, 256), 3.0)])
@pytest.mark.parametrize("name", ["simcc", "simcc-dark"])
def test_encoding_and_decoding_simcc_gives_what_mmposes_codec_gives(codecs, name, size, split):
    codec = codec_for(name, size, split_ratio=split)
    points = places(codec)
    wanted = through_mmpose(reference(codecs, codec), codec, points)
    # Near an edge DARK's curvature may vanish; the step is then as large as rounding makes it.
    sound = np.abs(wanted - points).max(1) < 5
    assert sound.mean() > 0.9
    np.testing.assert_allclose(encode_decode(codec, points)[sound], wanted[sound], atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 11, 17])
def test_megvii_targets_equal_mmposes(codecs, kernel):
    codec = codec_for("megvii", SIZE, CELLS, blur_kernel=kernel)
    theirs = reference(codecs, codec)
    points = places(codec)[None]
    points[0, 6:9] = [[-3, 20], [200, 20], [20, 300]]
    visible = np.ones(points.shape[:2])
    visible[0, 9] = 0
    ours, wanted = target(codec, points, visible), theirs.encode(points, visible)
    np.testing.assert_allclose(ours["heatmaps"][0], wanted["heatmaps"], atol=1e-4)
    np.testing.assert_array_equal(ours["weights"], wanted["keypoint_weights"])


def test_megvii_decodes_maps_of_a_network_as_mmpose_does(codecs):
    codec = codec_for("megvii", SIZE, CELLS)
    maps = (np.random.default_rng(2).uniform(0, 255, (2, 17, *CELLS))).astype(np.float32)
    points, scores = decode(Outputs(heatmaps=maps), codec)
    wanted = [reference(codecs, codec).decode(copy.deepcopy(one)) for one in maps]
    np.testing.assert_allclose(points, np.concatenate([w[0] for w in wanted]), atol=1e-3)
    np.testing.assert_allclose(scores, np.concatenate([w[1] for w in wanted]), atol=1e-5)


def gaussian(x, y, sigma=2.0, height=1.0, cells=CELLS):
    rows, columns = np.mgrid[: cells[0], : cells[1]]
    square = (columns - x) ** 2 + (rows - y) ** 2
    return (height * np.exp(-square / 2 / sigma**2)).astype(np.float32)[None, None]


@pytest.mark.parametrize(
    ("decoder", "cells"), [("dark", 0.01), ("udp", 0.01), ("soft-argmax", 0.04), ("quarter", 0.36)]
)
def test_a_gaussian_between_cells_is_recovered(decoder, cells):
    rng = np.random.default_rng(3)
    for x, y in rng.uniform(10, [37, 53], (20, 2)):
        codec = Codec("heatmap", SIZE, CELLS, decoder=decoder)
        (((px, py),),), _ = decode(Outputs(heatmaps=gaussian(x, y)), codec)
        assert np.hypot(px / 4 - x, py / 4 - y) < cells


@pytest.mark.parametrize("decoder", HEATMAPS)
def test_a_shifted_map_has_its_keypoint_shifted(decoder):
    codec = Codec("heatmap", SIZE, CELLS, decoder=decoder)
    first = decode(Outputs(heatmaps=gaussian(20.3, 30.6)), codec)[0]
    second = decode(Outputs(heatmaps=gaussian(25.3, 27.6)), codec)[0]
    np.testing.assert_allclose(second - first, [[[20, -12]]], atol=0.02)


@pytest.mark.parametrize("decoder", [name for name, codec in CODECS.items() if codec.kind == "simcc"])
def test_shifted_vectors_have_their_keypoint_shifted(decoder):
    codec = codec_for(decoder, SIZE)

    def vector(centre, bins, sigma):
        return np.exp(-((np.arange(bins) - centre) ** 2) / 2 / sigma**2).astype(np.float32)[None, None]

    def read(x, y):
        vectors = vector(x, 384, codec.sigma[0]), vector(y, 512, codec.sigma[1])
        return decode(Outputs(simcc=vectors), codec)[0]

    np.testing.assert_allclose(read(110.3, 90.4) - read(100.3, 100.4), [[[5, -5]]], atol=0.02)


def test_soft_argmax_by_hand():
    """Two cells of equal height: their middle; the height of the map does not matter; nothing is nan."""
    maps = np.zeros((1, 3, 16, 12), np.float32)
    maps[0, 0, 5, [3, 4]] = 0.7
    maps[0, 1, 5, [3, 4]] = 0.001
    codec = Codec("heatmap", (64, 48), (16, 12), decoder="soft-argmax", sigma=(3.0, 3.0))
    points, scores = decode(Outputs(heatmaps=maps), codec)
    np.testing.assert_allclose(points[0, :2], [[14, 20], [14, 20]], atol=1e-4)
    assert np.isnan(points[0, 2]).all()
    assert scores[0].tolist() == pytest.approx([0.7, 0.001, 0])


def test_soft_argmax_lies_between_two_people():
    maps = np.maximum(gaussian(10, 20), gaussian(30, 20))
    codec = Codec("heatmap", SIZE, CELLS, decoder="soft-argmax")
    points, _ = decode(Outputs(heatmaps=maps), codec)
    np.testing.assert_allclose(points, [[[80, 80]]], atol=0.1)


@pytest.mark.parametrize(("rule", "wanted"), [("min", 0.7), ("mean", 1.0), ("max", 1.3)])
def test_scores_of_two_peaks_by_hand(rule, wanted):
    x, y = np.zeros((1, 1, 384), np.float32), np.zeros((1, 1, 512), np.float32)
    x[0, 0, 100], y[0, 0, 31] = 1.3, 0.7
    codec = codec_for("simcc-soft", SIZE)
    points, scores = decode(Outputs(simcc=(x, y)), codec, DecodeOptions(score=rule))
    assert scores.item() == pytest.approx(wanted)
    np.testing.assert_allclose(points, [[[50, 15.5]]], atol=1e-4)


@pytest.mark.parametrize("decoder", ["dark", "udp"])
def test_blurring_near_the_peak_alone_changes_nothing(codecs, decoder):
    """Low, negative and large maps, for which the scale after the blur decides what is clipped."""
    rng = np.random.default_rng(5)
    maps = np.concatenate([gaussian(x, y, 1.5) for x, y in rng.uniform(0, [47, 63], (24, 2))], 1)
    maps[0, :6] *= np.array([1e-3, 2e-3, 0.02, 60, 400, 1e-6], np.float32)[:, None, None]
    maps[0, 6:12] += rng.normal(0, 0.05, (6, *CELLS)).astype(np.float32)
    maps[0, 12:16] = rng.normal(0, 1, (4, *CELLS)).astype(np.float32) ** 3
    codec = Codec("heatmap", SIZE, CELLS, decoder=decoder, udp=decoder == "udp")
    theirs = reference(codecs, codec)
    wanted = theirs.decode(maps[0].copy())[0]
    if decoder == "udp":
        wanted = wanted / SIZE[::-1] * (np.array(SIZE[::-1]) - 1)
    np.testing.assert_allclose(decode(Outputs(heatmaps=maps), codec)[0], wanted, atol=1e-3)


def test_sizes_and_defaults_by_hand():
    assert size_of("192x256") == (256, 192)
    assert codec_for("udp", (1024, 768)).output_size == (256, 192)
    assert codec_for("dark", (256, 192)).sigma == (2, 2)
    assert codec_for("dark", (384, 288)).sigma == (3, 3)
    # RTMPose's configs: 4.9 and 5.66 for 192 and 256, 6 and 6.93 for 288 and 384.
    np.testing.assert_allclose(codec_for("simcc", (256, 192)).sigma, (4.9, 5.66), atol=0.005)
    np.testing.assert_allclose(codec_for("simcc", (384, 288)).sigma, (6, 6.93), atol=0.005)
    assert codec_for("simcc", (256, 192), split_ratio=3).output_size == (768, 576)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: codec_for("udp", (256, 192), (48, 64)), "width and height are exchanged, such as 48x64"),
        (lambda: codec_for("udp", (256, 192), (64, 64)), r"3 pixels wide and 4 high"),
        (lambda: codec_for("udp", (64, 48), (128, 96)), "larger than the input 48x64"),
        (
            lambda: codec_for("udp", (256, 192), (2, 1)),
            "heatmap: expected at least 4 along each side, got 1x2",
        ),
        (lambda: codec_for("udp", (256, 192), sigma=0.0), "sigma: expected a number above 0, got 0"),
        (lambda: codec_for("simcc", (256, 192), split_ratio=-2), "split ratio: expected a number above 0"),
        (lambda: codec_for("simcc", (255, 191), split_ratio=1.5), "286.5 and 382.5 bins"),
        (lambda: codec_for("dark", (256, 192), blur_kernel=4), "odd number of cells, got 4"),
        (lambda: codec_for("dark", (1 << 14, 1 << 14)), "is refused"),
        (lambda: size_of("192"), "such as 192x256, got '192'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(ask, said):
    with pytest.raises(ValueError, match=said) as raised:
        ask()
    assert "\n" not in str(raised.value)


def test_an_unknown_codec_is_answered_with_near_ones():
    with pytest.raises(KeyError, match="nearest: udp"):
        codec_for("upd", (256, 192))


def test_odd_sizes_that_strides_round_are_accepted():
    assert checked_heatmap((250, 190), (63, 48)) == (63, 48)


def test_a_place_outside_of_the_input_has_no_position():
    codec = codec_for("dark", SIZE)
    decoded = encode_decode(codec, np.array([[-2.0, 20], [20, 256.0], [20, 20]]))
    assert np.isnan(decoded).all(1).tolist() == [True, True, False]


def test_many_places_are_decoded_block_by_block_with_equal_results(monkeypatch):
    codec = codec_for("udp", SIZE)
    points = places(codec, 50)
    whole = encode_decode(codec, points)
    monkeypatch.setattr("workbench.decoding.codecs.BLOCK", 7 * 64 * 48)
    np.testing.assert_array_equal(encode_decode(codec, points), whole)


@pytest.mark.parametrize("size", [(256, 192), (192, 256), (256, 256)])
def test_udps_combined_form_is_encoded_and_decoded_as_mmpose_does(codecs, size):
    H, W = size
    theirs = codecs.UDPHeatmap((W, H), (W // 4, H // 4), heatmap_type="combined")
    codec = codec_for("udp-combined", size)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (W - 1, H - 1), (3, 17, 2))
    points[0, :4] = (0, 0), (W - 1, H - 1), (W - 1, 0), (3.9, H - 1.2)
    made = target(codec, points, np.ones((3, 17)))
    noise = rng.normal(0, 0.02, (3, 17, 3, H // 4, W // 4)).astype(np.float32)
    for n in range(3):
        encoded = theirs.encode(points[n : n + 1].astype(np.float32), np.ones((1, 17), np.float32))
        maps = encoded["heatmaps"].reshape(17, 3, H // 4, W // 4)
        radius = theirs.radius_factor * max(H // 4, W // 4)
        assert codec.sigma[0] == radius
        # A cell on the circle may fall to either side by the rounding of the reference's float32.
        assert (maps[:, 0] != made["heatmaps"][n]).sum() <= 2
        np.testing.assert_allclose(maps[:, 1:] * radius, made["offsets"][n], atol=1e-4)
        noisy = maps + noise[n]
        wanted, scores = theirs.decode(noisy.reshape(-1, H // 4, W // 4).copy())
        fields = {"offsets": torch.from_numpy(noisy[None, :, 1:] * np.float32(radius))}
        found, own_scores = decode(
            Outputs(heatmaps=torch.from_numpy(noisy[None, :, 0]), fields=fields), codec
        )
        # mmpose multiplies by the input's size where the last pixel is one less.
        np.testing.assert_allclose(found[0], wanted[0] / (W, H) * (W - 1, H - 1), atol=1e-3)
        np.testing.assert_allclose(own_scores[0], scores[0], atol=1e-6)


def test_a_perfect_combined_target_is_read_exactly_also_at_the_border():
    codec = codec_for("udp-combined", (256, 192))
    points = np.random.default_rng(1).uniform(0, (191, 255), (200, 2))
    assert np.abs(encode_decode(codec, points) - points).max() < 1e-4


def test_offsets_that_do_not_belong_to_the_class_maps_are_refused():
    codec = codec_for("udp-combined", (64, 48))
    maps = np.ones((1, 2, 16, 12), np.float32)
    assert "udp-combined" not in decoders_for(Outputs(heatmaps=maps))
    assert "udp-combined" in decoders_for(codec)
    assert "udp-combined" not in decoders_for(codec_for("udp", (64, 48)))
    with pytest.raises(NotAvailable, match="can be read by argmax"):
        decode(Outputs(heatmaps=maps), codec)
    with pytest.raises(ValueError, match=r"offsets: expected one \(x, y\) for each cell"):
        decode(Outputs(heatmaps=maps, fields={"offsets": np.ones((1, 2, 2, 8, 12), np.float32)}), codec)
    broken = np.zeros((1, 2, 2, 16, 12), np.float32)
    broken[0, 1, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="offsets of sample 0, keypoint 1 holds a number that is not finite"):
        decode(Outputs(heatmaps=maps, fields={"offsets": broken}), codec)
