"""Choices of a page as it is built: labels show the signs that turn text around, values stay as they are."""

import gradio as gr
import pytest

from apps.pages.frame import Page
from apps.server import application

TURNED, MARKED, PLAIN = "run\u202eknalb", "<img src=x onerror=alert(1)>", "épreuve 日本"
KINDS = (gr.Dropdown, gr.Radio, gr.CheckboxGroup)
NAMES = [(TURNED, r"run\u202eknalb"), (MARKED, MARKED), (PLAIN, PLAIN)]


@pytest.fixture
def probe(monkeypatch):
    """An app's pages are one with a list of every kind, and the checkpoint page, which answers by name."""

    def build(_):
        for kind in KINDS:
            kind([name for name, _ in NAMES] + [("the " + TURNED, "value")], label=kind.__name__)
            kind([], label=kind.__name__)

    pages = [Page("", "Probe", "What is offered?", build)]
    pages += [page for page in application.all_pages() if page.path == "checkpoint"]
    monkeypatch.setattr(application, "all_pages", lambda: pages)


def test_a_built_choice_shows_signs_of_direction_and_keeps_its_value(context, probe):
    parts = [part["props"] for part in application.blocks(context).get_config_file()["components"]]
    expected = [(label, name) for name, label in NAMES] + [(r"the run\u202eknalb", "value")]
    for kind in KINDS:
        sent = [part["choices"] for part in parts if part.get("label") == kind.__name__]
        assert [[tuple(one) for one in choices] for choices in sent] == [expected, []]
