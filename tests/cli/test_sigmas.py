"""--sigmas: every verb that measures AP or OKS of a model takes it, and gives the figure of `evaluate`."""

from __future__ import annotations

import json

import pytest

from workbench.checkpoints.demo import demo_checkpoints, demo_config
from workbench.data import builtin

WIDE = "0.2"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Options for the first images of a built-in set: `few(name, count)`."""
    folder = tmp_path_factory.mktemp("few")

    def words(name, count):
        scenes = builtin(name)
        images = scenes.raw["images"][:count]
        ids = {entry["id"] for entry in images}
        raw = {
            **scenes.raw,
            "images": [{**e, "file_name": scenes.images[e["id"]].path.name} for e in images],
            "annotations": [a for a in scenes.raw["annotations"] if a["image_id"] in ids],
        }
        (folder / f"{name}.json").write_text(json.dumps(raw))
        return ["--data", folder / f"{name}.json", "--images", scenes.images[images[0]["id"]].path.parent]

    return words


@pytest.fixture
def facts_of(workbench):
    def answer(*words):
        code, out, err = workbench(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return answer


@pytest.mark.long
def test_a_bottom_up_model_has_one_ap_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints("higherhrnet-demo")[-1], *few("scenes-people-val", 3)]
    wide, narrow = (facts_of("evaluate", *words, "--sigmas", s)["AP"] for s in (WIDE, "0.1"))
    assert wide > narrow
    for sigmas, ap in ((WIDE, wide), ("0.1", narrow)):
        assert facts_of("oracle", *words, "--sigmas", sigmas)["steps"][0]["AP"] == pytest.approx(ap, abs=1e-9)
        swept = facts_of("ablate", "tags", *words, "--sigmas", sigmas)
        assert swept["reference"]["AP"] == pytest.approx(ap, abs=1e-9)


@pytest.mark.long
def test_a_top_down_model_has_one_ap_and_one_oks_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints()[-1], *few("scenes-val", 3), "--config", demo_config()]
    whole = facts_of("evaluate", *words, "--sigmas", WIDE)
    mean = sum(one["oks"] for one in whole["instances"]) / len(whole["instances"])
    assert facts_of("oracle", *words, "--sigmas", WIDE)["steps"][0]["AP"] == pytest.approx(
        whole["AP"], abs=1e-9
    )
    assert facts_of("probe", "flip", *words, "--sigmas", WIDE)["value"] == pytest.approx(mean, abs=1e-9)


@pytest.mark.long
def test_a_conditioned_model_has_one_ap_with_given_sigmas(facts_of, few):
    words = [demo_checkpoints("rtmpose-text-fusion")[-1], *few("scenes-val", 3)]
    ap = facts_of("evaluate", *words, "--sigmas", WIDE)["AP"]
    assert facts_of("ablate", "conditioning", *words, "--sigmas", WIDE)["reference"]["AP"] == pytest.approx(
        ap
    )
    assert facts_of("clinic", *words, "--sigmas", WIDE)["ablation"]["reference"]["AP"] == pytest.approx(ap)


@pytest.mark.parametrize(
    "verb", [["oracle"], ["ablate", "grouping"], ["ablate", "conditioning"], ["probe", "input"], ["clinic"]]
)
def test_sigmas_of_another_skeleton_are_refused(workbench, few, verb):
    name = {"ablate grouping": "higherhrnet-demo", "clinic": "rtmpose-text-fusion"}.get(" ".join(verb), "")
    name = name or ("rtmpose-text-fusion" if "conditioning" in verb else "rtmpose-demo")
    config = ["--config", demo_config()] if name == "rtmpose-demo" else []
    words = [demo_checkpoints(name)[-1], *few("scenes-val", 1), *config, "--sigmas", "0.1,0.2"]
    code, _, err = workbench(*verb, *words)
    assert (code, "--sigmas: expected one number above 0, or 17" in err) == (2, True), err
