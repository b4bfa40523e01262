"""Take the README's pictures again: `make pictures`, which serves the demo and drives each page in Chromium.

Needs a Chromium and playwright, as the browser tests do. `python -m apps.screenshots.take NAME` takes one of
them alone. Look at what it wrote before it is committed.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE = 600_000  # ms, of what is computed anew
SETTLED = 15_000  # ms: pages go on asking for news, so their network is never idle


def _diagnose(page: Any) -> None:
    page.get_by_role("button", name="Diagnose", exact=True).click()
    page.get_by_text("causes tested").wait_for(timeout=PATIENCE)
    page.get_by_text("What it is:").wait_for(timeout=PATIENCE)


def _simcc(page: Any) -> None:
    page.get_by_role("link", name="SimCC curves").first.click()


def _overfit(page: Any) -> None:
    page.get_by_label("plant a fault").click()
    page.get_by_role("option", name="codec", exact=True).click()
    page.locator("#ovf-start").click()
    page.locator("[data-testid=overfit-culprit]").wait_for(timeout=PATIENCE)


PICTURES: dict[str, tuple[str, int, Callable[[Any], None] | None]] = {
    "compare": ("?run=rtmpose-demo&data=scenes-val&epochs=2,40&sample=000114/221", 800, None),
    "diagnose": ("diagnose", 900, _diagnose),
    "checkpoint": ("checkpoint", 900, None),
    "look": ("look?run=rtmpose-demo&epoch=40&data=scenes-val&sample=000114/221", 900, _simcc),
    "errors": ("errors", 900, None),
    "curves": ("curves?runs=rtmpose-demo", 900, None),
    "overfit": ("overfit", 1100, _overfit),
    "rollout": ("rollout", 1100, None),
    "grouping": ("grouping", 1100, None),
    "conditioning": ("conditioning", 1000, None),
    "codecs": ("codecs", 900, None),
    "audit": ("audit?config=example", 900, None),
}
"""By name: the address below the app's, the window's height in pixels, and what is done before."""


def main(names: list[str]) -> int:
    """Write the named pictures, by default all, beside this file."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    from apps.server.application import build
    from apps.server.settings import Settings

    app = build(Settings(root=HERE.parents[1] / "checkpoints", port=0))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        if not serving.is_alive():
            raise RuntimeError("the server of the pages did not start")
        time.sleep(0.1)
    base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    browsers = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, browsers)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in names or PICTURES:
            address, height, act = PICTURES[name]
            page = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme="light")
            answer = page.goto(base + address)
            if answer is None or not answer.ok:  # or the page that says so becomes the picture
                raise SystemExit(f"{name}: there is no page at /{address}")
            page.wait_for_timeout(SETTLED)
            if act:
                act(page)
                page.wait_for_timeout(SETTLED)
            page.screenshot(path=HERE / f"{name}.png")
            page.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
