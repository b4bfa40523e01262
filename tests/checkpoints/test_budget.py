"""One account of work and memory per opened file."""

from __future__ import annotations

import pytest

from workbench.checkpoints.budget import Budget, TooExpensive


@pytest.mark.parametrize("spend", ["step", "make", "hold"])
def test_each_account_ends_in_one_sentence_that_names_the_file(spend):
    budget = Budget("odd.py", "config", steps=100, objects=100, nbytes=100)
    getattr(budget, spend)(60)
    getattr(budget, spend)(40)
    with pytest.raises(TooExpensive, match=r"odd\.py asks for more than 100 .* no config needs; .* a bomb"):
        getattr(budget, spend)(1)


def test_accounts_do_not_mix_and_a_refused_charge_is_not_spent():
    budget = Budget("a.pth", steps=10, objects=10, nbytes=10)
    for spend in (budget.step, budget.make, budget.hold):
        spend(10)
    with pytest.raises(ValueError, match="bytes of text and data"):
        budget.hold(1 << 80)
    other = Budget("b.pth", nbytes=5)
    with pytest.raises(TooExpensive):
        other.hold(6)
    other.hold(5)
