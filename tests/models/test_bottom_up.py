"""Bottom-up models: the published way in, through the maps and back; perfect maps; every rule; bad input."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.models import resize_align
from workbench.core import DecodeOptions, NotAvailable, Outputs, Sample, geometry
from workbench.core.run import run
from workbench.decoding.grouping import HIGHERHRNET, MMPOSE
from workbench.models.bottom_up import Aggregation, BottomUp, rule_names, true_outputs, with_rules
from workbench.models.bottom_up.aggregation import resizing
from workbench.models.bottom_up.model import typed
from workbench.models.higherhrnet.model import new_higherhrnet
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]
SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
# Heights and widths: odd ones, squares, portraits, and sides of which rounding makes more or less.
SIZES = [(61, 83), (83, 61), (64, 64), (97, 33), (33, 97), (120, 160), (101, 203), (480, 640)]


def picture(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def whole(image, key="whole"):
    h, w = image.shape[:2]
    return Sample(image, (0, 0, w, h), key=key)


def network(seed=0, **changes):
    """Random weights loud enough to give detections."""
    torch.manual_seed(seed)
    made = HigherHRNet(dataclasses.replace(SMALL, **changes)).eval()
    for part in made.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(part.weight)
    with torch.no_grad():
        for layer in made.final_layers:
            layer.bias[:17] += 0.2
    return made


def perfect(people, shape=(120, 160), size=128, **changes):
    """A model, its batch of one image and outputs as a perfect network would give them."""
    model = BottomUp(nn.Identity(), COCO, 17, input_size=size, **changes)
    batch = model.prepare([whole(picture(*shape))])

    def blank(pixels):
        h, w = pixels.shape[-2:]
        maps = [torch.zeros(1, c, h // s, w // s) for c, s in ((17, 2), (17, 4), (model.tags, 4))]
        return Outputs(heatmaps=maps[0], coarse=maps[1], tags=maps[2])

    others = {f"x{s:g}": blank(p) for s, p in batch.extra["scales"].items()}
    passes = {"mirrored": blank(batch.pixels), **others}
    like = dataclasses.replace(blank(batch.pixels), passes=passes)
    return model, batch, true_outputs(model, like, batch, [people])


def crowd(n=3, shape=(120, 160)):
    """n people whose keypoints do not meet, all labelled."""
    random = np.random.default_rng(n)
    grid = np.stack(np.meshgrid(np.arange(10, shape[1] - 10, 7), np.arange(10, shape[0] - 10, 7)), -1)
    points = random.permutation(grid.reshape(-1, 2))[: n * 17] + random.uniform(-1, 1, (n * 17, 2))
    return np.concatenate([points.reshape(n, 17, 2), np.full((n, 17, 1), 2.0)], -1)


class TestResizing:
    @pytest.mark.parametrize("shape", SIZES)
    @pytest.mark.parametrize(("now", "least"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.5), (2.0, 0.5)])
    def test_align_equals_the_published_steps_to_the_bit(self, shape, now, least):
        image = picture(*shape)
        for size in (128, 200):
            theirs, back = resize_align.resized(image, size, now, least)
            place = resizing(shape, size, now, least)
            np.testing.assert_array_equal(place.apply(image), theirs)
            np.testing.assert_allclose(place.to_image(), back, rtol=0, atol=1e-9)

    def test_the_long_side_shows_more_than_the_image(self):
        place = resizing((480, 640), 640)
        assert place.size == (640, 896)
        assert place.extent == (672.0, 480.0)

    def test_cells_of_a_map_lie_where_its_pixels_do(self):
        place = resizing((61, 83), 128)
        h, w = place.size
        half, full = place.to_image((h // 2, w // 2)), place.to_image()
        np.testing.assert_allclose(geometry.apply(half, [[3.5, 7.0]]), geometry.apply(full, [[7.0, 14.0]]))

    @pytest.mark.parametrize("wrong", [{"image": (0, 5)}, {"scale": 0.0}, {"input_size": 0}])
    def test_nothing_to_resize_is_refused(self, wrong):
        with pytest.raises(ValueError, match="above 0"):
            resizing(**{"image": (50, 60), "input_size": 128, **wrong})


def published_maps(model, image, scales, flip):
    """Heatmaps and tags as the published protocol makes them, said again; and their size's affine back."""
    size, least = model.input_size, min(scales)
    base = resize_align.sizes(image.shape, size, 1.0, least)[0][::-1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.mean, model.std))

    def bigger(maps, to):
        return functional.interpolate(maps, size=tuple(to), mode="bilinear", align_corners=False)

    total, tags = 0, []
    for scale in sorted(scales, reverse=True):
        seen, _ = resize_align.resized(image, size, scale, least)
        _, centre, box = resize_align.sizes(image.shape, size, scale, least)
        back = resize_align.affine(centre, box, base[::-1], inverse=True)
        pixels = ((torch.tensor(seen).permute(2, 0, 1).float() - mean) / std)[None]
        each = []
        for mirrored in (False, True)[: 1 + flip]:
            coarse, fine = model.module(pixels.flip(-1) if mirrored else pixels)
            coarse = bigger(coarse, fine.shape[-2:])
            heat, tag = (coarse[:, :17] + fine) / 2, coarse[:, 17:]
            if mirrored:
                order = list(COCO.mirror)
                heat, tag = heat.flip(-1)[:, order], tag.flip(-1)[:, order]
            each.append(bigger(heat, base))
            if scale == 1 or len(scales) == 1:
                tags.append(bigger(tag, base))
        total = total + (sum(each) / 2 if flip else each[0])
    return (total / len(scales))[0].numpy(), torch.stack(tags, -1)[0].numpy(), back


class TestAggregation:
    @pytest.mark.parametrize(
        ("scales", "flip", "shape"),
        [
            ((1.0,), False, (61, 83)),
            ((1.0,), True, (97, 45)),
            ((1.0, 2.0), True, (61, 83)),
            ((0.5,), True, (61, 83)),
        ],
    )
    def test_maps_equal_those_of_the_published_protocol(self, scales, flip, shape):
        image = picture(*shape)
        model = dataclasses.replace(new_higherhrnet(network(), COCO, 64), scales=scales)
        seen = run(model, [whole(image)], flip=flip)
        maps = model.maps(seen.outputs, seen.batch, 0)
        with torch.no_grad():
            heat, tags, back = published_maps(model, image, scales, flip)
        assert heat.std() > 0.1
        # Not to the last bit: enlarging 34 maps at once rounds otherwise than enlarging 17 of them.
        assert np.abs(maps.heatmaps - heat).max() < 1e-6 * np.abs(heat).max()
        assert np.abs(maps.tags - tags).max() < 1e-6 * np.abs(tags).max()
        np.testing.assert_allclose(maps.to_image, back, atol=1e-9)

    @pytest.mark.parametrize(
        "scales", [(), (0.5, 2.0), (0.0,), (1.0, math.nan), (math.inf,), (1e-300,), (1.0, 1e308)]
    )
    def test_scales_that_are_none_are_refused_in_one_sentence(self, scales):
        with pytest.raises(ValueError, match=r"scales: expected a number of 0\.01 to 100, or several"):
            dataclasses.replace(new_higherhrnet(network(), COCO, 64), scales=scales)

    def test_each_simplification_changes_the_maps_without_a_forward_pass(self, monkeypatch):
        model = dataclasses.replace(new_higherhrnet(network(), COCO, 64), scales=(1.0, 2.0))
        seen = run(model, [whole(picture(61, 83))], flip=True)
        monkeypatch.setattr(HigherHRNet, "forward", None)
        full = model.maps(seen.outputs, seen.batch, 0)
        changes = [
            {"flip": False},
            {"scales": (1.0,)},
            {"resolutions": "fine"},
            {"resolutions": "coarse"},
            {"align_corners": True},
        ]
        for change in changes:
            other = model.maps(seen.outputs, seen.batch, 0, Aggregation(**change))
            assert other.heatmaps.shape == full.heatmaps.shape
            assert np.abs(other.heatmaps - full.heatmaps).max() > 1e-4, change
        assert full.tags.shape[-1] == 2
        assert model.maps(seen.outputs, seen.batch, 0, Aggregation(flip_tags=False)).tags.shape[-1] == 1
        small = model.maps(seen.outputs, seen.batch, 0, Aggregation(project=False, scales=(1.0,)))
        assert small.heatmaps.shape[1:] == (32, 64)
        stretched = model.maps(seen.outputs, seen.batch, 0, Aggregation(inverse_affine=False))
        assert stretched.heatmaps.shape[1:] == (61, 83)
        np.testing.assert_array_equal(stretched.to_image, np.eye(2, 3))

    def test_a_scale_that_was_not_made_is_refused(self):
        model, batch, outputs = perfect(crowd())
        with pytest.raises(ValueError, match="2 was not made; there are 1"):
            model.maps(outputs, batch, 0, Aggregation(scales=(2.0,)))

    def test_one_resolution_has_no_finer_one(self):
        model, batch, outputs = perfect(crowd())
        alone = dataclasses.replace(outputs, coarse=None, passes={})
        with pytest.raises(NotAvailable, match="one resolution"):
            model.maps(alone, batch, 0, Aggregation(resolutions="coarse"))


class TestPerfectMaps:
    @pytest.mark.parametrize("shape", [(120, 160), (160, 121), (119, 201)])
    @pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
    def test_everybody_is_found_where_they_are(self, shape, scales):
        people = crowd(4, shape)
        model, batch, outputs = perfect(people, shape, 256, scales=scales)
        (found,) = model.group(outputs, batch)
        assert len(found) == 4
        order = np.linalg.norm(found.keypoints[:, None] - people[None, ..., :2], axis=-1).mean(-1).argmin(1)
        assert sorted(order) == [0, 1, 2, 3]
        error = np.linalg.norm(found.keypoints - people[order, :, :2], axis=-1)
        assert error.max() < 0.5

    def test_without_the_inverse_affine_they_are_off_in_proportion_to_the_distance_from_the_middle(self):
        shape = (120, 161)
        model, batch, outputs = perfect(crowd(2, shape), shape, 128)
        (right,) = model.group(outputs, batch)
        (wrong,) = model.group(outputs, batch, aggregation=Aggregation(inverse_affine=False))
        shown = model.place(shape).extent[0]
        assert shown > 161
        x = right.keypoints[..., 0].ravel(), wrong.keypoints[..., 0].ravel()
        slope = np.polyfit(np.sort(x[0]), np.sort(x[1]), 1)[0]
        assert slope == pytest.approx(161 / shown, abs=0.01)

    def test_one_tag_map_for_all_keypoints_tells_them_apart_as_well(self):
        grouping = dataclasses.replace(HIGHERHRNET, tag_layout="shared")
        model, batch, outputs = perfect(crowd(2), size=256)
        shared = dataclasses.replace(model, tags=1, grouping=grouping)
        like = dataclasses.replace(outputs, tags=outputs.tags[:, :1], passes={})
        (found,) = shared.group(true_outputs(shared, like, batch, [crowd(2)]), batch)
        assert len(found) == 2

    def test_nobody_gives_nobody(self):
        model, batch, outputs = perfect(np.zeros((0, 17, 3)))
        (found,) = model.group(outputs, batch)
        assert len(found) == 0
        assert found.grouping.note
        prediction = found.in_box((0, 0, 10, 10))
        assert np.isnan(prediction.keypoints).all()


class TestModel:
    def test_decode_gives_each_sample_the_person_its_box_overlaps_best(self):
        people = np.full((2, 17, 3), 2.0)
        people[0, :, :2] = np.stack([np.linspace(10, 50, 17), np.linspace(20, 100, 17)], 1)
        people[1, :, :2] = np.stack([np.linspace(100, 150, 17), np.linspace(20, 100, 17)], 1)
        model, batch, outputs = perfect(people, size=256)
        image = batch.samples[0].image
        asked = [(95.0, 15.0, 155.0, 105.0), (5.0, 15.0, 60.0, 105.0), (70.0, 0.0, 80.0, 10.0)]
        samples = tuple(Sample(image, box, key=str(i)) for i, box in enumerate(asked))
        three = Outputs(**{f: getattr(outputs, f).repeat(3, 1, 1, 1) for f in ("heatmaps", "coarse", "tags")})
        right, left, nobody = model.decode(three, model.prepare(samples), DecodeOptions())
        assert np.abs(right.keypoints - people[1, :, :2]).max() < 1
        assert np.abs(left.keypoints - people[0, :, :2]).max() < 1
        assert left.box == asked[1]
        assert left.score == pytest.approx(1, abs=0.1)
        assert np.isnan(nobody.keypoints).all()

    def test_images_of_one_padded_size_make_a_batch_and_others_do_not(self):
        model = new_higherhrnet(network(), COCO, 64)
        same = [whole(picture(60, 80)), whole(picture(60, 81))]
        assert model.prepare(same).pixels.shape == (2, 3, 64, 128)
        with pytest.raises(ValueError, match="80 x 60, 90 x 160 pixels need inputs of different sizes"):
            model.prepare([whole(picture(60, 80)), whole(picture(160, 90))])

    def test_what_is_recorded_is_of_the_plain_pass(self):
        model = dataclasses.replace(new_higherhrnet(network(), COCO, 64), scales=(1.0, 2.0))
        seen = run(model, [whole(picture(60, 80))], record=["stage2"], flip=True)
        plain = run(dataclasses.replace(model, scales=(1.0,)), [whole(picture(60, 80))], record=["stage2"])
        assert set(seen.outputs.passes) == {"mirrored", "x2", "x2 mirrored"}
        recorded = [r.activation("stage2") for r in (seen, plain)]
        assert all(torch.equal(a, b) for a, b in zip(*recorded, strict=True))

    def test_other_decoders_are_refused(self):
        model, batch, outputs = perfect(crowd())
        with pytest.raises(ValueError, match="bottom-up"):
            model.decode(outputs, batch, DecodeOptions(decoder="dark"))

    def test_a_nan_in_a_map_is_one_clear_sentence_and_the_rest_is_grouped(self):
        model, batch, outputs = perfect(crowd())
        outputs.heatmaps[0, 3, 2, 2] = torch.nan
        (people,) = model.group(outputs, batch)
        assert len(people)
        note = people.grouping.note
        left_out = f"1 of 17 keypoints left out ({model.skeleton.keypoints[3]}), the rest is grouped"
        assert f"heatmap 3 holds a number that is not finite: {left_out}" in note
        outputs.heatmaps[:] = torch.nan
        with pytest.raises(ValueError, match="not finite"):
            model.group(outputs, batch)

    def test_no_tags_is_said(self):
        model, batch, outputs = perfect(crowd())
        with pytest.raises(NotAvailable, match="tags"):
            model.group(dataclasses.replace(outputs, tags=None), batch)

    @pytest.mark.parametrize(
        ("part", "channels", "words"),
        [("tags", 5, "have 5 channels of tags"), ("heatmaps", 16, "have 16 cha")],
    )
    def test_other_channels_than_declared_are_refused(self, part, channels, words):
        model, batch, outputs = perfect(crowd())
        wrong = dataclasses.replace(outputs, passes={}, **{part: getattr(outputs, part)[:, :channels]})
        with pytest.raises(ValueError, match=words):
            model.group(wrong, batch)

    @pytest.mark.parametrize("tags", [1, 5, 34])
    def test_a_layout_that_does_not_fit_the_tag_maps_is_refused_when_declared(self, tags):
        with pytest.raises(ValueError, match="tag layout per_joint: expected 17 tag maps"):
            BottomUp(nn.Identity(), COCO, tags)

    @pytest.mark.parametrize("scales", [(), (0.5, 2.0), (0.0,)])
    def test_scales_without_1_are_refused(self, scales):
        with pytest.raises(ValueError, match="scales"):
            BottomUp(nn.Identity(), COCO, 17, scales=scales)


def maps(*channels):
    return [torch.zeros(1, c, 4, 4) for c in channels]


class TestReturned:
    @pytest.mark.parametrize(
        ("returned", "has"),
        [(maps(34)[0], (17, None, 17)), (maps(17, 17), (17, None, 17)), (maps(34, 17), (17, 17, 17))],
    )
    def test_the_three_known_forms_are_told_apart(self, returned, has):
        outputs = typed(returned, 17, 17)
        got = (outputs.heatmaps, outputs.coarse, outputs.tags)
        assert tuple(None if t is None else t.shape[1] for t in got) == has

    @pytest.mark.parametrize(
        ("returned", "kind", "words"),
        [
            (maps(17)[0], NotAvailable, "17 heatmaps only"),
            (maps(18)[0], ValueError, r"\[1, 18, 4, 4\]: 17 keypoints and 17 tag maps are declared"),
            (maps(34, 34), ValueError, "expected maps with 34 channels"),
            (maps(34, 17, 17), ValueError, "34 and then 17"),
            ([], ValueError, "nothing"),
            ("words", ValueError, "str"),
        ],
    )
    def test_anything_else_is_one_clear_sentence(self, returned, kind, words):
        with pytest.raises(kind, match=words):
            typed(returned, 17, 17)


class TestWishes:
    @pytest.mark.parametrize(
        ("word", "has"),
        [
            ("input_size=640", lambda m: m.input_size == 640),
            ("scales=1,2", lambda m: m.scales == (1.0, 2.0)),
            ("inverse-affine=off", lambda m: not m.aggregation.inverse_affine),
            ("resolutions=fine", lambda m: m.aggregation.resolutions == "fine"),
            ("nms_kernel=3", lambda m: m.grouping.nms_kernel == 3),
            ("tag_threshold=.5", lambda m: m.grouping.tag_threshold == 0.5),
            ("max_people=none", lambda m: m.grouping.max_people is None),
            ("joint_order=" + ",".join(map(str, range(17))), lambda m: m.grouping.joint_order[7:8] == (7,)),
            ("tag_layout=" + ",".join("0" * 17), lambda m: m.grouping.tag_layout == (0,) * 17),
            ("rules=mmpose", lambda m: m.grouping == dataclasses.replace(MMPOSE, tag_layout="per_joint")),
        ],
    )
    def test_any_rule_can_be_changed_by_a_word(self, word, has):
        model = BottomUp(nn.Identity(), COCO, 17)
        assert has(with_rules(model, [word]))
        assert not has(model)
        said = with_rules(model, [word])
        texts = [said.input_text, said.scales_text, said.grouping_text]
        assert texts != [model.input_text, model.scales_text, model.grouping_text]

    @pytest.mark.parametrize(
        ("word", "words"),
        [
            ("nms=3", "nearest names: nms_kernel"),
            ("nms_kernel", "NAME=VALUE"),
            ("nms_kernel=4", "odd number"),
            ("refine=perhaps", "on or off"),
            ("top_k=many", "a whole number"),
            ("rules=own", "higherhrnet or mmpose"),
            ("tag_layout=shared", "expected one tag map"),
        ],
    )
    def test_a_word_that_cannot_be_followed_is_refused(self, word, words):
        with pytest.raises(ValueError, match=words):
            with_rules(BottomUp(nn.Identity(), COCO, 17), [word])

    def test_every_name_is_offered_once(self):
        assert len(set(rule_names())) == len(rule_names())
