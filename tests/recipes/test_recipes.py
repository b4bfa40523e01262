"""Reference recipes hold what their upstream files hold."""

from __future__ import annotations

import hashlib
import re

import pytest

from workbench.checkpoints.config_reader import read_available
from workbench.recipes.comparison import equal
from workbench.recipes.recipe import fields, recipe, recipe_names
from workbench.recipes.values import decisions_of


def test_the_wanted_recipes_are_there():
    wanted = {f"vitpose-{size}-coco" for size in "sblh"} | {
        f"sapiens-{size}-coco" for size in ("0.3b", "0.6b", "1b", "2b")
    }
    wanted |= {"rtmpose-m-ap10k", "rtmpose-m-coco", "hrnet-w32-coco", "higherhrnet-w32-512-coco"}
    assert wanted <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_names_known_fields_and_where_its_values_come_from(name):
    one = recipe(name)
    assert set(one.values) | set(one.defaults) <= set(fields())
    for source in one.sources:
        assert re.fullmatch(r"[0-9a-f]{40}", source.commit)
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
    covered = [covered for source in one.sources[1:] for covered in source.holds.split(", ")]
    assert set(covered) <= set(one.values)
    assert one.published
    assert 0.5 < one.published["AP"] < 0.9


def sources():
    return [
        (name, number)
        for name in recipe_names()
        for number, source in enumerate(recipe(name).sources)
        if source.repository == "open-mmlab/mmpose"
    ]


@pytest.mark.parametrize(("name", "number"), sources())
def test_values_and_hash_are_those_of_the_file_that_mmpose_ships(installed, name, number):
    source = recipe(name).sources[number]
    path = installed / source.path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256
    found = decisions_of(read_available(path, installed).values)
    compared = 0
    for field, value in recipe(name).values.items():
        if number and field not in source.holds.split(", ") and field != "train.dataset":
            continue
        if field in found.values and field != "train.dataset":
            assert equal(field, found.get(field), value), field
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sapiens-1b-coco", "codec.input_size", [768, 1024]),
        ("sapiens-1b-coco", "codec.heatmap_size", [192, 256]),
        ("sapiens-1b-coco", "codec.sigma", 6),
        ("sapiens-1b-coco", "optimizer.weight_decay", 0.1),
        ("sapiens-1b-coco", "optimizer.layer_decay", 0.85),
        ("sapiens-1b-coco", "head.norm", "InstanceNorm2d"),
        ("sapiens-2b-coco", "backbone.layers", 48),
        ("sapiens-0.3b-coco", "backbone.embed_dim", 1024),
        ("vitpose-s-coco", "backbone.heads", 12),
        ("vitpose-h-coco", "backbone.drop_path", 0.55),
        ("vitpose-b-coco", "optimizer.layer_decay", 0.75),
        ("vitpose-l-coco", "optimizer.layer_decay", 0.8),
        ("rtmpose-m-ap10k", "codec.sigma", [5.66, 5.66]),
        ("rtmpose-m-ap10k", "optimizer.lr", 0.004),
        ("higherhrnet-w32-512-coco", "bottomup.with_tags", [True, False]),
    ],
)
def test_values_by_hand(name, field, value):
    assert recipe(name).get(field) == value


def test_an_unknown_recipe_is_refused_with_the_nearest_names():
    with pytest.raises(KeyError, match="sapiens-1b-coco"):
        recipe("sapiens-1b")
