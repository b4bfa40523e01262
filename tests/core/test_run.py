import json
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core import Codec, DecodeOptions, NotAvailable, Sample, Skeleton
from workbench.core.run import evaluating, redecode, run
from workbench.models import TopDown, open_model

TINY = Path(__file__).parents[1] / "adapters/tiny_heatmap.py"


@pytest.fixture
def tiny():
    return open_model(None, adapter=TINY).model


def lit(box=(4.8, 6.4, 43.2, 57.6)):
    """An image whose red pixel is in heatmap cell (2, 5), its green one in (9, 1); padding 1.25 is undone."""
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 8, 0] = image[4, 36, 1] = 255
    return Sample(image, box, truth=np.array([[8.0, 20, 2], [36, 4, 2]]), key="lit")


def test_one_pass_gives_outputs_and_keypoints_in_image_pixels(tiny):
    done = run(tiny, [lit(), lit()], title="tiny")
    assert done.heatmaps.shape == (2, 2, 16, 12)
    np.testing.assert_allclose(done.keypoints, [[[8, 20], [36, 4]]] * 2, atol=1e-5)
    np.testing.assert_allclose(done.scores, 1, atol=1e-5)
    assert done.predictions[0].box == lit().box
    assert done.title == "tiny"


def test_only_what_was_asked_for_is_recorded(tiny):
    assert run(tiny, [lit()]).activations == {}
    assert list(run(tiny, [lit()], record=["0"]).activations) == ["0"]
    assert set(run(tiny, [lit()], record=["*"]).activations) == set(tiny.taps)


def test_an_unrecorded_tap_says_what_was_recorded(tiny):
    with pytest.raises(NotAvailable, match=r"recorded \['0'\]"):
        run(tiny, [lit()], record=["0"]).activation("stem")


def test_an_unknown_tap_names_near_ones(tiny):
    with pytest.raises(KeyError, match="no tap '00'; nearest: 0"):
        run(tiny, [lit()], record=["00"])


def test_an_intervention_reaches_outputs_and_keypoints(tiny):
    done = run(tiny, [lit()], replace={"0": torch.zeros_like})
    assert done.heatmaps.max() == 0
    assert np.isnan(done.keypoints).all()


def test_other_decoders_need_no_forward_pass(tiny):
    done = run(tiny, [lit()])
    with evaluating(tiny.module):
        tiny.module.forward = None  # a second pass would fail
    again = redecode(done, DecodeOptions("argmax"))
    np.testing.assert_allclose(again.keypoints, [[[8, 20], [36, 4]]], atol=1e-5)
    assert again.outputs is done.outputs


def test_outputs_share_nothing_with_the_network(tiny):
    done = run(tiny, [lit()])
    before = done.heatmaps
    with torch.no_grad():
        tiny.module[0].weight.zero_()
    run(tiny, [lit()])
    np.testing.assert_array_equal(done.heatmaps, before)


def test_every_part_gets_back_the_mode_it_was_in():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()).train()
    net[0].eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert (net.training, net[0].training, net[1].training) == (True, False, True)


def test_the_mode_comes_back_after_a_failure(tiny):
    tiny.module.train()
    with pytest.raises(ValueError, match="box of lit: expected x0 < x1"):
        run(tiny, [lit(box=(5, 5, 5, 9))])
    assert tiny.module.training


def test_the_flip_test_of_a_symmetric_image_changes_nothing(tiny):
    symmetric = np.random.default_rng(0).integers(0, 255, (64, 24, 3)).astype(np.uint8)
    image = np.concatenate([symmetric, symmetric[:, ::-1]], 1)
    sample = Sample(image, (4.8, 6.4, 43.2, 57.6))
    plain, averaged = run(tiny, [sample], record=["0"]), run(tiny, [sample], record=["0"], flip=True)
    # A crop from the middle of a pixel to the middle of another is symmetric but for rounding.
    np.testing.assert_allclose(plain.heatmaps, averaged.heatmaps, atol=0.35)
    assert np.abs(plain.heatmaps - averaged.heatmaps).mean() < 0.1
    assert torch.equal(plain.activation("0"), averaged.activation("0"))


def test_the_flip_test_needs_mirror_pairs():
    model = TopDown(nn.Conv2d(3, 1, 1), Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (64, 48)))
    with pytest.raises(ValueError, match="skeleton one does not say which keypoints are left"):
        run(model, [lit()], flip=True)


def test_a_cancelled_job_ends_within_a_pass_and_other_threads_go_on(jobs):
    running, reached = [], []

    class Layer(nn.Conv2d):
        def forward(self, pixels):
            reached.append(threading.current_thread().name)
            for job in running:
                job.cancel()
            return super().forward(pixels)

    layers = nn.Sequential(Layer(3, 3, 1), Layer(3, 3, 1), Layer(3, 1, 1))
    model = TopDown(layers, Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (64, 48)))

    def work(job):
        run(model, [lit()])
        running.append(job)
        run(model, [lit()])

    job = jobs.start("key", "title", work)
    assert job.wait(60)
    assert (job.state, job.error, len(reached)) == ("cancelled", None, 4)
    assert run(model, [lit()]).heatmaps.shape == (1, 1, 64, 48)


def test_no_samples_is_a_clear_error(tiny):
    with pytest.raises(ValueError, match="at least one sample"):
        run(tiny, [])


def test_a_network_that_diverged_is_named_and_not_decoded():
    net = nn.Conv2d(3, 1, 1)
    nn.init.constant_(net.weight, float("nan"))
    model = TopDown(net, Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (64, 48)))
    with pytest.raises(ValueError, match="heatmap of sample 0, keypoint 0 holds a number that is not finite"):
        run(model, [lit()])


def test_a_skeleton_of_another_size_is_not_available_and_not_guessed():
    net = nn.Conv2d(3, 17, 1)
    model = TopDown(net, Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (64, 48)))
    with pytest.raises(NotAvailable, match="the network gives 17, skeleton one has 1"):
        run(model, [lit()])


def test_an_output_the_codec_does_not_expect_is_described():
    net = nn.Flatten()
    model = TopDown(net, Skeleton("one", ("nose",)), Codec("heatmap", (64, 48), (64, 48)))
    with pytest.raises(ValueError, match=r"returned a tensor \(1, 9216\), but its codec says heatmap"):
        run(model, [lit()])


def test_threads_do_not_mix_their_runs(tiny):
    seen = []

    def one(count):
        for _ in range(10):
            done = run(tiny, [lit()] * count, ["0"])
            seen.append(len(done.activation("0")) == count == len(done.predictions))

    threads = [threading.Thread(target=one, args=(n,)) for n in (1, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 30
    assert all(seen)


def test_lists_and_arrays_of_an_adapter_become_tuples():
    names: Any = ["left", "right"]
    limbs, mirror, sigmas = (np.array(v) for v in ([[0, 1]], [1, 0], [0.06, 0.06]))
    skeleton = Skeleton("two", names, cast(Any, limbs), cast(Any, mirror), cast(Any, sigmas))
    assert skeleton == Skeleton("two", ("left", "right"), ((0, 1),), (1, 0), (0.06, 0.06))
    size, cells, sigma = (cast(Any, v) for v in (np.array([64, 48]), [16, 12], np.array([2.0, 2.0])))
    codec = Codec("heatmap", size, cells, sigma=sigma)
    assert hash((skeleton, codec)) == hash((skeleton, Codec("heatmap", (64, 48), (16, 12))))
    assert json.dumps([codec.input_size, codec.sigma, skeleton.limbs]) == "[[64, 48], [2.0, 2.0], [[0, 1]]]"
    with pytest.raises(ValueError, match=r"codec: expected sigma as two numbers, got 2\.0"):
        Codec("heatmap", (64, 48), (16, 12), sigma=cast(Any, 2.0))
