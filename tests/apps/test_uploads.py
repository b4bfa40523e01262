"""Uploaded files: who can name them, what opens them, and that nothing is left of those that break off."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from apps.server.gradio_private import upload_folder
from tests import waiting
from tests.conftest import ROOT


def test_an_upload_is_served_back_and_can_be_looked_at(server, client, tmp_path):
    import gradio_client
    from PIL import Image

    own = tmp_path / "own.png"
    Image.new("RGB", (48, 64), "white").save(own)
    with own.open("rb") as stream:
        (path,) = httpx.post(f"{server}gradio_api/upload", files={"files": stream}).json()
    assert path.startswith(str(upload_folder()))
    assert httpx.get(f"{server}gradio_api/file={path}").content == own.read_bytes()
    assert httpx.get(f"{server}gradio_api/file={path}/../../link.png").status_code == 404
    own_image = gradio_client.handle_file(str(own))
    subject = ["painted-run", 0, "painted.json", 0, "", own_image, None, None, None, None]
    facts = client.endpoints[client._infer_fn_index("/overlay_json", None)].parameters_info
    rest = [one["parameter_default"] for one in facts[len(subject) :]]
    assert '"own.png"' in client.predict(*subject, *rest, api_name="/overlay_json")


def test_only_who_uploaded_a_file_can_name_it(server):
    """Its folder is a keyed digest of 256 bits; no address lists what is there, not even the own folder."""
    from gradio.utils import get_hash_seed

    content = b"12345"  # whoever guesses it does not know where it lies
    (path,) = httpx.post(f"{server}gradio_api/upload", files={"files": ("own.txt", content)}).json()
    folder = Path(path).parent
    assert re.fullmatch("[0-9a-f]{64}", folder.name)
    for seed in (b"", get_hash_seed().encode()):
        assert folder.name != hashlib.sha256(seed + content).hexdigest()
    assert folder.parent == upload_folder()
    for address in (path, folder, f"{folder}/", upload_folder(), f"{upload_folder()}/", "", "."):
        answer = httpx.get(f"{server}gradio_api/file={address}")
        assert answer.content == content if address == path else answer.status_code == 404


@pytest.mark.long
def test_the_upload_folder_is_made_wherever_the_environment_says_and_those_of_killed_servers_go(tmp_path):
    """In processes of their own: the folder is one per process, and named to Gradio by its environment."""
    program = (
        "import os, glob\nfrom apps.server.gradio_private import upload_folder\n"
        "for _ in range(2):\n"
        "    if not os.fork():\n"
        "        before = glob.glob('*', root_dir=os.environ['GRADIO_TEMP_DIR'])\n"
        "        print(before, upload_folder().name, flush=True)\n"
        "        os._exit(9)\n"
        "    os.wait()\n"
    )
    parent = tmp_path / "not" / "there"
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(parent), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    killed, later = (line.rpartition(" ")[2] for line in done.stdout.splitlines())
    assert done.stdout.splitlines() == [f"[] {killed}", f"['{killed}'] {later}"]
    assert [path.name for path in parent.iterdir()] == [later]


def broken_off(server, upload_id, size):
    """Send the first half of an upload of so many bytes, then hang up; the files that lay there meanwhile."""
    host, _, port = server.removeprefix("http://").rstrip("/").partition(":")
    start = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n"
    )
    head = (
        f"POST /gradio_api/upload?upload_id={upload_id} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Origin: {server.rstrip('/')}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {size}\r\n\r\n"
    ).encode()
    before = set(written_files())
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head + start + b"x" * (size // 2))
        return waiting.when(lambda: set(written_files()) - before, bool, seen="no file was begun")


def written_files():
    """Files directly in the upload folder: those that an upload has begun."""
    return [path for path in upload_folder().iterdir() if path.is_file() and not path.is_symlink()]


def test_an_upload_that_breaks_off_leaves_no_file(server):
    before = set(written_files())  # servers of other tests in this process write into it too
    for number in range(3):
        assert len(broken_off(server, f"broken{number}", 200_000)) == 1
        waiting.when(written_files, lambda found: set(found) <= before, seen="the file stays")
    with httpx.Client(base_url=server, timeout=60) as client:
        answer = client.post("gradio_api/upload", files={"files": ("a.png", b"x" * 1000)})
    assert Path(answer.json()[0]).read_bytes() == b"x" * 1000  # one that ends is kept
    assert set(written_files()) <= before


PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\nabc'


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (PART % (b"x", b"") + b"\r\n--b--\r\n", 422, "got a field"),  # memory, without end
        (PART % (b"files", b"") + b"\r\n--b--\r\n", 422, "got a field"),
        (PART % (b"files", b'; filename="a.png"'), 200, "[]"),  # has no end
        (PART % (b"x", b'; filename="a.png"') + b"\r\n--b--\r\n", 200, "[]"),
        (PART % (b"files", b'; filename="a.png"') + b"\r\n" + PART % (b"x", b""), 422, "got a field"),
        (PART % (b"files", b'; filename=".."') + b"\r\n--b--\r\n", 422, "is called .."),
        (PART % (b"files", b'; filename="a/.."') + b"\r\n--b--\r\n", 422, "is called .."),
    ],
)
def test_an_upload_holds_files_alone_and_leaves_no_other(server, body, status, said):
    before = set(written_files())
    for number in ("", "?upload_id=odd"):  # Gradio counts what has come of an upload with a name
        answer = httpx.post(
            f"{server}gradio_api/upload{number}",
            content=body,
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert (answer.status_code, said in answer.text) == (status, True)
    assert set(written_files()) <= before


def test_a_whole_upload_is_bounded_too(server, monkeypatch):
    from apps.server import address_filter

    monkeypatch.setattr(address_filter, "LARGEST_UPLOAD", 1000)
    answer = httpx.post(f"{server}gradio_api/upload", files={"files": ("a.png", b"x" * 2000)})
    assert (answer.status_code, "refused" in answer.text) == (413, True)


def sent_with(server, name, body=PART % (b"files", b'; filename="a.png"') + b"\r\n--b--\r\n"):
    return httpx.post(
        f"{server}gradio_api/upload",
        params={"upload_id": name},
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )


def test_what_is_noted_of_uploads_is_bounded(server, monkeypatch):
    """Gradio keeps it until somebody asks about the upload, under a name of any length."""
    from gradio.routes import file_upload_statuses as noted

    from apps.server import upload_forms

    monkeypatch.setattr(upload_forms, "MOST_WATCHED", 3)
    for number in range(6):
        assert sent_with(server, f"up{number}").status_code == 200
    assert list(noted._statuses) == list(noted._signals) == ["up3", "up4", "up5"]
    refused = sent_with(server, "a" * 65)
    assert (refused.status_code, "upload_id: expected" in refused.text) == (422, True)
    assert httpx.get(f"{server}gradio_api/upload_progress?upload_id=unknown").status_code == 404
    assert set(noted._signals) == {"up3", "up4", "up5"}


def test_who_watches_an_upload_that_is_refused_hears_its_end(server):
    assert sent_with(server, "refused", PART % (b"x", b"") + b"\r\n--b--\r\n").status_code == 422
    with httpx.stream("GET", f"{server}gradio_api/upload_progress?upload_id=refused", timeout=5) as stream:
        assert '"done"' in stream.read().decode()


@pytest.mark.parametrize(("limit", "most"), [("STORED_BYTES", -1), ("MOST_STORED", -1)])
def test_all_uploads_together_are_bounded(server, monkeypatch, limit, most):
    from apps.server import upload_forms

    before = set(written_files())
    monkeypatch.setattr(upload_forms, limit, most)
    answer = sent_with(server, "one")
    assert (answer.status_code, "together" in answer.text) == (413, True)
    assert set(written_files()) <= before


def test_an_upload_whose_body_does_not_end_is_no_error_of_the_server(server, monkeypatch):
    from apps.server import connections

    monkeypatch.setattr(connections, "PART_SECONDS", 0.2)
    host, _, port = server.removeprefix("http://").rstrip("/").partition(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    before = set(written_files())
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head.encode() + PART % (b"files", b'; filename="a.png"'))
        assert line.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert set(written_files()) <= before


def test_an_uploaded_image_is_opened_by_nothing_but_our_reader(monkeypatch):
    """Gradio opened it with Pillow: a gigabyte for some files of 100 kB, and Ghostscript for others."""
    import gradio as gr
    from gradio.data_classes import ImageData
    from PIL import Image

    from apps.server.gradio_private import leave_images_as_uploaded

    leave_images_as_uploaded()
    monkeypatch.setattr(Image, "open", None)
    given = ImageData(path="/uploads/grey.eps", orig_name="grey.eps")
    assert gr.Image(type="filepath").preprocess(given) == "/uploads/grey.eps"
    assert gr.Image(type="filepath").preprocess(None) is None
    with pytest.raises(ValueError, match="given by its path"):
        gr.Image(type="numpy").preprocess(given)


def test_a_file_that_a_handler_is_given_leaves_no_empty_one_beside_it():
    import gradio as gr
    from gradio.data_classes import FileData

    from apps.server.gradio_private import leave_no_empty_files

    leave_no_empty_files()  # as `finish` does for every app
    own = upload_folder() / "mine" / "own.json"
    own.parent.mkdir(exist_ok=True)
    own.write_text("{}")
    before = set(written_files())
    assert gr.File(file_types=[".json"]).preprocess(FileData(path=str(own))) == str(own)
    with pytest.raises(gr.Error, match=r"expected one of \.csv"):
        gr.File(file_types=[".csv"]).preprocess(FileData(path=str(own)))
    assert set(written_files()) == before
