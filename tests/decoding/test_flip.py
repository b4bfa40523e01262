import pytest
import torch

from workbench.core import NotAvailable, Outputs
from workbench.core.flip import average_with_flip, unflipped

MIRROR = (0, 2, 1, 4, 3)


@pytest.fixture(scope="module")
def tta():
    from workbench.models.mmpose_compat import install

    install()
    import mmpose.models.utils.tta as tta

    return tta


@pytest.mark.parametrize("shift", [False, True])
def test_heatmaps_are_averaged_as_mmpose_does(tta, shift):
    a, b = torch.rand(2, 5, 8, 6), torch.rand(2, 5, 8, 6)
    wanted = (a + tta.flip_heatmaps(b.clone(), list(MIRROR), shift_heatmap=shift)) * 0.5
    assert torch.equal(average_with_flip(Outputs(a), Outputs(b), MIRROR, shift).heatmaps, wanted)


def test_simcc_is_averaged_as_mmpose_does_and_never_shifted(tta):
    a, b = [(torch.rand(2, 5, 12), torch.rand(2, 5, 16)) for _ in range(2)]
    x, y = tta.flip_vectors(*b, list(MIRROR))
    got = average_with_flip(Outputs(simcc=a), Outputs(simcc=b), MIRROR, shift=True).simcc
    assert torch.equal(got[0], (a[0] + x) * 0.5)
    assert torch.equal(got[1], (a[1] + y) * 0.5)


def test_offsets_are_turned_as_mmpose_does(tta):
    offsets = torch.rand(2, 5, 2, 8, 6)
    wanted = tta.flip_heatmaps(offsets.reshape(2, 10, 8, 6).clone(), list(MIRROR), "offset", False)
    got = unflipped(Outputs(fields={"offsets": offsets}), MIRROR).fields["offsets"]
    assert torch.equal(got.reshape(2, 10, 8, 6), wanted)


def test_flipping_twice_changes_nothing():
    whole = Outputs(
        torch.rand(2, 5, 8, 6),
        (torch.rand(2, 5, 12), torch.rand(2, 5, 16)),
        fields={"offsets": torch.rand(2, 5, 2, 8, 6)},
        centres=torch.rand(2, 1, 8, 6),
    )
    twice = unflipped(unflipped(whole, MIRROR), MIRROR)
    assert torch.equal(twice.heatmaps, whole.heatmaps)
    assert torch.equal(twice.simcc[0], whole.simcc[0])
    assert torch.equal(twice.fields["offsets"], whole.fields["offsets"])
    assert torch.equal(twice.centres, whole.centres)


def test_flipping_leaves_its_argument_alone():
    maps = torch.rand(1, 5, 4, 4)
    before = maps.clone()
    average_with_flip(Outputs(maps), Outputs(maps), MIRROR, shift=True)
    assert torch.equal(maps, before)


def test_what_has_no_mirror_is_refused():
    with pytest.raises(ValueError, match="5 mirror partners for 17 keypoints"):
        unflipped(Outputs(torch.rand(1, 17, 4, 4)), MIRROR)
    with pytest.raises(NotAvailable, match=r"tags and tokens.*shift_coordinates=1 / width"):
        unflipped(Outputs(tags=torch.rand(1, 17, 4, 4)), MIRROR)
