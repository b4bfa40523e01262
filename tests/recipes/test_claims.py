"""Statements about a recipe are told apart: right, wrong, not checked."""

from __future__ import annotations

import json

import pytest

from workbench.recipes.claims import Claim, judge_claims
from workbench.recipes.claims_markdown import markdown_claims, own_configs, read_claims


def verdicts(report):
    return {(one.claim.key, one.verdict) for one in report.judgements}


def test_a_field_is_judged_by_its_name_its_place_and_its_word(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'recipe = "sapiens-1b-coco"\n'
        '[[claim]]\nkey = "optim_wrapper.optimizer.weight_decay"\nvalue = 0.05\n'
        '[[claim]]\nkey = "lr"\nvalue = "5e-4"\n'
        '[[claim]]\nkey = "codec.input_size"\nvalue = [1024, 768]\n'
        '[[claim]]\nkey = "colour"\nvalue = "blue"\n'
    )
    claims, name = read_claims(path)
    found = judge_claims(claims, name).judgements
    assert [(one.claim.key, one.verdict, one.expected) for one in found] == [
        ("optimizer.weight_decay", "wrong", 0.1),
        ("optimizer.lr", "right", 0.0005),
        ("codec.input_size", "wrong", [768, 1024]),
        ("colour", "not checked", None),
    ]
    assert [one.claim.line for one in found] == [2, 5, 8, 11]
    assert "exchanged" in found[2].why
    assert all("sapiens@3e829ac" in one.source for one in found[:3])


def test_a_text_of_lines_is_read(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text(
        "recipe: vitpose-b-coco\nlayer_decay = 0.65\nsigma = 2  # cells\nHungarian matching\nblue\n"
    )
    claims, name = read_claims(path)
    report = judge_claims(claims, name)
    assert [(one.claim.key, one.verdict) for one in report.judgements] == [
        ("optimizer.layer_decay", "wrong"),
        ("codec.sigma", "right"),
        ("metric.matching", "wrong"),
        ("", "not checked"),
    ]


def test_the_full_stop_of_a_sentence_is_no_part_of_its_number():
    text = "Audit of sapiens_1b-210e_coco-1024x768.py\n\nWeight decay of 0.1. Learning rate of 5e-4.\n"
    claims, name = markdown_claims(text)
    found = {one.claim.key: one.verdict for one in judge_claims(claims, name).judgements}
    assert found["optimizer.weight_decay"] == "right"


BLOCK = """
# Audit of sapiens_1b-210e_coco-1024x768.py

**Official config**:
```python
head = dict(deconv_out_channels=(768, 768), in_channels=embed_dim)  # 1024 for ViT-Base
os.system('touch pwned')
```

**Current Implementation (WRONG)**:
```python
head = dict(deconv_out_channels=(256, 256))
```

**Our config**:
```yaml
model:
  input_size: [256, 192]
```

Layer-wise decay (from ViTPose), ViT-Base:
```python
for i in range(num_layers):
    factor = 0.75 ** (num_layers - i)
    names = ['backbone.patch_embed', 'backbone.pos_embed', 'backbone.last_norm', f'backbone.blocks.{i}']
```
"""


def test_code_in_markdown_is_parsed_and_not_run_and_own_code_is_no_claim(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claims, name = markdown_claims(BLOCK)
    assert name == "sapiens-1b-coco"
    report = judge_claims(claims, name)
    assert verdicts(report) >= {
        ("head.deconv_channels", "right"),
        ("vit.width", "wrong"),
        ("optimizer.layer_decay", "right"),
        ("layer_decay.exponent", "right"),
    }
    assert ("head.deconv_channels", "wrong") not in verdicts(report)
    assert not any(one.claim.key in ("codec.input_size", "layer_decay.reach") for one in report.judgements)
    assert own_configs(BLOCK) == [(17, "model:\n  input_size: [256, 192]")]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("exponent", "verdict"),
    [("num_layers - i", "right"), ("num_layers - i - 1", "wrong"), ("num_layers + 1 - i", "wrong")],
)
def test_the_exponent_of_a_layer_decay_is_computed(exponent, verdict):
    text = BLOCK.replace("(num_layers - i)", f"({exponent})")
    claims, name = markdown_claims(text)
    assert ("layer_decay.exponent", verdict) in verdicts(judge_claims(claims, name))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.toml", "claim = 3", "expected .*claim"),
        ("c.toml", "x = [", "no TOML"),
        ("c.txt", "\n\n", "no statement found"),
        ("c.md", "nothing\n", "no statement found"),
        ("c.txt", "lr = 1", "names no recipe"),
    ],
)
def test_bad_files_end_in_one_sentence(workbench, tmp_path, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    code, out, err = workbench("audit", "--claims", path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    import re

    assert re.search(says, err)


def test_the_built_in_statements_are_judged_as_a_files_are(workbench, tmp_path):
    from workbench.recipes.demo import CLAIMS, CLAIMS_TITLE

    path = tmp_path / CLAIMS_TITLE
    path.write_text(CLAIMS)
    code, out, err = workbench("audit", "--claims", "--demo")
    assert (code, err) == (0, "")
    assert out == workbench("audit", "--claims", path)[1]
    code, out, _ = workbench("audit", "--claims", "--demo", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts == json.loads(workbench("audit", "--claims", path, "--json")[1])
    code, _, err = workbench("audit", "--claims", path, "--demo")
    assert (code, "--claims FILE or --claims --demo" in err) == (2, True)


def test_numbers_and_texts_without_end_are_told_and_not_worked_on(tmp_path):
    endless = f"0x{'f' * 600}"
    path = tmp_path / "c.md"
    path.write_text(
        f"# vitpose-b-coco\n- batch size of {'9' * 450}\n```python\nDataLoader(x, batch_size={endless})\n"
        f"optim_wrapper = dict(optimizer=dict(lr={endless}))\nr = 0.75 ** (layers - i - {endless})\n```\n"
    )
    claims, name = read_claims(path)
    found = [(one.claim.key, one.verdict) for one in judge_claims(claims, name).judgements]
    assert ("train.batch_size", "wrong") in found
    assert "optimizer.lr" not in dict(found)
    for name, lines in (("c.txt", "a=1\n" * 2001), ("c.md", "a\x0c" * 20_001)):
        path = tmp_path / name
        path.write_text(f"recipe: vitpose-b-coco\n{lines}")
        with pytest.raises(ValueError, match=r"in more than \d+ lines are refused"):
            read_claims(path)


def test_an_absent_file_and_both_questions_at_once_are_refused(workbench, tmp_path):
    code, _, err = workbench("audit", "--claims", tmp_path / "absent.md")
    assert (code, "no such file or folder" in err) == (2, True)
    (tmp_path / "b.md").write_text("input 192x256")
    code, _, err = workbench("audit", tmp_path / "a.py", "--claims", tmp_path / "b.md")
    assert code == 2
    assert "got both" in err


def test_a_forecast_below_the_best_published_figure_is_not_judged():
    claims = [Claim("", "published.ap", (78.0, 82.0)), Claim("", "published.ap", (82.0, 92.0))]
    found = judge_claims(claims, "sapiens-1b-coco").judgements
    assert [one.verdict for one in found] == ["not checked", "wrong"]


# The table of the audit that a person wrote from memory: what is right in it, and what is wrong.
RIGHT = {
    "head.deconv_channels", "head.deconv_kernels", "head.conv_channels", "head.conv_kernels", "codec.type",
    "optimizer.lr", "optimizer.clip", "schedule.epochs", "augment.RandomHalfBody",
    "augment.RandomBBoxTransform", "augment.PhotometricDistortion", "test.flip", "test.flip_mode",
    "test.shift_heatmap", "backbone.patch_size", "backbone.patch_padding", "paper.sapiens", "paper.udp",
    "metric.crowd",
}  # fmt: skip
WRONG = {
    "vit.width", "head.norm", "head.conv_bias", "published.ap", "codec.input_size", "codec.heatmap_size",
    "codec.sigma", "codec.udp", "train.batch_size", "optimizer.weight_decay", "optimizer.constructor",
    "schedule.warmup", "schedule.decay", "schedule.eta_min", "augment.CoarseDropout.p", "metric.matching",
    "metric.box_filter", "metric.area_thresholds", "backbone.arch", "backbone.img_size",
    "backbone.pretrained", "train.drop_last", "train.prefetch_factor", "optimizer.layer_decay",
    "layer_decay.exponent", "layer_decay.reach", "config.lines", "paper.vitpose", "paper.multi-path",
    "consistency.loss", "consistency.teacher", "consistency.sharpening", "consistency.threshold",
}  # fmt: skip


def test_an_audit_from_memory_is_told_right_from_wrong(shared, workbench):
    file = shared / "seeds/004.md"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    code, out, _ = workbench("audit", "--claims", file, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["recipe"] == "sapiens-1b-coco"
    by_verdict = {
        verdict: {one["key"] for one in facts["claims"] if one["verdict"] == verdict}
        for verdict in ("right", "wrong")
    }
    assert by_verdict["right"] >= RIGHT
    assert by_verdict["wrong"] >= WRONG
    assert not by_verdict["right"] & by_verdict["wrong"]
    assert not RIGHT & by_verdict["wrong"]
    own = {one["key"]: one["expected"] for config in facts["own_configs"] for one in config["findings"]}
    assert own["training.phase2.batch_size"] == 64
    assert own["training.phase2.weight_decay"] == 0.1
    assert own["model.input_size"] == [768, 1024]
    for one in facts["claims"]:
        if one["verdict"] != "not checked":
            assert one["source"], one
            assert one["expected"] is not None, one
