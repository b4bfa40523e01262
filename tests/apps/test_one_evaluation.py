"""Compare, `workbench evaluate` and `workbench score` of its file give one figure, whatever a set holds."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from apps.pages.errors import ErrorsOfResult, Wanted
from apps.pages.results import ResultFiles
from apps.pages.sections import Download
from apps.server.comparison import Asked
from apps.server.context import Context
from apps.server.settings import Settings
from tests.places import SHARED
from tests.waiting import until, when
from workbench.checkpoints.demo import demo_checkpoints, demo_data, demo_manifest, demo_run
from workbench.data import BUILTIN, builtin, read_coco
from workbench.evaluation.keypoint_ap import FIGURES
from workbench.skeletons import SKELETONS

HERE = Path(__file__).parent
FILES = {
    "coco": "coco/test_coco.json",
    "wholebody": "coco/test_coco_wholebody.json",
    "ap10k": "ap10k/test_ap10k.json",
    "crowdpose": "crowdpose/test_crowdpose.json",
    "animalpose": "animalpose/test_animalpose.json",
}
TOLD = (*FIGURES, "per_category")
COUNTED = ("images", "instances", "left_out", "max_dets", "area", "detection_area")


def shown(data, folder, keypoints, adapter: Path | None = HERE / "near_truth.py"):
    """What Compare is told of one epoch on one set, a built-in one's name or a file.

    Args:
        keypoints: of the model near the truth; None where the run is there already.
    """
    run = folder / "served" / "run"
    run.mkdir(parents=True, exist_ok=True)
    if keypoints is not None:
        state = {"state_dict": {"count": torch.tensor(keypoints)}, "meta": {"epoch": 1}}
        torch.save(state, run / "epoch_1.pth")
    files = (data,) if isinstance(data, Path) else ()
    context = Context.of(Settings(root=run.parent, data=files, cache=folder / "cache", adapter=adapter))
    identity = data.name if isinstance(data, Path) else data
    offered = context.registry.sets.fitting(context.registry.skeleton("run", 0))
    assert identity in offered, "a set that the command line takes"
    asked = Asked("run", identity)
    context.computing.begin(asked)
    until(lambda: not context.computing.missing(asked), 60)
    epoch_answer = context.comparisons.answer(asked)
    context.jobs.close()
    return epoch_answer


def answer(workbench, *words):
    code, out, err = workbench(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def evaluated(workbench, data, folder, *more, adapter: Path | None = HERE / "near_truth.py", sigmas=()):
    """What the command line tells of the same, which is what it tells of the results that it wrote.

    Args:
        sigmas: of the model, which a file of results does not hold.
    """
    found = folder / "found.json"
    named = [] if adapter is None else ["--adapter", adapter]
    (file,) = (folder / "served" / "run").glob("*.pth")
    facts = answer(workbench, "evaluate", file, *named, "--data", data, *more, "--out", found)
    own = ["--sigmas", ",".join(map(str, sigmas))] if sigmas else []
    if "--skip-missing" not in more:  # a file of results does not tell which images were there
        scored = answer(workbench, "score", found, "--data", data, *more, *own)
        assert {name: scored[name] for name in TOLD} == {name: facts[name] for name in TOLD}
        rules = scored["protocol"], facts["protocol"]
        assert [rules[0][name] for name in COUNTED] == [rules[1][name] for name in COUNTED]
    return facts


def assert_same(epoch_answer, facts):
    epoch = epoch_answer["epochs"][0]
    figures = {name: facts[name] for name in epoch["figures"]}
    assert {n: None if v != v else v for n, v in epoch["figures"].items()} == figures
    assert epoch["per_keypoint"] == facts["per_keypoint"]
    rules = {name: value for name, value in facts["protocol"].items() if name != "sha256"}
    shown_rules = {name: value for name, value in epoch_answer["protocol"].items() if name != "sha256"}
    assert shown_rules == rules


def with_crowds(folder, name="scenes-val", count=24):
    """Drawn scenes in which every other image holds a crowd, and every third person labels nothing."""
    scenes = builtin(name)
    data = copy.deepcopy(scenes.raw)
    data["images"] = data["images"][:count]
    ids = {image["id"] for image in data["images"]}
    for image in data["images"]:
        drawn = scenes.images[image["id"]].path
        image["file_name"] = drawn.name
        shutil.copy(drawn, folder / drawn.name)
    people = [a for a in data["annotations"] if a["image_id"] in ids]
    for number, person in enumerate(people):
        if number % 3 == 0:
            person.update(keypoints=[0] * len(person["keypoints"]), num_keypoints=0)
    for number, image in enumerate(data["images"][::2]):
        w, h = image["width"], image["height"]
        people.append(
            people[0]
            | {
                "id": 10_000 + number, "image_id": image["id"], "iscrowd": 1, "num_keypoints": 0,
                "keypoints": [0] * len(people[0]["keypoints"]), "bbox": [0, 0, w, h], "area": float(w * h),
            }
        )  # fmt: skip
    # Two images on which nobody can be chosen: a crowd alone, and nothing.
    data["annotations"] = [p for p in people if p["image_id"] not in sorted(ids)[:2] or p["id"] >= 10_000]
    path = folder / "crowds.json"
    path.write_text(json.dumps(data))
    return path


def test_crowds_and_unlabelled_people_count_alike(workbench, tmp_path):
    data = with_crowds(tmp_path)
    epoch_answer = shown(data, tmp_path, 17)
    facts = evaluated(workbench, data, tmp_path)
    assert facts["protocol"]["images"] == 24
    assert 0 < facts["AP"] < 1
    assert_same(epoch_answer, facts)


@pytest.mark.parametrize("run", [run["name"] for run in demo_manifest()])
def test_crowds_and_unlabelled_people_count_alike_for_a_demo_run(workbench, tmp_path, run):
    data = with_crowds(tmp_path, demo_data(run), 8)
    served = shutil.copytree(demo_run(run), tmp_path / "served" / "run")
    for other in demo_checkpoints(run)[:-1]:
        (served / other.name).unlink()
    epoch_answer = shown(data, tmp_path, None, None)
    assert_same(epoch_answer, evaluated(workbench, data, tmp_path, adapter=None))


# The training sets are drawn on first use, which takes a minute.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n.endswith("-train") else []) for n in BUILTIN]
)
def test_built_in_sets_have_one_figure(workbench, tmp_path, name):
    assert_same(shown(name, tmp_path, 17), evaluated(workbench, name, tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_real_sets_have_one_figure(workbench, tmp_path, name):
    path = SHARED / "data" / FILES[name]
    if not path.is_file():
        pytest.skip(f"no real data beside the project ({path.name} is absent)")
    epoch_answer = shown(path, tmp_path, len(read_coco(path).skeleton))
    facts = evaluated(workbench, path, tmp_path, *(["--no-area"] if name == "crowdpose" else []))
    assert_same(epoch_answer, facts)


def test_one_missing_image_is_named_and_the_rest_is_compared(workbench, tmp_path):
    data = with_crowds(tmp_path)
    gone = tmp_path / json.loads(data.read_text())["images"][5]["file_name"]
    picture = gone.read_bytes()
    gone.unlink()
    epoch_answer = shown(data, tmp_path, 17)
    assert f"1 missing image left out; missing: {gone.name}" in epoch_answer["protocol_text"]
    assert_same(epoch_answer, evaluated(workbench, data, tmp_path, "--skip-missing"))
    said = f"1 of 24 images are missing and left out with their annotations, the first is {gone.name}"
    (file,) = (tmp_path / "served" / "run").glob("*.pth")
    other = shutil.copy(file, tmp_path / "other.pth")
    model = ["--adapter", HERE / "near_truth.py", "--data", data]
    for verb, files in (("compare", [file, other]), ("errors", [file])):
        code, _, err = workbench(verb, *files, *model)
        assert (code, "1 of 24 images are missing" in err) == (2, True)
        assert "leave the missing ones out with --skip-missing" in err
        assert said in answer(workbench, verb, *files, *model, "--skip-missing")["notes"]
    settings = Settings(
        tmp_path / "served", (data,), cache=tmp_path / "cache", adapter=HERE / "near_truth.py"
    )
    context = Context.of(settings)
    page, asked = ErrorsOfResult(context, (), ()), ("run", "1", data.name, "published")
    page.start(*asked)
    found = when(lambda: page.result(*asked), bool)
    assert f"{said}</div>" in page.updates(found, Download("errors", "errors", ""), "figure", *asked)[2]
    context.jobs.close()
    gone.write_bytes(picture)
    assert "missing" not in shown(data, tmp_path / "again", 17)["protocol_text"]


@pytest.mark.parametrize("left", [3, 0])
def test_a_result_file_is_judged_without_images(workbench, tmp_path, left):
    data, results = with_crowds(tmp_path, count=8), tmp_path / "results.json"
    content = json.loads(data.read_text())
    for image in content["images"][left:]:
        (tmp_path / image["file_name"]).unlink()
    people = [person for person in content["annotations"] if person["num_keypoints"]]
    for person in people[::2]:
        person["keypoints"] = [v + 4 * (i % 3 < 2) for i, v in enumerate(person["keypoints"])]
    results.write_text(json.dumps([{**person, "score": 1 / person["id"]} for person in people]))
    scored = answer(workbench, "score", results, "--data", data)
    assert 0 < scored["AP"] < 1
    context = Context.of(Settings(root=tmp_path, data=(data,), cache=tmp_path / "cache"))
    files, words = ResultFiles(context), (data.name, str(results), str(results), "")
    files.start(*words)
    compared = when(lambda: files.result(*words), bool)
    assert compared is not None
    found = ErrorsOfResult(context, (), ())._answer(Wanted("", "", data.name, "published", str(results)))
    context.jobs.close()
    assert compared.evaluations[0].figures["AP"] == found.reports[""].to_json()["AP"] == scored["AP"]
    assert "with_present_images" not in found.code


OWN_SIGMAS = tuple(0.2 + 0.01 * k for k in range(17))


def with_own_sigmas(folder, keypoints):
    """The same model with names and sigmas of its own, as a config's metainfo has them."""
    path = folder / "own_sigmas.py"
    path.write_text(
        "from tests.apps.near_truth import NearTruth\n"
        "from workbench.core import Skeleton\n\n"
        "def load(checkpoint, device):\n"
        f"    model, names = NearTruth({len(keypoints)}), {tuple(keypoints)!r}\n"
        f"    model.skeleton = Skeleton('mine', names, sigmas={OWN_SIGMAS}, source='its config')\n"
        "    return model\n"
    )
    return path


def compared(workbench, data, folder, adapter):
    """AP of `workbench compare`, of two copies of the same epoch."""
    file = folder / "served" / "run" / "epoch_1.pth"
    shutil.copy(file, folder / "epoch_2.pth")
    words = ["--adapter", adapter, "--data", data, "--resamples", 2, "--json"]
    code, out, err = workbench("compare", file, folder / "epoch_2.pth", *words)
    assert code == 0, err
    return [epoch["AP"] for epoch in json.loads(out)["epochs"]]


def test_sigmas_of_the_model_judge_everywhere(workbench, tmp_path):
    adapter = with_own_sigmas(tmp_path, SKELETONS["coco-17"].keypoints)
    epoch_answer = shown("astronaut", tmp_path, 17, adapter)
    facts = evaluated(workbench, "astronaut", tmp_path, adapter=adapter, sigmas=OWN_SIGMAS)
    assert_same(epoch_answer, facts)
    assert epoch_answer["skeleton"]["sigmas"] == OWN_SIGMAS
    assert facts["AP"] != evaluated(workbench, "astronaut", tmp_path)["AP"]
    assert compared(workbench, "astronaut", tmp_path, adapter) == [facts["AP"]] * 2


def test_sigmas_of_the_model_judge_a_set_that_has_none(workbench, tmp_path):
    data = with_crowds(tmp_path)
    raw = json.loads(data.read_text())
    names = [f"point_{k}" for k in range(17)]
    for category in raw["categories"]:
        category["keypoints"] = names
    data.write_text(json.dumps(raw))
    adapter = with_own_sigmas(tmp_path, names)
    epoch_answer = shown(data, tmp_path, 17, adapter)
    facts = evaluated(workbench, data, tmp_path, adapter=adapter, sigmas=OWN_SIGMAS)
    assert_same(epoch_answer, facts)
    assert compared(workbench, data, tmp_path, adapter) == [facts["AP"]] * 2
