"""Odd values in a config never end an audit with a traceback."""

from __future__ import annotations

import copy
import json

import pytest

from tests.recipes.test_rules import TEXT
from workbench.checkpoints.config_reader import read_config
from workbench.recipes.audit import audit
from workbench.recipes.claims import Claim, judge_claims
from workbench.recipes.recipe import fields

ODD = (
    None,
    [],
    {},
    "x",
    -1,
    0,
    True,
    [1, "a"],
    {"type": 3},
    [None, {"type": "EMAHook"}],
    float("nan"),
    1e300,
    "5e-4",
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, (list, tuple)):
        for n, item in enumerate(value):
            yield from places(item, (*path, n))


def replaced(config, path, odd):
    found = copy.deepcopy(config)
    here, *rest = [found], 0, *path
    for part in rest[:-1]:
        if isinstance(here[part], tuple):
            here[part] = list(here[part])
        here = here[part]
    here[rest[-1]] = odd
    return found


@pytest.mark.parametrize(
    "odd",
    [pytest.param(odd, marks=pytest.mark.long if n % 3 else (), id=repr(odd)) for n, odd in enumerate(ODD)],
)
def test_an_odd_value_anywhere_is_read(odd):
    config = read_config(TEXT)
    for path in places(config):
        if not path:
            continue
        found = audit(replaced(config, path, odd), "vitpose-b-coco")
        assert found.summary()
        json.dumps(found.to_json(), allow_nan=False)
        assert found.table() is not None


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("dialect", ["mmpose0", "yacs", "plain"])
def test_an_odd_value_in_another_layout_is_read(odd, dialect):
    for field in fields().values():
        for path in field.paths.get(dialect, field.words):
            config: dict = {"MODEL": {}, "TRAIN": {}} if dialect == "yacs" else {}
            config |= {"total_epochs": 1} if dialect == "mmpose0" else {}
            here = config
            *above, last = path.split(".")
            for part in above:
                here = here.setdefault(part, {})
            here[last] = odd
            assert audit(config, "hrnet-w32-coco").summary()


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_value_in_a_claim_is_judged_or_not_checked(odd):
    from workbench.recipes.claims import statement_by_key

    claims = [Claim("", key, odd) for key in (*fields(), *statement_by_key(), "", "source.path")]
    found = judge_claims(claims, "sapiens-1b-coco")
    assert found.summary()
    json.dumps(found.to_json(), allow_nan=False)
