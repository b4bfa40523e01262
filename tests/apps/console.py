"""What a page complains of, apart from what comes of leaving it while it still listens to the server."""

from __future__ import annotations

# Gradio's script reports its own stream as an error when the page goes away under it: on leaving, on
# reloading, and when the browser closes. Anywhere else these words are a complaint like any other.
# It may even listen once more, to a session that the server has let go because the page left: 404.
LEAVING = (
    "AbortError", "Connection errored out", "network error", "Failed to fetch", "ERR_ABORTED",
    "Unexpected error 404",
)  # fmt: skip


class Console:
    """Errors of one page: its console's, its scripts', and answers of 400 and above.

    Attributes:
        errors: in the order they came.
    """

    def __init__(self, page) -> None:
        self.errors: list[str] = []
        self.leaving = False
        page.on("console", lambda m: self._noted(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self._noted(str(e)))
        page.on("response", lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("request", lambda r: self._asked(r, page))
        # What the old page still says can arrive after the new one has begun, never after it has loaded.
        page.on("load", lambda _: setattr(self, "leaving", False))

    def closing(self) -> None:
        """The page is about to be closed."""
        self.leaving = True

    def _asked(self, request, page) -> None:
        if request.is_navigation_request() and request.frame == page.main_frame:
            self.leaving = True

    def _noted(self, text: str) -> None:
        # Before the browser asks for the next page, Gradio's script ends its stream and reports that end
        # first: from then on, what it says of a broken connection is its own doing.
        self.leaving = self.leaving or "AbortError" in text
        if self.leaving and any(words in text for words in LEAVING):
            return
        self.errors.append(text)
