"""Nothing outside the served folders is shown, and nobody uninvited sees anything."""

from __future__ import annotations

import base64

import pytest
from fastapi.testclient import TestClient

from apps.guard import Guard
from apps.served import Refused, Served
from apps.settings import Settings, credentials, loopback


@pytest.fixture
def served(root_folder):
    return Served.of(root_folder)


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
    with pytest.raises(ValueError, match="--auth user:password"):
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


def test_the_password_is_asked_for_everything(root_folder):
    client = guarded(root=root_folder, host="0.0.0.0", auth=("ada", "s3cret"))
    refused = client.get("/workbench/api/runs")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    for wrong in (basic("ada", "no"), {"Authorization": "Basic %%%"}, {"Authorization": "Bearer x"}):
        assert client.get("/", headers=wrong).status_code == 401
    assert client.get("/", headers=basic("ada", "s3cret")).status_code == 200


class TestRunningApp:
    @pytest.mark.parametrize(
        "path", ["gradio_api/file=/etc/passwd", "file=/etc/passwd", "gradio_api/file=pyproject.toml"]
    )
    def test_files_of_the_machine_are_not_served(self, server, path):
        import httpx

        assert httpx.get(server + path).status_code in (403, 404)

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

    def test_a_wrong_port_is_exit_code_2(self, workbench, root_folder):
        code, _, err = workbench("app", root_folder, "--port", "99999")
        assert code == 2
        assert "65535" in err
