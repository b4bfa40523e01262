"""Nothing outside the served folders is shown, and nobody uninvited sees anything."""

from __future__ import annotations

import base64
import os
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from fastapi.testclient import TestClient
from starlette.requests import Request

from apps.server.folders import Refused, ServedFolders, runs_below
from apps.server.guard import CLIENTS, FREE, Guard, LoginLimits
from apps.server.registry import Registry
from apps.server.settings import Settings, chosen_credentials, credentials, loopback


@pytest.fixture
def served(root_folder):
    return ServedFolders.of(root_folder)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret.pth", "painted-run/../../secret.pth", "painted-run/leads_out.pth", "a\0b"],
)
def test_a_path_out_of_the_folder_is_refused(served, path):
    with pytest.raises(Refused, match=r"outside|null byte"):
        served.path(path)


def test_a_path_in_the_folder_comes_back_and_returns_its_id(served):
    path = served.path("painted-run/epoch_1.pth")
    assert path.is_file()
    assert served.identity(path) == "painted-run/epoch_1.pth"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are UTF-8")
def test_a_folder_whose_name_is_no_utf8_has_an_id_that_can_be_sent(tmp_path):
    """Lists of runs with it could not be sent: two pages and a part of the API answered with errors."""
    folder = os.fsencode(tmp_path) + b"/run\xff"
    os.mkdir(folder)
    with open(folder + b"/best\xfe.pth", "wb"):
        pass
    (run,) = runs_below(tmp_path)
    assert (run.id, run.title, run.epochs[0].label) == (r"run\udcff", r"run\udcff", r"best\udcfe")
    served = ServedFolders.of(tmp_path)
    identity = served.identity(run.epochs[0].path)
    assert identity == r"run\udcff/best\udcfe.pth"
    assert os.fsencode(served.path(identity)) == folder + b"/best\xfe.pth"
    with pytest.raises(Refused):
        served.path(r"\udcff/../../etc")


def test_a_link_that_takes_the_place_of_a_listed_file_is_not_followed(tmp_path, monkeypatch):
    """Runs are listed every two seconds, and tensors are read when they are asked for."""
    numbers = {"a": np.arange(300, dtype=np.float32)}
    (tmp_path / "root" / "run").mkdir(parents=True)
    listed, foreign = tmp_path / "root" / "run" / "epoch_1.safetensors", tmp_path / "foreign.safetensors"
    for path, factor in ((listed, 1), (foreign, 2)):
        safetensors.numpy.save_file({name: value * factor for name, value in numbers.items()}, path)
    monkeypatch.setattr("apps.server.registry.RESCAN_SECONDS", 1e9)
    os.utime(foreign, (0, 0))  # what is kept of the listed file is of another time
    registry = Registry(Settings(root=tmp_path / "root"))
    (run,) = [one for one in registry.runs() if one.id == "run"]
    opened = registry.checkpoint(registry.epoch("run", 0).path)
    assert opened.read("a")[1] == 1
    listed.unlink()
    listed.symlink_to(foreign)
    with pytest.raises(ValueError, match=r"epoch_1.safetensors became another file while it was open"):
        opened.read("a")
    with pytest.raises(Refused, match="lies outside the served folders"):
        registry.epoch("run", 0)
    for read in (registry.checkpoint, registry.opened):
        with pytest.raises(Refused, match="lies outside the served folders"):
            read(run.epochs[0].path)


def test_what_is_not_there_is_told_apart_from_what_is_refused(served):
    with pytest.raises(FileNotFoundError):
        served.path("painted-run/epoch_99.pth")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("example.org", False),
    ],
)
def test_which_hosts_are_this_machine_alone(host, own):
    assert loopback(host) is own


def test_a_public_host_without_a_password_is_refused(root_folder):
    with pytest.raises(ValueError, match="--auth-file FILE"):
        Settings(root=root_folder, host="0.0.0.0")


@pytest.mark.parametrize("text", ["", "user", "user:", ":password"])
def test_credentials_need_both_parts(text):
    with pytest.raises(ValueError, match="user:password"):
        credentials(text)


def guarded(**options) -> TestClient:
    async def hello(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    return TestClient(Guard(hello, Settings(**options)), base_url="http://127.0.0.1:7860")


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_local_server_answers_to_no_foreign_name(root_folder):
    """A page elsewhere may point a name of its own at 127.0.0.1 (DNS rebinding)."""
    client = guarded(root=root_folder)
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "evil.example:7860"}).status_code == 403


def test_a_foreign_page_cannot_post(root_folder):
    client = guarded(root=root_folder)
    assert client.post("/", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/", headers={"Origin": "http://127.0.0.1:7860"}).status_code == 200


def test_a_page_of_another_server_of_this_machine_cannot_read(root_folder):
    """Gradio allows pages of any port of this machine to read what it answers."""
    client = guarded(root=root_folder)
    assert client.get("/config", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 403
    assert client.get("/config", headers={"Origin": "http://127.0.0.1:7860"}).status_code == 200


def test_the_password_is_asked_for_everything(root_folder):
    client = guarded(root=root_folder, host="0.0.0.0", auth=("ada", "s3cret"))
    refused = client.get("/workbench/api/runs")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    for wrong in (basic("ada", "no"), {"Authorization": "Basic %%%"}, {"Authorization": "Bearer x"}):
        assert client.get("/", headers=wrong).status_code == 401
    assert client.get("/", headers=basic("ada", "s3cret")).status_code == 200


@pytest.mark.parametrize("auth", [None, ("ada", "s3cret")])
def test_a_cookie_of_60_kb_of_escapes_takes_no_time(root_folder, auth):
    """Python 3.11.7 reads the escapes of one in 7.5 s; Gradio asks for cookies at each request."""
    seen = []

    async def reading(scope, receive, send):
        seen.append(Request(scope).cookies)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(
        Guard(reading, Settings(root=root_folder, auth=auth)), base_url="http://127.0.0.1:7860"
    )
    begun = time.process_time()
    for escaped in ("\\" * 60_000, '\\"' * 30_000):
        cookie = {"cookie": f'a=b; workbench-known="{escaped}"; c=d'}
        client.get("/", headers={**basic("ada", "no"), **cookie})
        client.get("/", headers={**basic("ada", "s3cret"), **cookie})
    assert time.process_time() - begun < 2
    assert all(cookies == {"a": "b", "c": "d"} for cookies in seen)
    assert len(seen) == (2 if auth else 4)


MALFORMED = [
    "[",
    "[::1",
    "a b",
    "evil.com@127.0.0.1",
    "127.0.0.1:x",
    "127.0.0.1:99999",
    "127.0.0.1/x",
    "",
    "::1",
    "a\\b",
]


@pytest.mark.parametrize("host", MALFORMED)
def test_a_malformed_host_or_origin_is_400_with_a_sentence(root_folder, host):
    client = guarded(root=root_folder)
    answer = client.get("/", headers={"Host": host})
    assert (answer.status_code, "Host header" in answer.text) == (400, True)
    answer = client.get("/", headers={"X-Forwarded-Host": host})
    assert (answer.status_code, "X-Forwarded-Host" in answer.text) == (400, True)
    for origin in (f"http://{host}", host):
        assert client.post("/", headers={"Origin": origin}).status_code in (400, 403)
        assert client.get("/", headers={"Origin": origin}).status_code in (400, 403)


def test_two_hosts_are_no_host(root_folder):
    client = guarded(root=root_folder)
    assert client.get("/", headers=[("Host", "127.0.0.1"), ("Host", "127.0.0.1")]).status_code == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_causes_nothing_but_may_link_here(root_folder, site):
    client = guarded(root=root_folder)
    picture = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert client.get("/look-overlay", headers=picture).status_code == 403
    assert client.get("/look-overlay", headers=link).status_code == 200
    assert client.get("/workbench/api/compare", headers=link).status_code == 403
    assert client.post("/", headers=link).status_code == 403
    for own in ("same-origin", "none"):
        assert client.get("/workbench/api/runs", headers={"Sec-Fetch-Site": own}).status_code == 200


@pytest.mark.parametrize("place", ["iframe", "frame", "embed", "object", "fencedframe"])
def test_a_page_of_another_site_cannot_show_this_one_inside_itself(root_folder, place):
    """It could lay its own buttons over those of this page."""
    client = guarded(root=root_folder)
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": place}
    assert client.get("/overfit", headers=framed).status_code == 403
    assert client.get("/overfit", headers={**framed, "Sec-Fetch-Dest": "document"}).status_code == 200
    assert client.get("/overfit", headers={**framed, "Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_every_answer_says_that_no_other_site_frames_it_and_nothing_goes_to_another_host(root_folder):
    for answer in (
        guarded(root=root_folder).get("/"),
        guarded(root=root_folder).get("/", headers={"Host": "evil.example"}),
    ):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["frame-ancestors"] == "'self'"
        assert "http" not in policy["default-src"]
        assert "*" not in policy["default-src"]
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_null_origin_cannot_post(root_folder):
    assert guarded(root=root_folder).post("/", headers={"Origin": "null"}).status_code == 403


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class TestWrongPasswords:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def limits(self, clock):
        return LoginLimits(clock)

    def test_one_client_waits_twice_as_long_each_time(self, clock, limits):
        for _ in range(FREE - 1):
            limits.wrong("a")
            assert limits.wait("a") == 0
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            limits.wrong("a")
            assert limits.wait("a") == wait
            assert limits.wait("b") == 0
            clock.now += wait
        limits.right("a")
        limits.wrong("a")
        assert limits.wait("a") == 0

    def test_an_hour_of_guessing_from_one_address_is_a_hundred_guesses(self, clock, limits):
        heard = 0
        for _ in range(36_000):
            clock.now += 0.1
            if not limits.wait("a"):
                limits.wrong("a")
                heard += 1
        assert heard < 100

    def test_many_clients_together_have_one_guess_a_second_and_constant_memory(self, clock, limits):
        heard = 0
        for n in range(30_000):
            clock.now += 0.01
            if not limits.wait(f"client {n}"):
                limits.wrong(f"client {n}")
                heard += 1
        assert heard < 30_000 * 0.01 * 1.2 + 30
        assert len(limits._clients) <= CLIENTS

    def test_a_client_that_must_wait_is_refused_even_with_the_right_password(self, root_folder):
        client = guarded(root=root_folder, host="0.0.0.0", auth=("ada", "s3cret"))
        for _ in range(FREE):
            assert client.get("/", headers=basic("ada", "no")).status_code == 401
        later = client.get("/", headers=basic("ada", "s3cret"))
        assert later.status_code == 429
        assert int(later.headers["retry-after"]) >= 1

    def test_a_browser_that_gave_the_password_is_not_locked_out_by_others(self, root_folder):
        client = guarded(root=root_folder, host="0.0.0.0", auth=("ada", "s3cret"))
        own = client.get("/", headers=basic("ada", "s3cret")).cookies
        client.cookies.clear()
        for _ in range(FREE + 1):
            client.get("/", headers=basic("ada", "no"))
        assert client.get("/", headers=basic("ada", "s3cret")).status_code == 429
        client.cookies = own
        assert client.get("/", headers=basic("ada", "s3cret")).status_code == 200
        assert client.get("/").status_code == 401


class TestWhereThePasswordComesFrom:
    def test_a_file_or_the_environment_keeps_it_off_the_command_line(self, tmp_path):
        file = tmp_path / "auth"
        file.write_text("ada:from:file\nmore")
        assert chosen_credentials(None, file, {"WORKBENCH_AUTH": "b:c"}) == ("ada", "from:file")
        assert chosen_credentials(None, None, {"WORKBENCH_AUTH": "b:c"}) == ("b", "c")
        assert chosen_credentials("x:y", None, {"WORKBENCH_AUTH": "b:c"}) == ("x", "y")
        assert chosen_credentials(None, None, {}) is None

    def test_what_is_wrong_is_said_with_its_source_and_without_the_password(self, tmp_path):
        (tmp_path / "auth").write_text("secret")
        with pytest.raises(ValueError, match="auth: expected user:password") as reply:
            chosen_credentials(None, tmp_path / "auth", {})
        assert "secret" not in str(reply.value)
        with pytest.raises(ValueError, match="WORKBENCH_AUTH: expected"):
            chosen_credentials(None, None, {"WORKBENCH_AUTH": "x"})
        with pytest.raises(FileNotFoundError, match="absent"):
            chosen_credentials(None, tmp_path / "absent", {})
        with pytest.raises(ValueError, match="not both"):
            chosen_credentials("a:b", tmp_path / "auth", {})


class TestRunningApp:
    @pytest.mark.parametrize(
        "path", ["gradio_api/file=/etc/passwd", "file=/etc/passwd", "gradio_api/file=pyproject.toml"]
    )
    def test_files_of_the_machine_are_not_served(self, server, path):
        import httpx

        assert httpx.get(server + path).status_code in (403, 404)

    def test_an_unknown_address_is_a_page_that_lists_the_pages(self, server):
        import httpx

        answer = httpx.get(server + "no-such-page", headers={"Accept": "text/html"})
        assert answer.status_code == 404
        assert "There is no page at /no-such-page" in answer.text
        for link in ('href="/checkpoint"', 'href="/look-overlay"', 'href="/"'):
            assert link in answer.text
        assert "<b>" not in httpx.get(server + "<b>x", headers={"Accept": "text/html"}).text
        reply = httpx.get(server + "no-such-page", headers={"Accept": "application/json"})
        assert (reply.status_code, reply.json()["error"]) == (404, "There is no page at /no-such-page.")

    @pytest.mark.parametrize(
        "path",
        [
            "%00", "look-overlay%00", "workbench/static/compare/%00", "workbench/api/%00", "%0d%0ax",
            "gradio_api/file=%00", "a" * 5000, "workbench/static/compare/" + "a" * 300,
            "gradio_api/file=/" + "a" * 4000, "workbench/api/jobs/" + "a" * 3000, "?page=absent&deep_link=a",
            "workbench/api/image?data=a%00b&sample=0", "workbench/api/compare?run=a%00b&data=c",
            "workbench/api/image?sample=0&data=" + "a" * 5000, "workbench/api/jobs/a%00",
            "workbench/api/compare?data=painted.json&run=" + "../" * 2000,
        ],
    )  # fmt: skip
    def test_a_null_byte_or_an_endless_name_is_no_internal_error(self, server, path):
        import httpx

        answer = httpx.get(server + path)
        assert answer.status_code in ((200,) if path.startswith("?page") else (400, 403, 404)), answer.text
        if answer.status_code != 200:
            assert answer.json()["error"]

    @pytest.mark.parametrize(
        "query",
        [
            "compare?run=../..&data=painted.json",
            "compare?run=/etc&data=painted.json",
            "image?data=/etc/passwd&sample=0",
            "image?data=../painted.json&sample=0",
        ],
    )
    def test_the_api_refuses_paths_with_one_sentence(self, server, query):
        import httpx

        answer = httpx.get(f"{server}workbench/api/{query}")
        assert answer.status_code == 403
        assert "served" in answer.json()["error"]

    def test_the_checkpoint_page_refuses_paths_with_one_sentence(self, client):
        for path in ("/etc/passwd", "../secret.pth", "painted-run/leads_out.pth"):
            with pytest.raises(Exception, match="outside the served folder"):
                client.predict(path, api_name="/checkpoint")


class TestCommandLine:
    def test_a_public_host_without_a_password_is_exit_code_2(self, workbench, root_folder):
        code, out, err = workbench("app", root_folder, "--host", "0.0.0.0")
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert "--auth" in err

    def test_a_missing_folder_is_exit_code_2(self, workbench, tmp_path):
        code, _, err = workbench("app", tmp_path / "absent")
        assert code == 2
        assert "absent" in err

    def test_a_password_in_a_file_is_read_before_anything_else(self, workbench, root_folder, tmp_path):
        code, _, err = workbench("app", root_folder, "--host", "0.0.0.0", "--auth-file", tmp_path / "absent")
        assert code == 2
        assert "--auth-file" in err

    def test_a_wrong_port_is_exit_code_2(self, workbench, root_folder):
        code, _, err = workbench("app", root_folder, "--port", "99999")
        assert code == 2
        assert "65535" in err
