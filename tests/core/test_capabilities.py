"""Capabilities are found by their members, unevaluated; wrappers have those of the inner model."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from workbench.core import PoseModel
from workbench.core.capabilities import (
    CAPABILITIES,
    Answers,
    CropsBoxes,
    Groups,
    HasDefects,
    HasObjective,
    MultiPass,
    RollsOut,
    TakesSupport,
    capabilities_of,
    step_counter,
)
from workbench.core.wrapping import Wrapper


class Expensive:
    """A model whose properties must not be evaluated by a test for a capability."""

    @property
    def padding(self):
        raise AssertionError("isinstance evaluated a property")

    note = input_size = padding


@dataclass(frozen=True, eq=False)
class Named(Wrapper):
    model: PoseModel
    name: str = "plain"


@dataclass(eq=False)
class Taught(Wrapper):
    model: PoseModel
    count: int = 0

    def objective(self, outputs, batch):
        return {"loss": torch.zeros(())}


class Quiet(Wrapper):
    withheld = (TakesSupport,)


WRAPPERS = {Wrapper: set(), Named: set(), Taught: {HasObjective}}


def test_isinstance_evaluates_no_property():
    assert isinstance(Expensive(), CropsBoxes)
    assert not isinstance(Expensive(), RollsOut)
    assert isinstance(Wrapper(Expensive()), CropsBoxes)


def test_a_capability_needs_all_of_its_members():
    class Half:
        aggregation = grouping = None

        def group(self, outputs, batch):
            return ()

    assert not isinstance(Half(), Groups)
    assert isinstance(toy.ToyPeople(), Groups)
    assert isinstance(toy.ToyPeople(), MultiPass)


def test_what_the_toys_can_do_is_told_apart():
    made = {name: make() for name, make in toy.TOYS.items()}
    assert {name for name, model in made.items() if isinstance(model, Groups)} == {"people"}
    assert {name for name, model in made.items() if isinstance(model, RollsOut)} == {"sequence"}
    assert not any(isinstance(model, Answers) for model in made.values())


@pytest.mark.parametrize("toy_name", toy.TOYS)
@pytest.mark.parametrize("kind", WRAPPERS)
class TestAWrapper:
    def test_has_the_capabilities_of_the_inner_model_and_its_own(self, kind, toy_name):
        model = toy.TOYS[toy_name]()
        assert capabilities_of(kind(model)) == capabilities_of(model) | WRAPPERS[kind]
        assert capabilities_of(kind(kind(model))) == capabilities_of(model) | WRAPPERS[kind]
        assert isinstance(kind(model), PoseModel)
        assert isinstance(kind(model), kind)

    def test_gives_the_same_run(self, kind, toy_name):
        from workbench.core.run import run

        model = toy.TOYS[toy_name]()
        samples = toy.samples(model)
        plain, wrapped = run(model, samples), run(kind(model), samples)
        np.testing.assert_array_equal(plain.keypoints, wrapped.keypoints)


def test_a_copy_around_another_model_has_the_other_capabilities():
    model = Named(toy.ToyPeople(), "first")
    other = dataclasses.replace(model, model=toy.ToyHeatmaps())
    assert isinstance(model, Groups)
    assert not isinstance(other, Groups)
    assert other.name == "first"
    assert isinstance(dataclasses.replace(other, model=toy.ToyPeople()), Groups)


def test_copies_keep_capabilities():
    model = Named(toy.ToyPeople())
    assert isinstance(copy.copy(model), Groups)
    assert isinstance(copy.deepcopy(model), Groups)


def test_a_wrapper_may_be_made_with_a_named_argument():
    assert isinstance(Named(model=toy.ToyPeople()), Groups)


def test_two_wrappers_around_equal_models_are_of_one_class():
    assert type(Named(toy.ToyPeople())) is type(Named(toy.ToyPeople()))
    assert type(Named(toy.ToyPeople())).__name__ == "Named"


def test_a_withheld_capability_is_not_passed_on():
    model = toy.TOYS["sequence"]()
    assert capabilities_of(Quiet(model)) == capabilities_of(model) - {TakesSupport}


def test_what_the_inner_model_changes_is_seen_through_the_wrapper():
    class Counting:
        padding = 1.0

    inner = Counting()
    model = Wrapper(inner)
    inner.padding = 2.0
    assert model.padding == 2.0


def test_every_capability_is_documented_and_listed_once():
    assert len(set(CAPABILITIES)) == len(CAPABILITIES)
    for kind in CAPABILITIES:
        assert kind.__doc__
        assert isinstance(object(), kind) is False


class TestANetwork:
    def test_counts_its_steps_in_a_buffer(self):
        counting = nn.Linear(2, 2)
        assert step_counter(counting) is None
        counting.register_buffer("taught", torch.tensor(3))
        assert step_counter(counting) == 3
        assert step_counter(nn.Sequential(counting)) is None

    def test_has_defects_that_can_be_switched(self):
        network = nn.Linear(2, 2)
        assert not isinstance(network, HasDefects)
        network.defects = object()
        assert isinstance(network, HasDefects)
