"""Malformed bodies, uploads, sessions and addresses end in one sentence, not in an error of the server."""

from __future__ import annotations

import contextlib
import json

import httpx
import pytest

MALFORMED = (
    b'{"data":[NaN]}',
    b'{"data":[1e999]}',
    b'{"data":["\\ud800"]}',
    b'{"data":[]}',
    b'{"data":{}}',
    b"[]",
    b'{"data":[],"session_hash":"s","fn_index":1000000}',
)


@pytest.mark.parametrize("path", ["call/v2/checkpoint", "cancel", "reset", "queue/join"])
def test_a_malformed_body_is_no_error_of_the_server(server, path):
    for body in MALFORMED:
        answer = httpx.post(f"{server}gradio_api/{path}", content=body)
        assert answer.status_code in (400, 422), (body, answer.text)
        assert "detail" in answer.json()


@pytest.mark.parametrize("path", ["run/checkpoint", "api/checkpoint"])
def test_a_number_that_no_handler_has_is_no_error_of_the_server(server, path):
    answer = httpx.post(f"{server}gradio_api/{path}", json={"data": [], "fn_index": -1})
    assert (answer.status_code, answer.json()) == (422, {"detail": "no handler has the number -1"})


@pytest.mark.parametrize("boundary", ["b", "b" * 10_000])
def test_a_malformed_upload_is_no_error_of_the_server(server, boundary):
    head = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    text = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nno file\r\n--b--\r\n'
    answer = httpx.post(f"{server}gradio_api/upload", content=text, headers=head)
    assert (answer.status_code, "detail" in answer.json()) == (422, True)


@pytest.mark.parametrize("session", ["\\ud800", "", "a" * 65, "../..", "\\u0000", "a b", "a" * 1_000_000])
@pytest.mark.parametrize("path", ["gradio_api/queue/join", "gradio_api/run/checkpoint"])
def test_a_session_has_a_name_that_a_page_gives(server, gradio_app, capfd, path, session):
    """Gradio keeps the name as long as the session, whatever its length."""
    before = set(gradio_app._queue.pending_messages_per_session), set(gradio_app.state_holder.session_data)
    number = next(fn._id for fn in gradio_app.fns.values() if fn.api_name == "checkpoint")
    body = f'{{"data":["nothing"],"fn_index":{number},"session_hash":"{session}"}}'
    answer = httpx.post(f"{server}{path}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "session_hash: expected" in answer.text) == (422, True), answer.text
    after = set(gradio_app._queue.pending_messages_per_session), set(gradio_app.state_holder.session_data)
    assert after == before
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("session", ["../..", "%00", "of-an-earlier-server"])
def test_the_stream_of_an_unknown_session_says_so_and_ends(server, session):
    answer = httpx.get(f"{server}gradio_api/queue/data?session_hash={session}")
    assert (answer.status_code, '"session_not_found":true' in answer.text) == (200, True)


@pytest.mark.parametrize(
    "words", [{"run": {}}, {"run": "painted-run", "data": [1], "epochs": "1"}, {"decoder": 3}]
)
def test_words_of_an_address_that_are_no_texts_are_one_sentence(server, words):
    asked = {"page": "compare", "section": "", "kind": "json", "state": json.dumps(words)}
    answer = httpx.post(f"{server}workbench/api/file", json=asked)
    assert answer.status_code in (400, 404), answer.text


def test_a_body_is_bounded_whether_its_size_is_announced_or_not(server, monkeypatch):
    from apps.server import address_filter

    monkeypatch.setattr(address_filter, "LARGEST_BODY", 1000)
    url, body = f"{server}gradio_api/call/checkpoint", b'{"data":["' + b"a" * 2000 + b'"]}'
    assert httpx.post(url, content=body).status_code == 413
    with contextlib.suppress(httpx.RemoteProtocolError):  # the connection ends
        assert httpx.post(url, content=iter([body[:900], body[900:]])).status_code >= 400
    assert httpx.post(url, json={"data": ["painted-run/epoch_1.pth"]}).status_code == 200


def test_a_request_with_two_statements_of_its_length_is_refused(server):
    headers = {"Content-Length": "4", "Transfer-Encoding": "chunked"}
    answer = httpx.post(
        f"{server}gradio_api/call/checkpoint", content=iter([b'{"data":["nothing"]}']), headers=headers
    )
    assert (answer.status_code, "not both" in answer.text) == (400, True)
