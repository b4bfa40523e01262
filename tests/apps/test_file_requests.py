"""No request makes the server read a file that was not uploaded, or fetch an address."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import orjson
import pytest

from apps.server.address_filter import AddressFilter, names
from apps.server.gradio_private import SESSIONS, only_uploads, upload_folder

INSPECTORS = {
    "activations", "attention", "calibration", "consistency_mask", "coordinates", "corruption",
    "feature_ablation", "features_kept", "film", "forced_and_free", "grad_cam", "gradients",
    "grouping_costs", "grouping_steps", "heatmap_grid", "integrated_gradients", "map_likeness", "occlusion",
    "overlay", "paths", "peaks", "prefix", "randomised_weights", "refined_scores", "simcc_curves",
    "step_attention", "support", "switches", "tag_maps", "tag_space", "tag_values", "target_residual",
    "vector_fields", "weights",
}  # fmt: skip
MARK = "the-words-of-a-foreign-file"


def file_data(path, **more):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A file outside every served folder, and a link to it inside the upload folder."""
    secret = tmp_path_factory.mktemp("outside") / "secret.png"
    secret.write_text(MARK)
    link = upload_folder() / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    yield secret, link
    link.unlink()


@pytest.fixture(scope="module")
def listener():
    """A server that must not be asked; `asked` counts."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            found.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(MARK.encode())

        def log_message(self, *_):
            pass

    found = HTTPServer(("127.0.0.1", 0), Answer)
    found.asked = 0
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def hostile_paths(foreign, listener):
    secret, link = foreign
    inside = upload_folder()
    address = f"http://127.0.0.1:{listener.server_port}/x.png"
    return [
        str(secret), str(link), f"{inside}/../{secret.parent.name}/{secret.name}", f"file://{secret}",
        f"{inside}/../../../../../../..{secret}", "/etc/hostname", "/proc/self/environ", str(inside), address,
        address.replace("http", "https"), "//127.0.0.1/x", f"{secret}\0.png", "a" * 5000, "",
        "pyproject.toml", "data:image/png;base64,AAAA", 3, None, ["/etc/hostname"], {"path": "/etc/x"},
    ]  # fmt: skip


def nested(data):
    return [
        data, [data], [[data]], {"value": data}, {"image": data, "annotations": []}, [[data, "a label"]],
        {"background": data, "layers": [data], "composite": data}, {"files": [{"file": data}]},
    ]  # fmt: skip


def test_only_an_uploaded_file_passes_at_any_depth(foreign, listener):
    for path in hostile_paths(foreign, listener):
        variants = [
            file_data(path),
            file_data(path, url="http://127.0.0.1/x"),
            file_data(path, is_stream=True),
        ]
        if path is not None:
            variants.append({"path": path})
        for data in variants:
            for value in nested(data):
                with pytest.raises(Exception, match="Only a file that was uploaded here"):
                    only_uploads([1, "text", value])
    for data in ({"url": "http://127.0.0.1/x"}, {"url": "file:///etc/hostname", "path": None}):
        with pytest.raises(Exception, match="Only a file that was uploaded here"):
            only_uploads(data)
    assert listener.asked == 0


def test_an_uploaded_file_passes_without_its_address():
    path = upload_folder() / "abc" / "own.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    found = only_uploads([file_data(str(path), url="http://evil.example/x", orig_name="../own.png", size=1)])
    assert found == [{"path": str(path), "orig_name": "own.png", "meta": {"_type": "gradio.FileData"}}]
    assert only_uploads([{"a": [1, None, "/etc/hostname"]}]) == [{"a": [1, None, "/etc/hostname"]}]


def test_no_handler_of_any_page_takes_a_path_from_a_request(gradio_app, foreign):
    """Every handler, the pages' own among them, the file in every place."""
    handlers = [fn for fn in gradio_app.fns.values() if fn.fn and fn.inputs]
    assert len(handlers) > 150

    evil = file_data(str(foreign[0]))

    async def asked():
        for fn in handlers:
            with pytest.raises(Exception, match="Only a file that was uploaded here"):
                await gradio_app.preprocess_data(fn, [evil] * len(fn.inputs), None)

    # A thread of its own: in this one a browser of another test may hold a loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, asked()).result()
    copies = [p for p in upload_folder().rglob("*") if p.is_file() and MARK in p.read_text("latin-1")]
    assert copies == [foreign[1]]


@pytest.mark.long
def test_no_wrong_words_of_a_request_end_in_a_traceback(gradio_app):
    """Every handler that a page gives JSON to, and every list, with what no page sends."""
    import gradio as gr

    async def asked(fn, inputs):
        try:
            await gradio_app.call_function(fn, await gradio_app.preprocess_data(fn, inputs, None))
        except gr.Error as refused:
            return str(refused)
        return ""

    def words(fn, kind, word):
        return [word if isinstance(one, kind) else one.value for one in fn.inputs]

    async def all_asked():
        texts = lists = 0
        for fn in gradio_app.fns.values():
            hidden = fn.fn and all(
                isinstance(one, gr.Textbox) and one.visible == "hidden" for one in fn.inputs
            )
            for word in ("[" * 100_000, "-1") if hidden and fn.inputs else ():
                await asked(fn, [word] * len(fn.inputs))
                texts += 1
            if fn.fn and any(isinstance(one, gr.Dropdown) for one in fn.inputs):
                assert "expected" in await asked(fn, words(fn, gr.Dropdown, {"a": [[]]}))
                lists += 1
        return texts, lists

    with ThreadPoolExecutor(1) as pool:
        texts, lists = pool.submit(asyncio.run, all_asked()).result()
    assert (texts > 20, lists > 50) == (True, True)


@pytest.mark.long
@pytest.mark.parametrize("state", ["[" * 100_000, "-1"])
def test_no_state_of_a_report_ends_in_an_internal_error(server, server_app, state):
    for page in server_app.state.context.reports:
        asked = {"page": page, "section": "", "kind": "json", "state": state}
        answer = httpx.post(f"{server}workbench/api/file", json=asked, timeout=60)
        assert answer.status_code in (400, 403, 404, 409), (page, answer.text)


def test_what_launching_sets_is_set(gradio_app):
    """Gradio checks no path while has_launched is not set, which mounting leaves so."""
    assert gradio_app.has_launched
    assert gradio_app.is_running
    assert gradio_app.allowed_paths == []
    assert gradio_app.state_session_capacity == SESSIONS
    assert {b.GRADIO_CACHE for b in (gradio_app, *gradio_app.blocks.values())} == {str(upload_folder())}


def test_no_way_of_calling_gets_around_the_check(server, foreign, listener):
    with httpx.Client(base_url=f"{server}gradio_api/", timeout=60) as client:
        address = f"http://127.0.0.1:{listener.server_port}/x.png"
        for path in (str(foreign[0]), str(foreign[1]), address):
            body = {"data": [file_data(path)] * 14}
            direct = client.post("run/overlay", json=body)
            assert "uploaded here" in direct.text
            event = client.post("call/overlay", json=body).json()["event_id"]
            reply = client.get(f"call/overlay/{event}").text
            assert "event: error" in reply
            assert MARK not in direct.text + reply
    assert listener.asked == 0


def test_no_route_reads_a_foreign_file_or_fetches_an_address(server, foreign, listener, gradio_routes):
    """Every route that Gradio mounts, hostile words in each of its parameters."""
    secret, link = foreign
    words = [str(secret), str(link), f"file://{secret}", f"http://127.0.0.1:{listener.server_port}/x.png"]
    asked = set()
    with httpx.Client(base_url=server, timeout=20) as client:
        for path, methods in gradio_routes:
            if ("{" not in path and "upload" not in path) or "heartbeat" in path or "progress" in path:
                continue
            for word in words:
                filled = re.sub(r"\{[^}]*\}", lambda _, word=word: word.lstrip("/"), path)
                full = re.sub(r"\{[^}]*\}", lambda _, word=word: word, path)
                for method, url in {
                    (m, u) for m in methods & {"GET", "POST"} for u in (filled, full)
                } - asked:
                    asked.add((method, url))
                    answer = client.request(method, url.lstrip("/"), follow_redirects=False)
                    assert MARK not in answer.text, url
                    assert answer.status_code < 500, (method, url)
        for word in ("deep_link", "page", "upload_id"):
            assert MARK not in client.get("", params={word: str(secret)}).text
    assert len(asked) > 100
    assert listener.asked == 0


@pytest.fixture(scope="module")
def gradio_routes(settings):
    """(path, methods) of every route of a mounted Gradio app of one component."""
    import fastapi
    import gradio as gr

    from apps.server.gradio_private import mounted

    with gr.Blocks(analytics_enabled=False) as app:
        gr.Image()
    server = fastapi.FastAPI()
    gr.mount_gradio_app(server, app, path="/", ssr_mode=False)
    paths = mounted(server).openapi()["paths"]
    return [(path, {method.upper() for method in methods}) for path, methods in paths.items()]


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/proxy=http://127.0.0.1/", "gradio_api/file=http://127.0.0.1/x", "svelte/a", "login",
        "gradio_api/file/etc/passwd", "gradio_api/component_server", "gradio_api/process_recording", "docs",
        "gradio_api/stream/a/b/1/playlist.m3u8", "gradio_api/custom_component/a/client/b/c", "monitoring",
        "gradio_api/deep_link?session_hash=a", "gradio_api/token", "gradio_api/dev/reload", "openapi.json",
        "gradio_api/run-history/records", "gradio_api/call/look_restored", "gradio_api/user",
        "gradio_api/run/look_restored",
    ],
)  # fmt: skip
def test_what_the_pages_do_not_need_does_not_exist(server, path):
    assert httpx.get(server + path).status_code == 404
    assert httpx.post(server + path, json={"data": []}).status_code == 404


def test_too_few_values_for_a_handler_are_one_sentence():
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import gradio as gr

    from apps.server.gradio_private import Blocks

    with Blocks() as app:
        button, out = gr.Textbox(), gr.HTML()
        button.submit(lambda a, b: "", [button, out], out)
    (handler,) = app.fns.values()
    # In a thread of its own: a browser that another test left open has an event loop in this one.
    with ThreadPoolExecutor(1) as own, pytest.raises(gr.Error, match="expected 2 values") as refused:
        own.submit(asyncio.run, app.preprocess_data(handler, ["a"])).result()
    assert refused.value.message.endswith("expected 2 values, one of each control, got 1")
    with ThreadPoolExecutor(1) as own:
        answered = own.submit(asyncio.run, app.postprocess_data(handler, "a\u202eb", None)).result()
    assert answered == [r"a\u202eb"]
    with Blocks() as app:
        table = gr.Dataframe(headers=["a", "b"])
        gr.Textbox().submit(lambda text: [], [], table)
    (handler,) = app.fns.values()
    with ThreadPoolExecutor(1) as own:
        (answered,) = own.submit(
            asyncio.run, app.postprocess_data(handler, [["a\u202eb", 1.5]], None)
        ).result()
    assert answered["data"] == [[r"a\u202eb", 1.5]]
    for kind in (gr.Dropdown, gr.Radio):
        with Blocks() as app:
            listed = kind(["a"])
            gr.Textbox().submit(lambda text: None, [], listed)
        (handler,) = app.fns.values()
        update = gr.update(choices=["a\u202eb", ("c", 2)], value="a\u202eb")
        with ThreadPoolExecutor(1) as own:
            (answered,) = own.submit(asyncio.run, app.postprocess_data(handler, update, None)).result()
        assert [tuple(one) for one in answered["choices"]] == [(r"a\u202eb", "a\u202eb"), ("c", 2)]
        assert answered["value"] == "a\u202eb"


def test_advice_about_settings_of_python_reaches_nobody():
    import json

    from workbench.core.errors import sentence

    with pytest.raises(ValueError, match="4300 digits") as refused:
        json.loads("1" * 5000)
    assert sentence(refused.value).endswith("value has 5000 digits")


def test_text_of_an_answer_cannot_turn_the_direction_of_a_sentence():
    from apps.server.control_values import shown_html

    html = '<p data-id="\u202e">run\u202e\u200f: ép, 漢</p><pre>cd \u202e</pre>\u2066'
    safe = '<p data-id="\u202e">run\\u202e\\u200f: ép, 漢</p><pre>cd \u202e</pre>\\u2066'
    assert shown_html(html) == safe
    assert shown_html({"value": html, "__type__": "update"}) == {"value": safe, "__type__": "update"}
    assert shown_html(None) is None


def test_values_that_no_page_sends_are_refused_before_a_handler_sees_them():
    import gradio as gr

    from apps.server.control_values import check_bounds, check_value
    from apps.server.encoding import sent_json, sent_words

    texts, places = gr.Dropdown(["a", "b"]), gr.Dropdown([("a", 0)])
    several, number = gr.Dropdown(["a"], multiselect=True), gr.Number()
    wrong = [
        (texts, 1),
        (texts, []),
        (places, {}),
        (several, "a"),
        (several, [1]),
        (number, "1"),
        (number, []),
        (number, float("nan")),
        (number, float("inf")),
        (number, 10**400),
        (gr.Slider(0, 1), float("inf")),
        (places, float("inf")),
        (gr.File(), "1e999"),
        (gr.File(), [{"path": "/a"}]),
        (gr.File(file_count="multiple"), [{"path": "/a"}, "b"]),
        (gr.Image(type="filepath"), {}),
    ]
    for component, value in wrong:
        with pytest.raises(ValueError, match="expected"):
            check_value(component, value)
    for component, value in ((texts, "c"), (places, 3), (several, ["b"]), (number, 1.5), (texts, None)):
        check_value(component, value)
    check_value(gr.File(file_count="multiple"), [{"path": "/a"}])
    few, share = gr.Number(label="few", minimum=1, maximum=12), gr.Slider(0, 1, label="share")
    for control, value, said in (
        (few, 13, "few: expected 1 to 12, got 13"),
        (share, -0.5, "share: expected 0 to 1, got -0.5"),
        (gr.Number(label="seed", minimum=0), -3, "seed: expected at least 0, got -3"),
        (gr.Number(label="loss", maximum=2.5), 3, "loss: expected at most 2.5, got 3"),
        (gr.Radio(["a"], label="side"), "c", "side: 'c' is none of its choices"),
        (gr.CheckboxGroup(["a"], label="parts"), ["a", "c"], "parts: 'c' is none of its choices"),
        (gr.Dropdown(["a"], label="error"), "c", "error: 'c' is none of its choices"),
    ):
        with pytest.raises(ValueError, match=f"^{said}$"):
            check_bounds(control, value)
    for control, value in ((few, 12), (few, None), (share, 1), (number, -5), (texts, "a"), (several, ["a"])):
        check_bounds(control, value)
    for text in ("[" * 100_000, "-1", "{}", "null", "[1, 2", "\ud800"):
        with pytest.raises(ValueError, match="expected a JSON list that a page"):
            sent_json(text, list)
    assert (sent_json("", list), sent_json('{"a": 1}', dict)) == ([], {"a": 1})
    for text in ("[1, null]", '["a"]', "[NaN, NaN]", "[[], []]", '{"a": "b"}'):
        with pytest.raises(ValueError, match="expected"):
            sent_words(text, 2)
    assert (sent_words("", 2), sent_words('["a", null]', 2)) == ([None, None], ["a", None])


def test_a_click_without_a_place_is_one_sentence(gradio_app):
    """Gradio looked for the place in whatever was sent, and printed a traceback."""
    import gradio as gr

    handler = next(fn for fn in gradio_app.fns.values() if fn.api_name == "look_corner")

    async def clicked(data):
        event = gr.EventData(None, data)
        with pytest.raises(gr.Error, match=r"expected a click in the picture|no such image file"):
            await gradio_app.call_function(handler, ["/none.png", *[None] * 4], None, None, None, event)

    with ThreadPoolExecutor(1) as pool:
        for data in (None, {}, [], 3, {"index": 1}):
            pool.submit(asyncio.run, clicked(data)).result()


def test_half_a_character_in_an_answer_ends_no_stream(gradio_app):
    """A keypoint called \\ud800, or a folder whose name is no UTF-8: the page's answer broke off."""
    import gradio as gr

    from apps.server.api import compact

    handler = next(fn for fn in gradio_app.fns.values() if fn.api_name == "look_forth")
    asked = gradio_app.postprocess_data(handler, gr.update(label="a\ud800", value=3), None)
    with ThreadPoolExecutor(1) as pool:
        (answer,) = pool.submit(asyncio.run, asked).result()
    assert orjson.loads(orjson.dumps(answer))["label"] == r"a\ud800"
    assert json.loads(compact({"a\ud800": ["\udcff"]})) == {"a?": ["?"]}


def test_ranges_of_an_uploaded_file_are_no_error_and_repeat_no_header(server):
    sent = httpx.post(f"{server}gradio_api/upload", files={"files": ("a.png", b"0123456789")})
    address = f"{server}gradio_api/file={sent.json()[0]}"
    for ranges in (
        "bytes=0-1,3-4",
        "bytes=2-1",
        "bytes=0-1",
        "bytes=\xb2-\xb3",
        "bytes=--",
        f"bytes=0-{'9' * 5000}",
    ):
        answer = httpx.get(address, headers=[(b"range", ranges.encode("latin-1")), (b"x-own", b"word")])
        assert (answer.status_code, answer.content) == (200, b"0123456789"), ranges
        assert "x-own" not in answer.headers
    answer = httpx.get(address, headers={"range": "bytes=7-"})
    assert (answer.status_code, answer.content) == (206, b"789")


def test_a_refusal_says_what_was_wrong_at_a_bounded_length(server, gradio_app):
    asked = {"page": "", "section": "", "kind": "z" * 1_000_000, "state": ""}
    answer = httpx.post(f"{server}workbench/api/file", json=asked)
    assert (answer.status_code, len(answer.text) < 5000) == (400, True)
    words = {"run": "painted-run", "data": "no');set", "epochs": "0"}
    answer = httpx.get(f"{server}workbench/api/compare/code", params=words)
    assert "no data set" in answer.json()["error"]
    assert (upload_folder() / "vibe_edit_history").is_dir(), (
        "nothing is made in the folder of all Gradio apps"
    )


@pytest.mark.parametrize("path", ["queue/data", "call/overlay/an-event"])
def test_a_line_separator_in_an_answer_does_not_split_it(path):
    """A keypoint's name may hold one; httpx ends a line there, and gradio_client read half an event."""
    name, sent = "a\u2028b\u2029c\x85d", []

    async def answers(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": orjson.dumps({"label": name}), "more_body": True})

    async def taken(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"/gradio_api/{path}", "headers": []}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, AddressFilter(answers, ())(scope, None, taken)).result()
    text = sent[1]["body"].decode()
    assert (len(text.splitlines()), json.loads(text)) == (1, {"label": name})


def test_the_names_that_can_be_called_are_these():
    """A new inspector is published with its page; anything else has to be added here on purpose."""
    assert names() == {name + form for name in INSPECTORS for form in ("", "_json", "_csv")} | {"checkpoint"}


def test_the_interface_lists_the_published_names_and_no_others(server):
    listed = httpx.get(f"{server}gradio_api/info", timeout=60).json()
    assert {name.lstrip("/") for name in listed["named_endpoints"]} == names()
    assert not listed["unnamed_endpoints"]


def test_images_that_lie_outside_the_data_sets_folder_are_not_shown(tmp_path, painted):
    """By a link in its folder; a folder that the user names is served with what it links to within."""
    import shutil

    from apps.server.data_sets import DataSets

    path = painted.write_data(tmp_path / "set", 2)
    first, _ = sorted((tmp_path / "set" / "images").iterdir())
    shutil.move(first, tmp_path / "elsewhere.png")
    first.symlink_to(tmp_path / "elsewhere.png")
    sets = DataSets((path,))
    with pytest.raises((OSError, ValueError, LookupError)):
        sets.sample("painted.json", 0)
    assert sets.sample("painted.json", 1).image.shape[2] == 3
    first.unlink()
    shutil.move(tmp_path / "elsewhere.png", first)
    moved = tmp_path / "pictures"
    shutil.move(first.parent, moved)
    assert DataSets((path,), moved).sample("painted.json", 0).image.shape[2] == 3


MARKUP = "<img src=x onerror=alert(1)><div style=position:fixed>"


def test_a_toast_shows_words_of_a_request_or_a_file_as_words(server):
    """A page shows the text of an error as HTML; a client that is no page gets it as it is."""
    config = httpx.get(f"{server}config", timeout=60).json()
    number = next(h["id"] for h in config["dependencies"] if h["api_name"] == "checkpoint")
    reply = {}
    for user in ("app", "api"):
        body = {"data": [MARKUP], "fn_index": number, "session_hash": f"toast-{user}"}
        headers = {"x-gradio-user": user}
        httpx.post(f"{server}gradio_api/queue/join", json=body, headers=headers, timeout=60)
        reply[user] = httpx.get(
            f"{server}gradio_api/queue/data", params={"session_hash": body["session_hash"]}, timeout=60
        ).text
    assert "<img" not in reply["app"]
    assert "&lt;img src=x onerror=alert(1)&gt;" in reply["app"]
    assert "<img src=x onerror=alert(1)>" in reply["api"]


def test_a_warning_shows_words_as_words():
    from types import SimpleNamespace

    import orjson
    from gradio.server_messages import LogMessage, ProcessCompletedMessage

    from apps.server.gradio_private import _send_escaped

    sent = []
    queue = SimpleNamespace(pending_messages_per_session={"s": SimpleNamespace(put_nowait=sent.append)})
    request = SimpleNamespace(headers={})
    data = SimpleNamespace(simple_format=False)
    event = SimpleNamespace(alive=True, _id="e", session_hash="s", request=request, data=data)
    _send_escaped(queue, event, LogMessage(log=MARKUP, title=MARKUP, level="warning"))
    assert "<" not in sent[0].log + sent[0].title
    # Gradio repeats a value that is no choice; the stream broke off where it held half a character.
    refusal = ProcessCompletedMessage(success=False, output={"error": "Value: \ud800 <b>", "duration": None})
    _send_escaped(queue, event, refusal)
    assert json.loads(orjson.dumps(sent[1].output))["error"] == r"Value: \ud800 &lt;b&gt;"


def test_another_gradio_whose_private_functions_differ_is_refused_with_their_names(monkeypatch):
    from apps.server import gradio_version
    from workbench.core import NotAvailable

    assert gradio_version.digests() == gradio_version.PRIVATE
    gradio_version.check_version("6.99.0")
    monkeypatch.setitem(gradio_version.PRIVATE, "gradio.queueing:Queue.send_message", "another")
    gradio_version.check_version(gradio_version.TESTED_VERSION)
    with pytest.raises(NotAvailable, match=r"Gradio 6.99.0 differs from 6.31.0.*Queue.send_message"):
        gradio_version.check_version("6.99.0")


@pytest.mark.parametrize("payload", ["not JSON", "[1, 2", '{"a": 1}', "[]"])
def test_a_wrong_payload_of_a_private_event_leaves_one_line_and_no_traceback(client, capfd, caplog, payload):
    for name in ("/rollout_watch", "/conditioning_watch"):
        with pytest.raises(Exception, match="state"):
            client.predict(payload, "", api_name=name)
    with pytest.raises(Exception, match=r"request|JSON|Expecting"):
        client.predict(payload, "", api_name="/grouping_watch")
    assert "Traceback" not in capfd.readouterr().err
