"""Every page over HTTP, as any Gradio client drives it: inspectors, checkpoints, links, own images."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace

import gradio_client
import numpy as np
import pytest

from apps.pages.inspectors import restored
from apps.pages.job_sections import JobHandlers
from tests.apps.client import code_in, saved
from tests.waiting import until, when
from workbench.inspectors import ALL, get

SUBJECT = ("painted-run", 2, "painted.json", 0, "")
NO_IMAGE = (None, None, None, None, None)


def look(client, name, subject=SUBJECT, image=NO_IMAGE):
    """Sentence, figure, table, code and address of an inspector, its knobs at their defaults."""
    return client.predict(*subject, *image, api_name=f"/{name}")[:5]


def value(update):
    return update["value"] if isinstance(update, dict) and "value" in update else update


def linked(words, page="look-overlay", controls=None):
    """What the shared page of the inspectors reads from its address."""
    return json.dumps({"page": page, "words": words, "controls": controls or {}})


@pytest.mark.parametrize("name", ALL)
class TestEveryInspector:
    def test_answers_with_a_sentence_or_says_why_not(self, client, name):
        line, figure, table, code, _ = look(client, name)
        assert line.startswith('<div class="wb-sentence')
        assert "\n" not in line
        if "wb-why" in line:
            assert "cannot answer here" in line
            assert f"here: {get(name).title.lower()}: " not in line  # the title says it
            return
        assert value(figure)["type"] == "plotly"
        assert value(table)["headers"]
        compile(code, name, "exec")
        assert f"{name}.compute(looked, {name}.Params(" in code

    def test_its_file_holds_the_same_facts(self, client, name):
        line, *_ = look(client, name)
        if "wb-why" in line:
            with pytest.raises(
                gradio_client.exceptions.AppError,
                match=r"this model (gives|finds|has)|expected a net|expected the workbench",
            ):
                client.predict(*SUBJECT, *NO_IMAGE, api_name=f"/{name}_json")
            return
        saved_facts = json.loads(client.predict(*SUBJECT, *NO_IMAGE, api_name=f"/{name}_json"))
        rows = list(csv.DictReader(io.StringIO(client.predict(*SUBJECT, *NO_IMAGE, api_name=f"/{name}_csv"))))
        assert saved_facts["summary"]
        assert rows

    def test_has_a_question_and_explains_every_knob(self, client, name):
        from workbench.core.inspector import field_descriptions

        inspector = get(name)
        assert inspector.question.endswith("?")
        assert set(field_descriptions(inspector.params)) >= set(inspector.params.__dataclass_fields__)


def test_the_overlay_tells_the_shift_of_each_epoch(client):
    off, exact = (look(client, "overlay", ("painted-run", e, *SUBJECT[2:]))[0] for e in (0, 2))
    assert "6.0 px" in off
    assert "0.0 px" in exact


def test_another_decoder_is_read_and_an_unknown_one_is_one_sentence(client):
    look(client, "overlay", (*SUBJECT[:4], "dark"))
    with pytest.raises(gradio_client.exceptions.AppError, match="no decoder 'bogus'; nearest"):
        look(client, "overlay", (*SUBJECT[:4], "bogus"))


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (("absent", *SUBJECT[1:]), "no run 'absent'"),
        (("painted-run", 9, *SUBJECT[2:]), "epochs 0 to 2"),
        (("painted-run", 2, "absent", 0, ""), "no data set"),
        (("painted-run", 2, "painted.json", 77, ""), "samples 0 to 5"),
        (("painted-run", 2, "scenes-val", 0, ""), "scenes-val order their keypoints differently"),
        (("zz-broken", 1, "painted.json", 0, ""), "epoch_2.pth"),
        (("../..", *SUBJECT[1:]), "outside the served folder"),
    ],
)
def test_a_wrong_subject_is_one_sentence(client, subject, said):
    with pytest.raises(gradio_client.exceptions.AppError, match=said):
        look(client, "overlay", subject)


class TestOwnImage:
    @pytest.fixture
    def image(self, tmp_path, painted):
        """Picture 1 with 30 px of white on its left: the person stands in a box that a user draws."""
        from workbench.data.images import write_image

        pixels = np.full((80, 102, 3), 255, np.uint8)
        pixels[:, 30:] = 0
        for k, (x, y) in enumerate(painted.truth(1)):
            pixels[y, x + 30, 0] = 12 * (k + 1)
        write_image(tmp_path / "mine.png", pixels)
        return tmp_path / "mine.png"

    def test_with_a_box_gives_keypoints_in_its_own_pixels(self, client, image, painted):
        given = (gradio_client.handle_file(image), 40, 6, 88, 70)
        saved_facts = json.loads(client.predict(*SUBJECT, *given, api_name="/overlay_json"))
        np.testing.assert_allclose(saved_facts["keypoints"], painted.truth(1) + np.array([30, 0]))

    def test_code_names_the_file_and_the_box(self, client, image):
        given = (gradio_client.handle_file(image), 40, 6, 88, 70)
        *_, code, _ = look(client, "overlay", image=given)
        assert 'read_image("mine.png")' in code
        assert "(40.0, 6.0, 88.0, 70.0)" in code

    def test_a_box_of_no_size_is_one_sentence(self, client, image):
        with pytest.raises(gradio_client.exceptions.AppError, match="x0 < x1"):
            look(client, "overlay", image=(gradio_client.handle_file(image), 40, 6, 40, 70))

    def test_two_clicks_make_a_box_in_any_order(self):
        from apps.pages.subject import NO_BOX, next_corners

        one = next_corners(NO_BOX, 50, 8)
        assert one == (50, 8, None, None)
        assert next_corners(one, 20, 30) == (20, 8, 50, 30)
        assert next_corners((20, 8, 50, 30), 5, 6) == (5, 6, None, None)

    def test_a_file_that_is_no_image_is_one_sentence(self, client, tmp_path):
        (tmp_path / "bad.png").write_bytes(b"no picture")
        with pytest.raises(gradio_client.exceptions.AppError, match=r"bad.png"):
            look(client, "overlay", image=(gradio_client.handle_file(tmp_path / "bad.png"), *NO_IMAGE[1:]))


class TestLinks:
    def test_an_answer_writes_its_state_and_the_page_reads_it_back(self, client):
        *_, address = look(client, "overlay", ("painted-run", 1, "painted.json", 3, "dark"))
        saved_facts = json.loads(address)
        assert {k: v for k, v in saved_facts.items() if v is not None} == {
            "run": "painted-run", "epoch": "2", "data": "painted.json", "sample": "000004/104",
            "decoder": "dark",
        }  # fmt: skip
        words = [saved_facts[name] for name in ("run", "epoch", "data", "sample", "decoder", "epochs")]
        back = client.predict(linked(words), api_name="/look_restored")
        assert [value(update) for update in back[:5]] == ["painted-run", 1, "painted.json", 3, "dark"]

    def test_what_cannot_be_answered_is_in_the_address_all_the_same(self, client):
        *_, address = look(client, "simcc_curves", ("painted-run", 1, "painted.json", 3, ""))
        saved_facts = json.loads(address)
        assert (saved_facts["run"], saved_facts["epoch"], saved_facts["sample"]) == (
            "painted-run",
            "2",
            "000004/104",
        )

    def test_the_next_sample_of_no_set_is_none(self, client):
        for handler in ("/look_forth", "/rollout_forth"):
            assert "value" not in client.predict(None, None, api_name=handler)

    def test_a_link_of_the_compare_page_leads_to_its_last_epoch(self, client):
        query = linked(["painted-run", None, "painted.json", "000002/102", None, "1,2"])
        back = client.predict(query, api_name="/look_restored")
        assert [value(update) for update in back[:4]] == ["painted-run", 1, "painted.json", 1]

    def test_a_sample_without_a_set_is_one_of_the_set_that_the_page_opens(self, client):
        back = client.predict(
            linked(["painted-run", None, None, "000002/102", None, None]), api_name="/look_restored"
        )
        assert [value(update) for update in back[:4]] == ["painted-run", 2, "painted.json", 1]

    def test_an_empty_address_shows_the_last_epoch_of_the_first_run(self, client):
        back = client.predict(linked(None), api_name="/look_restored")
        assert [value(update) for update in back[:4]] == ["painted-run", 2, "painted.json", 0]

    @pytest.mark.parametrize(
        ("place", "word", "said", "epoch"),
        [(0, "absent", "no run", 1), (1, "77", "no epoch '77'", 2), (3, "a/b", "no sample", 1)],
    )
    def test_a_link_to_what_is_not_there_is_said_and_the_rest_of_it_shown(
        self, client, context, monkeypatch, place, word, said, epoch
    ):
        words = ["painted-run", "2", "painted.json", "000002/102", None, None]
        words[place] = word
        back = client.predict(linked(words), api_name="/look_restored")
        sample = 0 if place == 3 else 1
        assert [value(update) for update in back[:4]] == ["painted-run", epoch, "painted.json", sample]
        warned = []
        monkeypatch.setattr("gradio.Warning", lambda text, duration: warned.append((text, duration)))
        restored(context, get("overlay"), json.dumps(words))
        ((text, duration),) = warned
        assert said in text
        assert text.endswith("; the default is shown instead")
        assert duration is None, "it stays until it is closed"

    def test_the_page_shows_the_controls_of_the_inspector_that_the_address_names(self, client):
        shown = {}
        for page in ("look-overlay", "look-peaks", "look-map-likeness"):
            name, *controls = client.predict(linked(None, page), api_name="/look_opened")
            shown[name] = [update["label"] for update in controls if update.get("visible")]
        fields = get("peaks").params.__dataclass_fields__
        assert shown["peaks"] == [field.replace("_", " ") for field in fields]
        assert "heatmap" in shown["overlay"]
        assert shown["map_likeness"] == []

    def test_a_control_of_the_address_goes_to_its_widget(self, client):
        query = linked(None, "look-overlay", {"view": "crop"})
        back = client.predict(query, api_name="/look_restored")
        assert [u["value"] for u in back[5:] if isinstance(u, dict) and "value" in u] == ["crop"]

    def test_nothing_is_asked_before_the_page_knows_its_inspector(self, context):
        import gradio as gr

        from apps.pages.controls import Slots
        from apps.pages.inspectors import SharedPage

        with gr.Blocks():
            page = SharedPage(context, Slots([get("overlay").params]))
        assert all(update == gr.skip() for update in page.answer("", *[None] * 15))


def loaded(client, *asked, api_name="/checkpoint_load"):
    """Sentence, figure and details of a job that builds models, once it has ended."""
    return when(lambda: client.predict(*asked, api_name=api_name), lambda seen: seen[0])


class TestCheckpointPage:
    def test_tells_what_the_file_is(self, client):
        line, facts, figure, config, tensors = client.predict(
            "painted-run/epoch_2.pth", api_name="/checkpoint"
        )
        assert "epoch 2" in line
        assert "epoch_2.pth" in facts
        assert figure["type"] == "plotly"
        assert "no config" in config
        assert [row[0] for row in tensors["data"]] == ["shift", "delay"]

    def test_the_gate_tells_what_was_loaded(self, client):
        line, *_ = loaded(client, "painted-run/epoch_2.pth", False)
        assert "wb-why" not in line

    def test_the_difference_names_the_one_tensor_that_changed(self, client, server):
        pair = "painted-run/epoch_2.pth", "painted-run/epoch_1.pth"
        client.predict(*pair, api_name="/checkpoint_difference")
        until(lambda: client.predict(*pair, api_name="/checkpoint_difference_watch")[0])
        line, _, details, *_ = client.predict(*pair, api_name="/checkpoint_difference_watch")
        assert line.startswith('<div class="wb-sentence')
        assert "<td>shift</td>" in details
        asked = (server, "checkpoint/difference", "difference")
        facts = json.loads(saved(*asked, "json", json.dumps(pair)))
        assert facts["changed"] == ["shift"]
        rows = saved(*asked, "csv", json.dumps(pair)).splitlines()
        assert rows[0].startswith("tensor,shape,relative L2")
        code = code_in(details)
        namespace = {}
        exec(code, namespace)
        assert namespace["report"].changed == ("shift",)

    def test_two_files_are_run_on_the_same_photograph(self, client, server):
        pair = "painted-run/epoch_2.pth", "painted-run/epoch_1.pth"
        line, _, details, *_ = loaded(client, *pair, api_name="/checkpoint_port")
        assert "A (painted-run/epoch_1.pth) and B (painted-run/epoch_2.pth)" in line
        assert "output heatmaps" in details
        facts = json.loads(saved(server, "checkpoint/port", "port", "json", json.dumps(pair)))
        assert facts["taps"][0]["name"] == "input"
        assert "report = compare_port(" in code_in(details)
        same, *_ = loaded(client, pair[0], pair[0], api_name="/checkpoint_port")
        assert "agree at all" in same
        refused, *_ = client.predict(pair[0], None, api_name="/checkpoint_port")
        assert "choose two checkpoints to run" in refused

    def test_what_is_not_compared_yet_cannot_be_saved(self, server):
        pair = "painted-run/epoch_2.pth", "painted-run/epoch_2.pth"  # which no other test compares
        with pytest.raises(AssertionError, match="not compared yet"):
            saved(server, "checkpoint/difference", "difference", "csv", json.dumps(pair))

    def test_the_python_of_the_gate_makes_the_same_report(self, client, server):
        asked = ("painted-run/epoch_2.pth", False)
        code = code_in(loaded(client, *asked)[2])
        namespace = {}
        exec(code, namespace)
        saved_facts = json.loads(saved(server, "checkpoint", "load", "json", json.dumps(asked)))
        assert namespace["report"].loaded_fraction == saved_facts["loaded_fraction"] == 1

    def test_the_hash_is_that_of_the_file(self, client, root_folder):
        import hashlib

        saved_facts = client.predict("painted-run/epoch_2.pth", api_name="/checkpoint_hash")
        assert (
            saved_facts == hashlib.sha256((root_folder / "painted-run/epoch_2.pth").read_bytes()).hexdigest()
        )

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("zz-broken/epoch_2.pth", "epoch_2.pth"),
            ("painted-run", "is a folder"),
            ("painted-run/epoch_99.pth", "nothing of that name"),
            ("", "choose a checkpoint"),
        ],
    )
    def test_what_cannot_be_opened_is_one_sentence(self, client, path, said):
        with pytest.raises(gradio_client.exceptions.AppError, match=said):
            client.predict(path, api_name="/checkpoint")


def test_every_handler_of_a_page_can_be_called_by_name(client):
    """Handlers without a name are those that only follow a named one, or run in the browser alone."""
    config = client.config
    assert config["analytics_enabled"] is False
    unnamed = [
        d
        for d in config["dependencies"]
        if d["backend_fn"] and not d["api_name"] and d["api_visibility"] != "private"
    ]
    assert not unnamed


def test_the_front_page_names_what_it_needs_before_it_is_read_and_all_of_it_is_there(server):
    import re

    import httpx

    links = re.findall(r"</(.*?)>", httpx.get(server).headers["link"])
    assert "workbench/static/compare/main.js" in links
    assert [httpx.get(f"{server}{link}").status_code for link in links] == [200] * len(links)
    assert "link" not in httpx.get(f"{server}checkpoint").headers


def test_a_page_appears_in_the_rail_of_all_others(server):
    import httpx

    for path in ("", "checkpoint", "look-overlay", "look-weights"):
        answer = httpx.get(server + path)
        assert answer.status_code == 200
        for word in ("/checkpoint", "/look-overlay", "Compare"):
            assert word in answer.text


class TestAnswersThatWereGivenBefore:
    def test_the_same_question_is_computed_once_and_answered_alike(self, client, server_app, monkeypatch):
        asked = {"run": "painted-run", "epoch": 1, "data": "painted.json", "sample": 2}
        first = client.predict(**asked, api_name="/overlay")

        def again(*_):
            raise AssertionError("computed again")

        monkeypatch.setattr("apps.pages.inspectors.report_of", again)
        assert client.predict(**asked, api_name="/overlay") == first
        assert client.predict(**asked, api_name="/overlay") == first
        assert first[1]["value"]["plot"]

    def test_another_question_has_another_answer(self, client):
        asked = {"run": "painted-run", "epoch": 1, "data": "painted.json"}
        answers = [client.predict(**asked, sample=n, api_name="/overlay") for n in (0, 1, 0)]
        assert answers[0] == answers[2] != answers[1]


def test_a_number_that_enter_submits_counts_when_its_field_is_left_too(gradio_app):
    """What stands in a field and what the answer below was made of would differ otherwise."""
    asked: dict[int, set[str]] = {}
    for one in gradio_app.config["dependencies"]:
        for component, event in one["targets"]:
            asked.setdefault(component, set()).add(event)
    numbers = [one["id"] for one in gradio_app.config["components"] if one["type"] == "number"]
    submitted = [asked[number] for number in numbers if "submit" in asked.get(number, ())]
    assert submitted
    assert all(events & {"blur", "input", "change"} for events in submitted)


@pytest.mark.parametrize(
    ("job", "result", "asks"),
    [
        (None, None, True),
        (SimpleNamespace(id="job-1", alive=False, state="cancelled"), None, False),
        (SimpleNamespace(id="job-1", alive=True, state="running"), None, False),
        (None, "a result", False),
    ],
)
def test_leaving_a_number_asks_for_a_new_value_and_begins_nothing_again_that_was_cancelled(job, result, asks):
    done: list[str] = []

    class Handlers(JobHandlers):
        def ask(self, *given):
            done.append("ask")
            return ["asked"]

        def watch(self, *asked):
            done.append("watch")
            return ["watched"]

    task = SimpleNamespace(job=lambda *_: job, result=lambda *_: result)
    handlers = Handlers(None, task, "key", "figure", False, {}, 0)  # type: ignore[arg-type]
    assert handlers.left(3, "job-1") == (["asked"] if asks else ["watched", "job-1"])
    assert done == (["ask"] if asks else ["watch"])
