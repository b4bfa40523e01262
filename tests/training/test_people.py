"""Whole images as targets, and a bottom-up network that learns one by heart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from workbench.core import DecodeOptions, Outputs, Sample, Skeleton
from workbench.models.fresh import new_model
from workbench.models.higherhrnet.model import new_higherhrnet
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.training.people import Emphasis, TaughtPeople, people_losses, people_target, with_everybody
from workbench.training.sequences import trainable
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

TRIANGLE = Skeleton("triangle-3", ("left", "right", "top"), ((0, 1),), (1, 0, 2), (0.05,) * 3, "made up")


def outputs(fine=(16, 16), coarse=(8, 8), K=2, T=2, N=1):
    return Outputs(
        heatmaps=torch.zeros(N, K, *fine), coarse=torch.zeros(N, K, *coarse), tags=torch.zeros(N, T, *coarse)
    )


def somebody(*points):
    return np.array([[[x, y, 2] for x, y in points]], float)


def test_a_peak_is_1_where_the_middle_of_its_cell_is_the_keypoint():
    # Input 32 x 32, maps of 16 and 8 cells: cell (3, 5) of the finer has its middle at (7, 11).
    target = people_target([somebody((7, 11), (8, 11))], (32, 32), outputs(), sigma=1.0)
    first, second = target.heatmaps.heatmaps[0]
    assert first[5, 3] == 1 == first.max()
    # On the border between cells 3 and 4 both are half a cell off.
    assert second[5, 3] == second[5, 4] == pytest.approx(np.exp(-0.125))
    # At the coarser resolution (7, 11) is (1.75, 2.75), a quarter cell from the middle of (1, 2).
    assert target.coarse.heatmaps[0, 0, 2, 1] == pytest.approx(np.exp(-(0.25**2 + 0.25**2) / 2))


def test_where_two_people_meet_the_higher_peak_counts():
    both = np.concatenate([somebody((7, 11), (7, 11)), somebody((11, 11), (25, 25))])
    map0 = people_target([both], (32, 32), outputs(), sigma=1.0).heatmaps.heatmaps[0, 0]
    assert map0[5, 3] == map0[5, 5] == 1
    assert map0[5, 4] == pytest.approx(np.exp(-0.5))


def test_nobody_is_an_empty_target_that_can_be_learned_from():
    given = outputs()
    given.tags.requires_grad_()
    target = people_target([np.zeros((0, 2, 3))], (32, 32), given)
    assert target.heatmaps.heatmaps.max() == 0
    losses = people_losses(given, target)
    assert sum(losses.values()).item() == 0
    sum(losses.values()).backward()


def test_a_tag_is_read_in_the_cell_that_holds_the_keypoint_and_not_outside():
    target = people_target([somebody((7.9, 8), (-1, 3))], (32, 32), outputs())
    assert target.places[0].tolist() == [[[2 * 8 + 1, 1], [0, 0]]]


def test_an_unlabelled_keypoint_has_neither_peak_nor_tag():
    person = somebody((7, 11), (20, 20))
    person[0, 1, 2] = 0
    target = people_target([person], (32, 32), outputs())
    assert target.heatmaps.heatmaps[0, 1].max() == 0
    assert target.places[0][0, 1, 1] == 0


def test_one_tag_map_for_all_keypoints_is_read_in_all_their_places():
    given = outputs(T=1)
    given.tags[0, 0, 2, 1] = 3.0
    target = people_target([somebody((7, 11), (20, 20))], (32, 32), given)
    # One keypoint has tag 3, the other 0: each is 1.5 from their mean.
    losses = people_losses(given, target, Emphasis(tags=1.0))
    assert losses["pull"].item() == pytest.approx(1.5**2)


def test_foreground_weighs_a_cell_by_what_it_should_have_been():
    given = outputs()
    target = people_target([somebody((7, 11), (7, 11))], (32, 32), given)
    wanted = target.heatmaps.heatmaps
    plain = people_losses(given, target)["fine"]
    weighed = people_losses(given, target, Emphasis(foreground=10.0))["fine"]
    torch.testing.assert_close(plain, (wanted**2).mean())
    torch.testing.assert_close(weighed, (wanted**2 * (1 + 10 * wanted)).mean())


def test_the_tag_loss_is_a_mean_over_images():
    one, two = outputs(), outputs(N=2)
    person = somebody((7, 11), (20, 20))
    for given in (one, two):
        given.tags[:, 0, 2, 1] = 3.0
    alone = people_losses(one, people_target([person], (32, 32), one))["pull"]
    torch.testing.assert_close(people_losses(two, people_target([person] * 2, (32, 32), two))["pull"], alone)


def test_told_tags_are_the_persons_place_from_left_to_right():
    given = outputs()
    # Keypoints at 4 and 12 of 32: the person stands at a quarter, -1/4 from the middle.
    target = people_target([somebody((4, 11), (12, 11))], (32, 32), given)
    assert target.across[0].tolist() == [-0.25]
    given.tags[0, 0, 2, 1] = -2.0
    losses = people_losses(given, target, Emphasis(tags=1.0, position=8.0))
    # One keypoint says -2, as it is told; the other 0.
    assert losses["position"].item() == pytest.approx(2.0**2 / 2)
    assert "position" not in people_losses(given, target)


def test_heatmaps_alone_cannot_be_taught_people():
    with pytest.raises(ValueError, match="expected heatmaps and tags"):
        people_target([somebody((7, 11))], (32, 32), Outputs(heatmaps=torch.zeros(1, 1, 16, 16)))


def scene(shift=0.0):
    """Two people, each three coloured dots on noise, in one picture."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 40, (64, 64, 3), dtype=np.uint8)
    samples = []
    for x, y in ((6, 10), (36, 34)):
        points = np.array([[x, y], [x + 20, y + 2], [x + 9, y + 18]], float)
        for k, (a, b) in enumerate(points.astype(int)):
            image[b - 2 : b + 3, a - 2 : a + 3, k] = 250
        truth = np.concatenate([points, np.full((3, 1), 2)], 1)
        box = (x - 4.0, y - 4.0, x + 24.0, y + 22.0)
        samples.append((box, truth))
    return [Sample(image, box, truth, key=f"dots/{i}") for i, (box, truth) in enumerate(samples)]


def small(seed=0):
    torch.manual_seed(seed)
    architecture = Architecture(8, 3, 3, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
    return new_higherhrnet(HigherHRNet(architecture), TRIANGLE, 64)


def test_people_of_one_image_are_one_row_and_each_has_a_prediction():
    taught = TaughtPeople(small())
    batch = taught.prepare(scene())
    assert batch.pixels.shape == (1, 3, 64, 64)
    assert [len(people) for people in batch.extra["people"]] == [2]
    taught.module.eval()
    with torch.no_grad():
        found = taught.decode(taught.forward(batch), batch, DecodeOptions())
    assert len(found) == 2


def test_perfect_maps_give_every_keypoint_back_within_a_quarter_of_a_cell():
    taught = TaughtPeople(small())
    batch = taught.prepare(scene())
    like = outputs((32, 32), (16, 16), K=3, T=3)
    target = people_target(batch.extra["people"], (64, 64), like)
    for n, person in enumerate(target.places[0]):
        for k, (index, _) in enumerate(person.tolist()):
            # Around the keypoint, for what lies between cells is asked of the neighbours too.
            y, x = divmod(index, 16)
            like.tags[0, k, y - 1 : y + 2, x - 1 : x + 2] = 5.0 * n
    perfect = Outputs(heatmaps=target.heatmaps.heatmaps, coarse=target.coarse.heatmaps, tags=like.tags)
    for prediction, sample in zip(taught.decode(perfect, batch, DecodeOptions()), batch.samples, strict=True):
        # A cell of the finer maps is two pixels.
        assert np.abs(prediction.keypoints - sample.truth[:, :2]).max() <= 0.5


def test_a_small_network_learns_to_find_two_people_and_to_tell_them_apart():
    model = trainable(small())
    assert isinstance(model, TaughtPeople)
    model.emphasis = Emphasis(foreground=10.0, tags=0.01)
    trainer = Trainer(model, scene(), Settings(steps=80, learning_rate=5e-3, measure_every=80))
    rows = [trainer.step() for _ in range(80)]
    assert {"loss/fine", "loss/coarse", "loss/pull", "loss/push"} <= set(rows[-1])
    assert rows[-1]["pck"] >= 0.9


def test_the_others_in_an_image_are_taught_too():
    first, second = scene()
    alone = dataclasses.replace(first, others=(second,))
    batch = TaughtPeople(small()).prepare([alone])
    assert len(batch) == len(batch.samples) == 1
    assert len(batch.extra["people"][0]) == 2
    both = TaughtPeople(small()).prepare([alone, dataclasses.replace(second, others=(first,))])
    assert len(both.extra["people"][0]) == 2


def test_everybody_of_the_chosen_images_is_judged_once():
    first, second = scene()
    second = dataclasses.replace(second, others=(first,))
    assert [s.key for s in with_everybody([second, first])] == ["dots/1", "dots/0"]


def test_a_bottom_up_family_starts_afresh():
    model, title = new_model("higherhrnet", skeleton="ap10k-17")
    assert title == "higherhrnet from first weights"
    assert model.skeleton.name == "ap10k-17"
    assert model.input_size == 192


def test_decoders_of_top_down_models_are_refused():
    taught = TaughtPeople(small())
    with pytest.raises(ValueError, match="groups detections"):
        taught.decode(outputs(), taught.prepare(scene()), DecodeOptions(decoder="dark"))
