"""Colours that stay apart, maps that survive as sprites, figures that read on light and dark pages."""

from __future__ import annotations

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tests import toy
from workbench import figures
from workbench.core import Skeleton
from workbench.figures import bars, panels
from workbench.figures.colours import LEFT, MIDDLE, RIGHT
from workbench.figures.layout import whole_template

# The three dichromacies simulated on linear RGB. Source: Machado, Oliveira and Fernandes 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.0992], [-0.003882, -0.048116, 1.052]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.0474], [-0.01182, 0.04294, 0.96888]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.1476], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = rgb @ np.array(
        [
            [0.4124564, 0.2126729, 0.0193339],
            [0.3575761, 0.7151522, 0.119192],
            [0.1804375, 0.072175, 0.9503041],
        ]
    )
    f = xyz / (0.95047, 1, 1.08883)
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


class TestColours:
    @pytest.mark.parametrize("sight", SIGHT)
    def test_any_two_keypoint_colours_can_be_told_apart(self, sight):
        # A CIELAB distance of 2.3 is just noticeable; 12 is seen at a glance on small markers.
        rgb = np.array([linear(c) for c in figures.KEYPOINT_COLOURS])
        points = lab((rgb @ np.array(SIGHT[sight]).T).clip(0, 1))
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 99 * np.eye(len(points))
        assert len(points) == 20
        assert apart.min() > 12

    def test_left_is_cool_right_is_warm_and_the_midline_grey(self):
        for colours, sign in ((LEFT, 1), (RIGHT, -1)):
            for colour in colours:
                red, _, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
                assert sign * (blue - red) > 0, colour
        for colour in MIDDLE:
            assert np.ptp([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) < 25

    @pytest.mark.parametrize(
        ("name", "side"),
        [("left_eye", "left"), ("L_F_Paw", "left"), ("R_B_Paw", "right"), ("RightEar", "right"),
         ("eye_right", "right"), ("right eye", "right"), ("Nose", "middle"), ("Root of tail", "middle"),
         ("Lips", "middle"), ("Rump", "middle")],
    )  # fmt: skip
    def test_sides_are_read_from_names(self, name, side):
        assert figures.side_of(name) == side

    def test_a_keypoint_has_one_colour_wherever_it_is_asked_for(self):
        colours = figures.keypoint_colours(toy.SEVENTEEN)
        assert len(set(colours)) == 17
        assert colours == tuple(figures.keypoint_colour(k, toy.SEVENTEEN) for k in range(17))

    def test_a_skeleton_without_sides_takes_all_colours_in_turn(self):
        sideless = Skeleton("numbers", tuple(str(k) for k in range(26)))
        colours = figures.keypoint_colours(sideless)
        assert len(set(colours)) == 20
        assert colours[20] == colours[0] == figures.keypoint_colour(20)


class TestSprite:
    def test_values_come_back_within_half_a_step(self):
        maps = np.random.default_rng(0).normal(size=(7, 12, 9)).astype(np.float32)
        png, low, high = figures.sprite(maps)
        back = low + np.asarray(Image.open(io.BytesIO(png))).reshape(7, 12, 9) / 255 * (high - low)
        assert (low, high) == (maps.min(), maps.max())
        assert np.abs(back - maps).max() <= (high - low) / 510 + 1e-6

    def test_colours_keep_the_steps_as_indices(self):
        maps = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
        image = Image.open(io.BytesIO(figures.sprite(maps, colours=figures.SEQUENTIAL, transparent=True)[0]))
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image).ravel(), np.arange(256))
        drawn = np.asarray(image.convert("RGBA"))
        assert tuple(drawn[-1, -1, :3]) == (0xFD, 0xF3, 0xA7)
        assert drawn[0, 0, 3] == 0 < drawn[2, 0, 3] < drawn[-1, -1, 3]

    def test_maps_stand_in_rows_of_columns(self):
        maps = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
        sheet = np.asarray(Image.open(io.BytesIO(figures.sprite(maps, columns=2, span=(0, 255))[0])))
        assert sheet.shape == (6, 6)
        np.testing.assert_array_equal(sheet[::2, ::3], [[0, 1], [2, 3], [4, 0]])

    def test_17_maps_of_256x192_travel_in_under_400_kilobytes(self):
        y, x = np.indices((256, 192))
        random = np.random.default_rng(0)
        places = random.uniform((0, 0), (256, 192), (17, 2))
        maps = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 72) for a, b in places]).astype(np.float32)
        # Networks leave about a hundredth of the peak as texture; a clean Gaussian would flatter the figure.
        maps += random.normal(0, 0.005, maps.shape).astype(np.float32)
        assert len(figures.sprite(maps)[0]) < 400_000

    def test_nan_is_drawn_as_the_lowest_and_constant_maps_are_no_error(self):
        png, low, high = figures.sprite(np.array([[[np.nan, 1.0], [2.0, 3.0]]]))
        assert np.asarray(Image.open(io.BytesIO(png)))[0, 0] == 0
        assert (low, high) == (1, 3)
        assert figures.sprite(np.zeros((1, 2, 2)))[1:] == (0, 0)
        assert figures.sprite(np.full((1, 2, 2), np.nan))[1:] == (0, 1)

    @pytest.mark.parametrize("shape", [(3, 4), (0, 3, 3), (1, 2, 3, 4)])
    def test_other_shapes_are_refused_with_the_shape(self, shape):
        with pytest.raises(ValueError, match="expected maps of shape"):
            figures.sprite(np.zeros(shape))

    def test_the_maps_are_left_alone(self):
        maps = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
        before = maps.copy()
        figures.sprite(maps, columns=2)
        np.testing.assert_array_equal(maps, before)


def test_large_images_travel_reduced_and_small_ones_whole():
    def size(uri: str) -> tuple[int, int]:
        return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size

    assert size(figures.image_data_uri(np.zeros((3000, 1500, 3), np.uint8))) == (512, 1024)
    assert size(figures.image_data_uri(np.zeros((30, 20, 3), np.uint8))) == (20, 30)


class TestLayout:
    def test_every_ink_reads_on_its_page(self):
        def contrast(a: str, b: str) -> float:
            light, dark = sorted(
                (float(linear(c) @ (0.2126, 0.7152, 0.0722)) + 0.05 for c in (a, b)), reverse=True
            )
            return light / dark

        pages = {"light": ("#ffffff",), "dark": ("#12151b",), "any": ("#ffffff", "#12151b")}
        for theme, backgrounds in pages.items():
            for page in backgrounds:
                # 4.5 is WCAG's for text on a known page; no single grey reaches it on both white and black.
                assert contrast(figures.LAYOUT[theme]["ink"], page) > (4.0 if theme == "any" else 4.5)

    def test_backgrounds_are_transparent_in_both_themes(self):
        for theme in ("light", "dark"):
            layout = whole_template(theme).layout
            assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"

    def test_titles_are_wrapped_and_hold_no_markup(self):
        title = figures.as_title("<a href='x'>nose</a> " + "word " * 40)
        assert "<a" not in title
        assert title.count("<br>") == 2


class TestSkeletonDrawing:
    points = np.array([[1.0, 2], [3, 4]])

    def test_limbs_and_points_are_where_the_keypoints_are(self):
        line, markers = figures.draw_skeleton(self.points, toy.TWO, scores=np.array([0.5, np.nan]))
        np.testing.assert_array_equal(line.x[:2], [1, 3])
        np.testing.assert_array_equal(markers.y, [2, 4])
        assert "0.500" in markers.text[0]
        assert "score" not in markers.text[1]
        assert {line.x.dtype, markers.x.dtype} == {np.dtype("float32")}

    def test_a_hidden_keypoint_takes_its_limbs_with_it(self):
        traces = figures.draw_skeleton(self.points, toy.TWO, drawn=np.array([True, False]))
        assert len(traces) == 1
        assert np.isnan(traces[0].x[1])
        np.testing.assert_array_equal(self.points, [[1, 2], [3, 4]])

    def test_limbs_take_their_side(self):
        skeleton = Skeleton("s", ("left_a", "left_b", "right_a", "nose"), ((0, 1), (0, 3), (2, 3), (0, 2)))
        traces = figures.draw_skeleton(np.eye(4)[:, :2] + 1, skeleton)
        segments = {t.name: len(t.x) // 3 for t in traces[:-1]}
        assert segments == {
            "prediction, left limbs": 2, "prediction, right limbs": 1, "prediction, middle limbs": 1,
        }  # fmt: skip

    def test_another_number_of_keypoints_is_refused(self):
        with pytest.raises(ValueError, match=r"expected keypoints of shape \(2, 2\), got \(3, 2\)"):
            figures.draw_skeleton(np.zeros((3, 2)), toy.TWO)


class TestCrops:
    def test_the_crop_is_the_part_of_the_image_that_the_network_saw(self):
        run = toy.a_run("heatmaps")
        x, y = toy.CORNER
        np.testing.assert_array_equal(panels.crop_of(run, 0), run.samples[0].image[y : y + 9, x : x + 9])

    def test_annotations_land_on_input_pixels(self):
        run = toy.a_run("heatmaps")
        np.testing.assert_allclose(panels.in_input(run, 0, panels.visible_truth(run, 0)), [[3, 4], [6, 5]])

    def test_cells_are_spaced_as_the_codec_says(self):
        run = toy.a_run("seventeen")
        assert panels.cell_pitch(run, (64, 48)) == (4, 4)
        import dataclasses

        run.model.codec = dataclasses.replace(run.model.codec, udp=True)
        assert panels.cell_pitch(run, (64, 48)) == (191 / 47, 255 / 63)


class TestPanels:
    def test_the_hover_layer_keeps_the_strongest_of_each_block(self):
        values = np.zeros((5, 5), np.float32)
        values[1, 1], values[0, 0], values[4, 4] = -3, 2, 1
        np.testing.assert_array_equal(panels.strongest(values, 2), [[-3, 0, 0], [0, 0, 0], [0, 0, 1]])

    def test_no_two_images_share_a_place(self):
        # plotly.js shows only one of two images of exactly the same place and size.
        figure = panels.panel_figure("finding", ["a"], (9, 9), 1)
        panels.add_crop(figure, 0, np.zeros((9, 9, 3), np.uint8))
        panels.add_map(figure, 0, np.ones((9, 9), np.float32), (1, 1), (0, 1), name="a")
        places = [(i.xref, i.x, i.sizex, i.yref, i.y, i.sizey) for i in figure.layout.images]
        assert len(set(places)) == len(places) == 2


def test_columns_of_bars_share_their_rows_and_logarithms_get_marks():
    values = np.array([1.0, 100.0])
    figure = bars.bars_figure(
        "finding", ["a", "b"], [bars.Bars("n", values), bars.Bars("m", values, log=True)]
    )
    assert [t.type for t in figure.data] == ["bar", "scatter"]
    assert figure.layout.yaxis2.matches == "y"
    assert tuple(figure.layout.xaxis2.range) == pytest.approx((-0.1, 3.1))
    # However narrow its column, a logarithmic axis has two numbers at least.
    columns = [bars.Bars("m", np.array([0.5, 2.0]), log=True)] * 4
    narrow = bars.bars_figure("finding", ["a", "b"], columns, narrowest=100).layout.xaxis
    assert narrow.tick0 + narrow.dtick <= narrow.range[1]


@pytest.mark.parametrize("narrowest", [380, 560])
@pytest.mark.parametrize("count", [2, 3])
def test_the_last_number_of_a_logarithmic_axis_and_the_first_of_the_next_stand_apart(narrowest, count):
    columns = [bars.Bars("m", np.array([2e-3, 0.5]), log=True)] * count
    figure = bars.bars_figure("finding", ["a", "b"], columns, narrowest=narrowest)
    room = narrowest - bars.NAME_CHARACTER - 40

    def place(axis, number):  # its middle, pixels
        (left, right), (low, high) = axis.domain, axis.range
        return room * (left + (right - left) * (number - low) / (high - low))

    axes = list(figure.select_xaxes())
    for one, following in itertools.pairwise(axes):
        last = one.tick0 + one.dtick * (-one.tick0 // one.dtick)
        assert place(following, following.tick0) - place(one, last) > bars.POWER_WIDTH - 0.01
    assert place(axes[0], 0) < room
