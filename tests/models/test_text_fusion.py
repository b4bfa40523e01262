"""The parts of the text fusion family: what FiLM, gate, attention and refiner do, by hand and by law."""

from __future__ import annotations

import pytest
import torch

from workbench.models.text_fusion.family import Sentences, in_data_samples
from workbench.models.text_fusion.neck import scale_and_shift
from workbench.models.text_fusion.register import SimCCDiffusionRefiner, TextFusionNeck

C, D, K = 4, 3, 5
FEATURES = torch.arange(2 * C * 4, dtype=torch.float32).reshape(2, C, 2, 2) / 10 - 1


def neck(**options):
    torch.manual_seed(1)
    return TextFusionNeck(
        **{"in_channels": C, "out_channels": C, "global_text_dim": D, "local_text_dim": D,
           "num_keypoints": K, **options}
    ).eval()  # fmt: skip


def text(images=2):
    torch.manual_seed(2)
    return Sentences(torch.randn(images, D), torch.randn(images, K, D))


def refiner(**options):
    torch.manual_seed(3)
    return SimCCDiffusionRefiner(**{"coord_dim": 8, "hidden_dim": 6, **options}).eval()


def peaks(*heights):
    """One image; keypoint k has a peak of heights[k] in both vectors."""
    vectors = torch.zeros(1, len(heights), 8)
    for k, height in enumerate(heights):
        vectors[0, k, k] = height
    return vectors


def test_the_keys_and_shapes_are_those_of_the_published_files():
    film = TextFusionNeck().state_dict()
    assert {k: tuple(v.shape) for k, v in film.items()} == {
        "film_gate": (), "global_mlp.0.weight": (1536, 384), "global_mlp.0.bias": (1536,),
        "local_mlp.0.weight": (768, 384), "local_mlp.0.bias": (768,),
    }  # fmt: skip
    attention = TextFusionNeck(fusion_type="attention", out_channels=256).state_dict()
    assert set(attention) - set(film) == {
        "cross_attn.in_proj_weight", "cross_attn.in_proj_bias", "cross_attn.out_proj.weight",
        "cross_attn.out_proj.bias", "norm.weight", "norm.bias", "norm2.weight", "norm2.bias", "ffn.0.weight",
        "ffn.0.bias", "ffn.3.weight", "ffn.3.bias", "out_proj.weight", "out_proj.bias",
    }  # fmt: skip
    shapes = {k: tuple(v.shape) for k, v in SimCCDiffusionRefiner().state_dict().items()}
    layers = ("encoder.0", "encoder.1", "middle_blocks.0.0", "middle_blocks.0.1", "middle_blocks.1.0",
              "middle_blocks.1.1", "decoder.0", "decoder.1", "decoder.4", "time_mlp.0")  # fmt: skip
    assert set(shapes) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert (shapes["encoder.0.weight"], shapes["decoder.4.weight"]) == ((256, 1025), (1024, 256))


@pytest.mark.parametrize("mlp", ["linear-relu-dropout", "linear", "linear-relu-linear"])
@pytest.mark.parametrize("gate", ["learned", "fixed", "none"])
@pytest.mark.parametrize("baseline", [0, 1])
def test_an_identity_start_leaves_the_features_whatever_the_sentence(mlp, gate, baseline):
    net = neck(mlp=mlp, gate=gate, gamma_baseline=baseline, init="identity")
    torch.testing.assert_close(net((FEATURES,), text())[0], FEATURES)


def test_film_is_scale_times_feature_plus_shift_by_hand():
    net = neck(mlp="linear", gate="none", init="random", text_from="each")
    sentences = text()
    film = sentences.subject @ net.global_mlp[0].weight.T + net.global_mlp[0].bias
    expected = film[:, :C, None, None] * FEATURES + film[:, C:, None, None]
    torch.testing.assert_close(net((FEATURES,), sentences)[0], expected)
    net.gamma_baseline = 1.0
    torch.testing.assert_close(net((FEATURES,), sentences)[0], expected + FEATURES)
    scale, shift = scale_and_shift(film, 1.0)
    torch.testing.assert_close(scale, film[:, :C] + 1)
    torch.testing.assert_close(shift, film[:, C:])


def test_a_gate_blends_what_is_fused_with_the_features():
    options = {"mlp": "linear", "init": "random", "text_from": "each"}
    fused = neck(gate="none", **options)((FEATURES,), text())[0]
    for gate in ("fixed", "learned"):
        blended = neck(gate=gate, gate_value=0.25, **options)((FEATURES,), text())[0]
        torch.testing.assert_close(blended, 0.25 * fused + 0.75 * FEATURES)
    assert "film_gate" in dict(neck(gate="learned").named_parameters())
    assert "film_gate" not in neck(gate="fixed").state_dict()


def test_the_published_layers_give_no_negative_scale_and_drop_a_tenth_while_training():
    net = neck(in_channels=2000, out_channels=2000, init="random")
    assert (net.global_mlp(text().subject) >= 0).all()
    net.global_mlp[0].bias.data.fill_(9)
    net.train()
    dropped = (net.global_mlp(text().subject) == 0).float().mean()
    assert 0.08 < dropped < 0.12
    net.eval()
    assert (net.global_mlp(text().subject) > 0).all()


def test_every_image_has_the_first_ones_text_or_its_own():
    sentences = text()
    swapped = Sentences(sentences.subject.flip(0), sentences.keypoints.flip(0))
    options = {"mlp": "linear", "gate": "none", "init": "random"}
    first, each = neck(text_from="first", **options), neck(text_from="each", **options)
    torch.testing.assert_close(first((FEATURES,), sentences)[0][0], each((FEATURES,), sentences)[0][0])
    torch.testing.assert_close(first((FEATURES,), sentences)[0][1], each((FEATURES,), swapped)[0][1])


def test_attention_reads_the_keypoint_sentences_as_a_set():
    net, sentences = neck(fusion_type="attention"), text()
    order = torch.tensor([4, 2, 0, 1, 3])
    other = Sentences(sentences.subject * 0, sentences.keypoints[:, order])
    torch.testing.assert_close(net((FEATURES,), sentences)[0], net((FEATURES,), other)[0])
    changed = Sentences(sentences.subject, sentences.keypoints * 2)
    assert not torch.allclose(net((FEATURES,), sentences)[0], net((FEATURES,), changed)[0])


def test_without_text_or_without_fusion_the_features_are_handed_on():
    assert torch.equal(neck(init="random")((FEATURES,))[0], FEATURES)
    assert torch.equal(neck(fusion_type="none", init="random")((FEATURES,), text())[0], FEATURES)


def test_text_that_does_not_fit_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="this neck reads vectors of 3 numbers, the text has 7"):
        neck()((FEATURES,), Sentences(torch.randn(2, 7), torch.randn(2, K, 7)))
    with pytest.raises(ValueError, match="reads 5 keypoint sentences, the text has 6"):
        neck(fusion_type="attention")((FEATURES,), Sentences(torch.randn(2, D), torch.randn(2, 6, D)))
    with pytest.raises(ValueError, match="2 images and text for 3"):
        neck()((FEATURES,), text(3))


@pytest.mark.parametrize(
    ("option", "value"),
    [("fusion_type", "flim"), ("mlp", "relu"), ("init", "zero"), ("gate", "on"), ("text_from", "all")],
)
def test_an_option_that_is_none_is_refused_with_those_that_are(option, value):
    with pytest.raises(ValueError, match=f"{option}: expected one of .*got '{value}'"):
        neck(**{option: value})


def test_data_samples_carry_text_only_where_all_of_them_do():
    with_text = {"global_text": torch.zeros(D).numpy(), "local_text": torch.zeros(K, D).numpy()}
    found = in_data_samples([with_text, with_text])
    assert found is not None
    assert found.subject.shape == (2, D)
    assert found.keypoints.shape == (2, K, D)
    assert in_data_samples([with_text, {}]) is None
    assert in_data_samples(None) is None


def test_confident_keypoints_alone_leave_the_refiner_as_they_came():
    x = peaks(0.8, 0.9)
    assert all(torch.equal(v, x) for v in refiner()(x, x))


def test_one_uncertain_keypoint_brings_down_the_scores_of_all():
    x = peaks(5.0, 5.0, 0.1)
    refined, _ = refiner()(x, x)
    assert refined.amax(-1).max() < 0.2, "about 1 / bins, when the peak was 5"
    assert refined[0, 0].argmax() == 0, "the confident one stays where it was"
    uncertain_only, _ = refiner(softmax="uncertain")(x, x)
    assert torch.equal(uncertain_only[:, :2], x[:, :2])
    torch.testing.assert_close(uncertain_only[0, 2].sum(), torch.tensor(1.0))


def test_the_mask_says_whose_vectors_change():
    x = peaks(5.0, 0.1)
    changed = {
        mask: (refiner(mask=mask, softmax="none", noise=0.0)(x, x)[0] != x).any(-1)[0].tolist()
        for mask in ("uncertain", "all", "none")
    }
    assert changed == {"uncertain": [False, True], "all": [True, True], "none": [False, False]}


def test_in_training_every_keypoint_is_refined_and_none_normalised():
    x = peaks(5.0, 5.0)
    refined, _ = refiner(noise=0.0)(x, x, "training")
    assert (refined != x).any()
    assert refined.amax(-1).min() > 3


def test_a_trained_refiner_moves_a_peak_in_as_many_steps_as_told():
    net = refiner(num_steps=4, softmax="none", noise=0.0)
    with torch.no_grad():
        net.decoder[4].weight.zero_()
        net.decoder[4].bias.zero_()
        net.decoder[4].bias[7] = 2.0  # the last bin of x
    x, y = net(peaks(0.5), peaks(0.5))
    assert (int(x[0, 0].argmax()), int(y[0, 0].argmax())) == (7, 0)
    torch.testing.assert_close(x[0, 0, 7], torch.tensor(2.0))


def test_a_refiner_for_another_width_says_so():
    with pytest.raises(ValueError, match="built for 8 bins, the head gives 9 and 9"):
        refiner()(torch.zeros(1, 2, 9), torch.zeros(1, 2, 9))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        refiner(num_steps=0)
