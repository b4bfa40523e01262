"""Encoders of other families from folders on this machine: BERT and its kin, and CLIP's text half."""

from __future__ import annotations

import json
import os
import shutil
import string

import numpy as np
import pytest

from tests.models.text_fusion_net import config, written
from workbench.models.sentence_encoder import sentence_encoder
from workbench.text import encoding
from workbench.text.vectors import BUILTIN, read_text

SENTENCES = ["the nose of a horse", "a paw"]
WIDTH, PROJECTED = 12, 8


@pytest.fixture(scope="module")
def transformers():
    from workbench.models.mmpose_compat import hide_broken_torchvision

    hide_broken_torchvision()
    import transformers

    transformers.set_seed(0)
    return transformers


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def bert(transformers, encoders):
    """A network of BERT's layout with letters for words; its name is all it has of BioBERT."""
    folder = encoders / "BioBERT"
    folder.mkdir()
    letters = [*string.ascii_lowercase, *string.punctuation]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    settings = transformers.BertConfig(
        vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    transformers.BertModel(settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(transformers, encoders):
    folder = encoders / "clip"
    folder.mkdir()
    ends = ["<|startoftext|>", "<|endoftext|>"]
    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), *ends]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    half = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**half, "vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1,
            "pad_token_id": len(words) - 1}  # fmt: skip
    vision = {**half, "image_size": 32, "patch_size": 16}
    settings = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTED)
    transformers.CLIPModel(settings).save_pretrained(folder)
    return folder


def tokens(transformers, folder):
    return transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")


def test_bert_is_read_as_the_mean_of_its_last_states(transformers, bert):
    given = tokens(transformers, bert)
    states = transformers.BertModel.from_pretrained(bert)(**given).last_hidden_state.detach()
    shares = given["attention_mask"][..., None]
    by_hand = ((states * shares).sum(1) / shares.sum(1)).numpy()
    assert np.allclose(sentence_encoder(bert)(SENTENCES), by_hand, atol=1e-5)


def test_of_clip_the_projected_text_half_is_read(transformers, clip):
    whole = transformers.CLIPModel.from_pretrained(clip)
    seen = whole.text_projection(whole.text_model(**tokens(transformers, clip)).pooler_output)
    found = sentence_encoder(clip)(SENTENCES)
    assert found.shape == (2, PROJECTED)
    assert np.allclose(found, seen.detach().numpy(), atol=1e-5)
    # CLIP reads 77 tokens; what is longer is cut off, not refused.
    assert sentence_encoder(clip)(["nose " * 200]).shape == (1, PROJECTED)


def test_weights_that_are_missing_are_not_made_up(transformers, clip, tmp_path):
    settings = transformers.CLIPTextConfig.from_pretrained(clip)
    small = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    transformers.BertModel(transformers.BertConfig(**small, intermediate_size=4)).save_pretrained(tmp_path)
    settings.save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text((clip / name).read_text())
    with pytest.raises(ValueError, match=r"no sentence encoder that can be loaded: the files lack"):
        sentence_encoder(tmp_path)(SENTENCES)


def test_a_folder_that_names_foreign_code_is_refused_and_nothing_is_imported(
    transformers, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "foreign_code.py").write_text("raise SystemExit('imported')")
    own, function = "sentence_transformers.models", {"activation_function": "foreign_code.run"}
    (tmp_path / "config.json").write_text(json.dumps(function))
    (tmp_path / "router_config.json").write_text(json.dumps({"types": {"": "foreign_code.Encoder"}}))
    for kind, place, says in (
        ("foreign_code.Encoder", "", r"modules.json names foreign_code.Encoder"),
        # What version 5 of the library imports of the configs of its own modules, and calls.
        (f"{own}.Dense", "", r"config.json names foreign_code.run"),
        (f"{own}.Router", "", r"modules.json names sentence_transformers.models.Router"),
        (f"{own}.Dense.torch", "", r"modules.json names"),
        (f"{own}.Pooling", "../other", r"'../other', which lies outside of the folder"),
    ):
        modules = [{"idx": 0, "name": "0", "path": place, "type": kind}]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ValueError, match=says):
            sentence_encoder(tmp_path)(SENTENCES)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        # What sentence-transformers hands on to transformers: files, folders and code from elsewhere.
        ("sentence_bert_config.json", {"tokenizer_args": {"vocab_file": "/etc/passwd"}}, "sets vocab_file"),
        ("sentence_bert_config.json", {"model_args": {"subfolder": "../other"}}, "sets subfolder"),
        ("config.json", {"_attn_implementation": "somebody/kernel"}, "sets _attn_implementation"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../b.safetensors"}}, "lies outside"),
        ("adapter_config.json", {"base_model_name_or_path": "/other"}, "names another model"),
        ("config.json", {"vocab_size": 10**8}, "asks for vocab_size 100000000, and the files"),
        ("config.json", {"hidden_size": 10**5}, "asks for hidden_size 100000, and the files"),
        ("config.json", {"num_hidden_layers": 10**4}, "asks for 10000 layers"),
        ("1_Dense/config.json", {"in_features": 900, "out_features": 900}, "asks for 900 to 900 features"),
    ],
)
def test_a_config_leads_neither_out_of_the_folder_nor_to_memory(bert, tmp_path, file, content, says):
    shutil.copytree(bert, tmp_path / "own")
    path = tmp_path / "own" / file
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | content))
    with pytest.raises(ValueError, match=says):
        sentence_encoder(tmp_path / "own")(SENTENCES)


@pytest.mark.parametrize("name", ["link", "pipe"])
def test_neither_links_out_of_an_encoders_folder_nor_pipes_are_read(bert, tmp_path, name):
    shutil.copytree(bert, tmp_path / "own")
    vocabulary = tmp_path / "own" / "vocab.txt"
    vocabulary.rename(tmp_path / "vocab.txt")
    if name == "link":
        vocabulary.symlink_to(tmp_path / "vocab.txt")
    else:
        os.mkfifo(vocabulary)
    with pytest.raises(ValueError, match=r"leads out of the folder|no regular file"):
        sentence_encoder(tmp_path / "own")(SENTENCES)


def test_a_tokenizer_that_names_code_of_its_folder_is_refused_without_asking(clip, tmp_path, monkeypatch):
    """transformers asks on the terminal otherwise, and runs the code when the answer is y."""
    for file in clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    code = {"AutoTokenizer": ["foreign_code.Own", "foreign_code.Own"]}
    for name, more in (("config.json", {}), ("tokenizer_config.json", {"tokenizer_class": "Own"})):
        content = {**json.loads((clip / name).read_text()), "auto_map": code, **more}
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "foreign_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    asked = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    # Which sentence comes first depends on the classes that transformers has been asked for before.
    with pytest.raises(ValueError, match=r"contains custom code|no sentence encoder that can be loaded"):
        sentence_encoder(tmp_path)(SENTENCES)
    assert not asked
    assert not (tmp_path / "ran").exists()


def test_a_text_by_its_name_has_its_dimension_and_a_neck_that_reads_another_refuses_it(
    bert, tmp_path, monkeypatch, workbench
):
    monkeypatch.setenv("WORKBENCH_ENCODERS", str(bert.parent))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "bio.npz"
    code, text, _ = workbench(
        "text", BUILTIN / "drawn-quadrupeds.toml", "--encoder", "BioBERT", "--out", out, "--json"
    )
    assert (code, json.loads(text)["dimension"]) == (0, WIDTH)
    assert read_text(out).encoder == "BioBERT"
    model = written(config(), tmp_path)
    code, _, err = workbench("paths", model, "--text", out)
    assert code == 2
    assert "vectors of 12 numbers by BioBERT, this neck reads 384" in err


def test_a_folder_without_end_is_no_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "MOST_FILES", 3)
    for name in "abcd":
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="more than 3 files"):
        encoding.Encoder("x", tmp_path).fingerprint()
