"""Changes are those of hand-made checkpoints; what is not comparable is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.difference import compare_checkpoints


def pair(tmp_path, a, b):
    torch.save(a, tmp_path / "a.pth")
    torch.save(b, tmp_path / "b.pth")
    return open_checkpoint(tmp_path / "a.pth"), open_checkpoint(tmp_path / "b.pth")


def test_values_by_hand(tmp_path):
    a = {
        "m.w": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        "m.b": torch.tensor([1.0, 0.0]),
        "n.w": torch.ones(2),
        "n.k": torch.tensor(3),
    }
    b = {**a, "m.w": torch.tensor([[3.0, 0.0], [3.0, 8.0]]), "m.b": torch.tensor([0.0, 1.0])}
    found = compare_checkpoints(*pair(tmp_path, a, b))
    weight, bias = found.tensors[:2]
    assert weight.relative == pytest.approx(1.0)  # |(3, 4)| / |(3, 4)|
    assert weight.cosine == pytest.approx((9 + 32) / (5 * math.sqrt(82)))
    assert (weight.largest, weight.where) == (4.0, (1, 1))
    assert (bias.relative, bias.cosine) == (pytest.approx(math.sqrt(2)), 0.0)
    assert found.changed == ("m.w", "m.b")
    assert found.unchanged == ("n.w", "n.k")
    assert found.modules == {"m": pytest.approx(math.sqrt(27 / 26)), "n": 0.0}
    assert "2 of 4 tensors changed from a.pth to b.pth; most in m" in found.summary()


def test_a_checkpoint_equals_itself_also_through_a_wrapper_and_with_nan(tmp_path, net):
    state = {**net.state_dict(), "odd.nan": torch.tensor([math.nan, 1.0])}
    found = compare_checkpoints(
        *pair(tmp_path, state, {"model": {f"module.{k}": v for k, v in state.items()}})
    )
    assert found.changed == ()
    assert len(found.unchanged) == len(state)
    assert found.same_identity
    part = {f"body._orig_mod.{k}": v for k, v in state.items()}
    inner = compare_checkpoints(*pair(tmp_path, {f"body.{k}": v for k, v in state.items()}, part))
    assert (inner.changed, inner.only_a, inner.only_b) == ((), (), ())
    assert all(t.relative == 0 or math.isnan(t.relative) for t in found.tensors)


def test_tensors_whose_numbers_are_not_read_are_told(tmp_path):
    state = {"m.weight": torch.eye(3), "m.bias": torch.ones(3)}
    found = compare_checkpoints(*pair(tmp_path, state, {**state, "m.weight": torch.eye(3).to_sparse()}))
    assert found.only_a == ("m.weight",)
    assert "in b.pth: 1 sparse (sparse_coo) tensor, not read" in found.summary()


def test_every_type_can_be_compared(tmp_path, layouts):
    same = compare_checkpoints(*pair(tmp_path, layouts, layouts))
    assert same.changed == ()
    other = {k: v.detach().clone().to(v.dtype) for k, v in layouts.items()}
    other["float8_e4m3fn"] = (other["float8_e4m3fn"].float() + 8).to(torch.float8_e4m3fn)
    other["complex64"] = other["complex64"] * 1j
    other["bool"] = ~other["bool"]
    found = compare_checkpoints(*pair(tmp_path, layouts, other))
    assert set(found.changed) == {"float8_e4m3fn", "complex64", "bool"}
    turned = next(t for t in found.tensors if t.name == "complex64")
    assert turned.relative == pytest.approx(math.sqrt(2), rel=1e-6)


def test_what_only_one_has_and_other_shapes_are_named(tmp_path, net):
    a, b = net.state_dict(), net.state_dict()
    del a["head.bias"], b["backbone.0.bias"]
    b["head.weight"] = torch.zeros(26, 4, 1, 1)
    found = compare_checkpoints(*pair(tmp_path, a, b))
    assert (found.only_a, found.only_b) == (("backbone.0.bias",), ("head.bias",))
    assert found.reshaped == (("head.weight", (17, 4, 1, 1), (26, 4, 1, 1)),)


def test_infinite_and_broken_weights_are_counted_and_break_nothing(tmp_path):
    found = compare_checkpoints(
        *pair(tmp_path, {"x.w": torch.ones(3)}, {"x.w": torch.tensor([1.0, math.inf, math.nan])})
    )
    assert found.changed == ("x.w",)
    assert "1 hold nan or infinity" in found.summary()
    found.plot()
    assert found.to_json()["tensors"][0]["relative"] is None


def test_the_picture_shows_the_numbers_of_the_table(tmp_path, net):
    other = {k: v * 1.1 if v.is_floating_point() else v for k, v in net.state_dict().items()}
    found = compare_checkpoints(*pair(tmp_path, net.state_dict(), other))
    bars, heat = found.plot().data
    np.testing.assert_allclose(bars.x, [found.modules[m] for m in bars.y], rtol=1e-5)
    assert heat.z.shape == (5, 3)
    assert heat.z[0, 0] == pytest.approx(-1, abs=1e-3)
    assert heat.customdata[0][0] == "backbone.0.weight"
    assert {row["tensor"] for row in found.table()} == set(other)


def test_counters_of_steps_stand_last_and_broken_numbers_first(tmp_path):
    a = {"x.num_batches_tracked": torch.tensor(1), "x.w": torch.ones(2), "y.w": torch.ones(2)}
    b = {
        "x.num_batches_tracked": torch.tensor(900),
        "x.w": torch.ones(2) * 2,
        "y.w": torch.tensor([1, math.nan]),
    }
    found = compare_checkpoints(*pair(tmp_path, a, b))
    assert [row["tensor"] for row in found.table()] == ["y.w", "x.w", "x.num_batches_tracked"]


def test_either_of_averaged_and_raw_weights_are_compared(tmp_path, net):
    def state(raw):
        ema = {f"module.{k}": v + raw for k, v in net.state_dict().items()}
        return {
            "meta": {"mmengine_version": "0"},
            "message_hub": {},
            "state_dict": net.state_dict(),
            "ema_state_dict": ema,
        }

    a, b = pair(tmp_path, state(1), state(2))
    assert compare_checkpoints(a, b).changed == ()
    assert len(compare_checkpoints(a, b, ema=False).changed) == 9
