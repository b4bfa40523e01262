"""Random numbers come from seeded generators of their own, whatever other threads draw and build."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
import torch
from torch import nn

from tests.training.tiny import Tiny, picture
from tests.waiting import until
from workbench.checkpoints.demo import demo_checkpoints
from workbench.models import open_model
from workbench.models.fresh import demo_model, new_model
from workbench.models.randomness import FairLock, private_randomness
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer


def layers():
    """Modules whose first weights use every way of torch to draw them."""
    made = [
        nn.Linear(5, 4),
        nn.Conv2d(3, 4, 3),
        nn.Embedding(6, 3),
        nn.MultiheadAttention(8, 2),
        nn.GRU(4, 4),
    ]
    for fill in (
        nn.init.trunc_normal_,
        nn.init.orthogonal_,
        nn.init.kaiming_normal_,
        nn.init.xavier_uniform_,
    ):
        made.append(nn.Linear(5, 4))
        fill(made[-1].weight)
    drawn = [
        torch.randn(3),
        torch.rand(3),
        torch.randperm(7),
        torch.randint(9, (4,)),
        torch.randn_like(torch.ones(2)),
    ]
    drawn += [
        torch.normal(torch.zeros(3), 1.0),
        torch.bernoulli(torch.full((9,), 0.5)),
        torch.empty(3).exponential_(),
    ]
    drawn += [nn.Dropout(0.3)(torch.ones(40)), nn.functional.dropout(torch.ones(40), 0.6)]
    return [p.detach() for m in made for p in m.parameters()] + drawn


@contextlib.contextmanager
def another_thread(work):
    """Somebody does `work` again and again meanwhile."""
    ended, failed = threading.Event(), []

    def again():
        while not ended.is_set():
            try:
                work()
            except BaseException as wrong:
                failed.append(wrong)
                raise

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not failed


def draws():
    torch.randn(100)
    time.sleep(0)


def test_a_block_draws_what_the_seeded_process_would_and_leaves_it_alone():
    torch.manual_seed(5)
    expected = layers()
    before = torch.get_rng_state()
    with private_randomness(5):
        found = layers()
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)


def test_another_thread_that_draws_changes_nothing():
    def made():
        with private_randomness(1):
            return layers()

    expected = made()
    with another_thread(draws):
        for _ in range(20):
            assert all(torch.equal(a, b) for a, b in zip(expected, made(), strict=True))


def test_the_generator_of_a_caller_is_left_to_them():
    with private_randomness(0):
        own = torch.randn(3, generator=torch.Generator().manual_seed(9))
    assert torch.equal(own, torch.randn(3, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("family", ["cape", "higherhrnet", "demo"])
def test_first_weights_do_not_move_the_process_generator(family):
    def made():
        return (demo_model(seed=3) if family == "demo" else new_model(family, seed=3))[0]

    before = torch.get_rng_state()
    model = made()
    assert torch.equal(before, torch.get_rng_state())
    with another_thread(draws):
        again = made()
    pairs = zip(model.module.parameters(), again.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_refiners_noise_is_its_own():
    from workbench.models.text_fusion.register import SimCCDiffusionRefiner

    with private_randomness(0):
        refiner = SimCCDiffusionRefiner(coord_dim=16, hidden_dim=8, num_keypoints=3).eval()
        x, y = torch.rand(2, 3, 16) * 0.5, torch.rand(2, 3, 16) * 0.5
    before = torch.get_rng_state()
    with torch.no_grad():
        expected = refiner(x, y)
        assert torch.equal(before, torch.get_rng_state())
        with another_thread(draws):
            for _ in range(30):
                found = refiner(x, y)
                assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_training_is_the_same_while_others_train_and_build():
    settings = Settings(steps=8, learning_rate=3e-3, measure_every=4)

    # Tiny seeds the process to build itself: before any thread is there.
    trainers = [Trainer(Tiny(dropout=0.2), [picture()], settings) for _ in range(2)]
    other = Trainer(Tiny(dropout=0.5), [picture()], Settings(steps=10_000, measure_every=10_000))

    def train_and_build():
        other.advance()
        with private_randomness(2):
            nn.Linear(50, 50)

    alone = [trainers[0].advance()["loss"] for _ in range(8)]
    with another_thread(train_and_build):
        beside = [trainers[1].advance()["loss"] for _ in range(8)]
    assert beside == alone


def test_a_fair_lock_is_handed_over_in_order():
    lock, order, threads = FairLock(), [], []

    def wait(number):
        with lock:
            order.append(number)

    with lock:
        for number in range(5):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            until(lambda count=number: len(lock._waiting) > count, every=0.001)
    # The lock is not free in between: whoever asks now stands behind the five.
    wait("late")
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, "late"]


@pytest.mark.parametrize("name", ["rtmpose-demo", "rtmpose-text-fusion", "cape-demo", "higherhrnet-demo"])
def test_opening_a_checkpoint_does_not_move_the_process_generator(name):
    before = torch.get_rng_state()
    open_model(demo_checkpoints(name)[-1])
    assert torch.equal(before, torch.get_rng_state())
