"""A run of bottom-up checkpoints in the app: it is listed, looked at and compared, person by person."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from apps.compare.page import code_of
from apps.pages.inspectors import answer
from apps.server.api import left_anew
from apps.server.comparison import Asked
from apps.server.context import Context
from apps.server.found_people import found_people
from apps.server.settings import Settings
from tests.apps.compare.reader import slide, words
from tests.apps.conftest import started
from tests.evaluation.ablation.planted import planted
from tests.waiting import until
from workbench.core import NotAvailable
from workbench.core.report import plain
from workbench.data import builtin
from workbench.decoding.grouping import HIGHERHRNET
from workbench.evaluation import predict
from workbench.inspectors import get
from workbench.models.higherhrnet.model import new_higherhrnet, write
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.skeletons import SKELETONS

SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)


def written(folder, epoch, bias):
    """A checkpoint of a small network; how sure it is of finding something hangs on `bias`."""
    torch.manual_seed(0)
    network = HigherHRNet(SMALL).eval()
    with torch.no_grad():
        network.final_layers[0].bias[:17] = bias
        network.final_layers[1].bias[:] = bias
    folder.mkdir(parents=True, exist_ok=True)
    write(new_higherhrnet(network, SKELETONS["coco-17"], 64), folder / f"epoch_{epoch}.pth", epoch)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    written(root / "small", 1, 0.12)
    return Context.of(Settings(root=root, cache=root / "cache", limit=4))


def test_its_run_is_known_and_shown_on_people(context):
    run = context.registry.runs()[0]
    assert context.registry.family(run)[0] == "HigherHRNet (official names)"
    assert context.registry.default_data("small", 0) == "scenes-people-val"
    assert context.registry.decoders("small", 0) == []


@pytest.mark.parametrize("name", ["overlay", "peaks"])
def test_look_pages_answer_for_the_person_in_the_samples_box(context, name):
    inspector = get(name)
    knobs = [f.default for f in dataclasses.fields(inspector.params)]
    bar = ["small", 0, "scenes-people-val", 1, "", None, None, None, None, None]
    sentence, *_ = answer(context, inspector, *bar, *knobs)
    assert "cannot answer" not in sentence


def test_outputs_of_whole_images_are_not_kept_by_instance(context):
    model = context.registry.model("small", 0).model
    with pytest.raises(NotAvailable, match="workbench compare"):
        predict(model, builtin("scenes-people-val"), indices=[0], keep_outputs=lambda *_: None)


def test_each_annotated_box_has_the_person_found_in_it():
    scenes = builtin("scenes-people-val")
    first, other = [i for i, people in scenes.labelled_of_image.items() if len(people) > 1][:2]
    wanted = [scenes.labelled_of_image[i][n] for i, n in ((first, 1), (other, 0), (first, 0))]
    rows = found_people(planted(scenes, [first, other]), scenes, wanted).rows
    assert rows.image_id.tolist() == [first, other, first]
    for keypoints, index in zip(rows.keypoints, wanted, strict=True):
        truth = scenes.instances[index].truth
        error = np.linalg.norm(keypoints - truth[:, :2], axis=1)[truth[:, 2] > 0]
        assert np.nanmedian(error) < 1.5
    assert (rows.score > 0).all()


def test_where_nobody_was_found_the_row_is_empty(context):
    unsure = dataclasses.replace(
        context.registry.model("small", 0).model,
        grouping=dataclasses.replace(HIGHERHRNET, detection_threshold=100.0),
    )
    rows = found_people(unsure, builtin("scenes-people-val"), [0, 1]).rows
    assert np.isnan(rows.keypoints).all()
    assert (rows.score == 0).all()


def test_compare_shows_its_epochs_with_their_rules_and_maps(context):
    asked = Asked("small", "scenes-people-val")
    context.computing.begin(asked)
    until(lambda: not context.computing.missing(asked), seen=lambda: context.computing.job(asked))
    result = context.comparisons.answer(asked)
    assert [epoch["ready"] for epoch in result["epochs"]] == [True]
    assert (result["count"], result["maps"], result["decoders"]) == (4, "heatmap", [])
    assert result["protocol_text"].startswith("whole images, no flip")
    assert "grouping as HigherHRNet" in result["protocol_text"]
    left = left_anew(context, "small", 0, "scenes-people-val", 0)
    assert left.maps.shape[0] == 17
    # A cell of the map is twice as wide as a pixel of the input: the finer of its two resolutions.
    assert left.maps.shape[2] * 2 == left.facts["input_size"][1]
    code = code_of(context, asked, [0])
    compile(code, "code", "exec")
    assert "some = annotated.labelled[:4]" in code


def test_compare_has_the_figures_of_the_command_line(context, workbench, tmp_path):
    """Of everybody found in whole images, those on images without an annotated person included."""
    scenes = builtin("scenes-people-val")
    data = copy.deepcopy(scenes.raw)
    with_nobody = [i for i in scenes.images if i not in scenes.labelled_of_image][:1]
    ids = [*list(scenes.labelled_of_image)[:3], *with_nobody]
    data["images"] = [image for image in data["images"] if image["id"] in ids]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]
    for image in data["images"]:
        drawn = scenes.images[image["id"]].path
        image["file_name"] = drawn.name
        shutil.copy(drawn, tmp_path / drawn.name)
    path = tmp_path / "people.json"
    path.write_text(json.dumps(data))
    written(tmp_path / "served" / "small", 1, 0.12)
    served = Context.of(Settings(root=tmp_path / "served", data=(path,), cache=tmp_path / "cache"))
    asked = Asked("small", "people.json")
    served.computing.begin(asked)
    until(lambda: not served.computing.missing(asked), 60)
    result = served.comparisons.answer(asked)
    served.jobs.close()
    code, out, err = workbench("evaluate", tmp_path / "served/small/epoch_1.pth", "--data", path, "--json")
    assert code == 0, err
    facts = json.loads(out)
    epoch = result["epochs"][0]
    assert plain(epoch["figures"]) == {name: facts[name] for name in epoch["figures"]}
    assert epoch["per_keypoint"] == facts["per_keypoint"]
    assert result["protocol_text"].startswith(facts["protocol"]["text"])
    assert facts["protocol"]["images"] == len(ids)


def test_grouping_page_judges_with_the_models_own_sigmas(context, monkeypatch):
    from apps.pages.grouping.set_evaluation import SetEvaluations, SetRequest, StoredPasses

    model, seen = context.registry.model("small", 0).model, []
    own = dataclasses.replace(model, skeleton=dataclasses.replace(model.skeleton, sigmas=(0.2,) * 17))
    monkeypatch.setattr(
        "workbench.inspectors.grouping.replay.evaluate_settings", lambda *given: seen.append(given[2])
    )
    request = SetRequest("small", 0, "scenes-people-val")
    data = context.registry.sets.apart(request.data), ()
    SetEvaluations(context)._grouped(None, own, data, request, StoredPasses(), 0, 1)
    assert seen[0].skeleton.sigmas == (0.2,) * 17


@pytest.fixture
def small(tmp_path):
    """Address and app of a server over a run that finds nobody."""
    written(tmp_path / "small", 1, -10.0)
    written(tmp_path / "small", 2, -10.0)
    with started(Settings(root=tmp_path, cache=tmp_path / "cache", limit=4, port=0)) as address_and_app:
        yield address_and_app


@pytest.mark.long
@pytest.mark.browser
def test_compare_moves_between_its_epochs_in_a_browser(small, tab):
    where, app = small
    page = tab()

    def visit(run):
        page.goto(f"{where}?run={run}")
        page.wait_for_function("document.querySelector('[data-testid=AP-B]')?.textContent.match(/^[.0-9]+$/)")
        page.wait_for_function("document.querySelectorAll('.cmp-pane.loading').length === 0")

    visit("small")
    assert page.get_by_text("no keypoint in both").count() == 1
    assert page.get_by_text("computing").count() == 0
    assert words(page, "error-B-0") == "–"

    visit("demo:higherhrnet-demo")
    asked = Asked("demo:higherhrnet-demo", "scenes-people-val")
    ask = app.state.context.comparisons.answer
    until(
        lambda: all(one["ready"] for one in ask(asked)["epochs"]), seconds=60
    )  # AP-B is there before the others
    result = ask(asked)
    first, last = (f"{result['epochs'][n]['figures']['AP']:.3f}".lstrip("0") for n in (0, -1))
    assert first != last
    page.wait_for_function(
        "(ap) => document.querySelector('[data-testid=AP-B]').textContent === ap", arg=last
    )
    read = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join()"
    drawn = {name: page.get_by_test_id(name).evaluate(read) for name in ("overlay-b", "maps-b")}
    slide(page, 0)
    page.wait_for_function(
        "(ap) => document.querySelector('[data-testid=AP-B]').textContent === ap", arg=first
    )
    for name, late in drawn.items():
        page.wait_for_function(
            f"([name, late]) => ({read})(document.querySelector(`[data-testid=${{name}}]`)) !== late",
            arg=[name, late],
        )
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
