"""Uploads as they arrive: files alone, bounded one by one and together, none left of one that ends early."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from gradio import route_utils, routes
from gradio.route_utils import FileUploadProgress
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException

from apps.server.queue_bounds import NAME

MOST_FILES = 500
"""Files of one upload: each is open until the last has come, and a process may open 1024 on Linux."""

STORED_BYTES = 4 << 30
"""Bytes of all uploads that are still there; they go after an hour."""

MOST_STORED = 20_000
"""Files of all uploads that are still there."""

LOOK_BYTES = 16 << 20
"""So much of an upload may come between two looks at what is stored."""

MOST_WATCHED = 1000
"""Uploads whose progress is known; beyond that the one that began first is no longer told."""


class UploadProgress(FileUploadProgress):
    """How far uploads are, for the pages that sent them.

    Gradio keeps what it notes of an upload until somebody asks about it, and what it notes of a question
    about an upload that never comes for ever.
    """

    def track(self, upload_id: str) -> None:
        """Note an upload; forget the one that began first beyond `MOST_WATCHED`.

        Raises:
            FormParserError: the name is none that a page gives.
        """
        if not NAME.fullmatch(upload_id):
            raise FormParserError("upload_id: expected 1 to 64 letters, digits, - and _")
        super().track(upload_id)
        while len(self._statuses) > MOST_WATCHED:
            self.stop_tracking(next(iter(self._statuses)))

    def stop_tracking(self, upload_id: str) -> None:
        """Forget an upload, and who waits for it."""
        super().stop_tracking(upload_id)
        self._signals.pop(upload_id, None)

    async def is_tracked(self, upload_id: str) -> bool:
        """Wait until an upload begins."""
        try:
            return await super().is_tracked(upload_id)
        finally:
            if upload_id not in self._statuses:
                self._signals.pop(upload_id, None)


def stored(folder: Path) -> tuple[int, int]:
    """Bytes and number of all files below a folder."""
    size = count = 0
    for path, _, names in os.walk(folder):
        for name in names:
            count += 1
            try:
                size += Path(path, name).lstat().st_size
            except FileNotFoundError:  # removed meanwhile
                continue
    return size, count


async def _while_there_is_room(stream: AsyncIterator[bytes], folder: Path) -> AsyncIterator[bytes]:
    """The parts of an upload.

    Raises:
        MultiPartException: together with what is stored already it is too much.
    """
    unseen = LOOK_BYTES
    async for part in stream:
        unseen += len(part)
        if unseen >= LOOK_BYTES:
            unseen = 0
            size, count = await asyncio.to_thread(stored, folder)
            if size > STORED_BYTES or count > MOST_STORED:
                raise MultiPartException(
                    f"The uploads of the last hour have reached the maximum allowed size of "
                    f"{STORED_BYTES >> 20} MB and {MOST_STORED} files together; upload later."
                )
        yield part


def bound_uploads(folder: Path) -> None:
    """Let an upload hold files alone and leave no other; to be called once, before requests are answered.

    Gradio's parser keeps a part without a file name in memory, whatever its size. It removes what it wrote
    where the body is malformed, and not where the client hangs up, a part does not end, or its field has
    another name than ``files``. Whoever watches an upload that broke off would wait for ever.

    Args:
        folder: of all uploads.
    """
    parser = route_utils.GradioMultiPartParser
    parse = parser.parse
    if getattr(parse, "removes_files", False):
        return
    routes.file_upload_statuses = UploadProgress()  # pyright: ignore[reportPrivateImportUsage]

    def remove(files: Iterable[Any]) -> None:
        for file in files:
            file.close()
            Path(file.name).unlink(missing_ok=True)

    @functools.wraps(parse)
    async def parse_or_remove(self: Any) -> Any:
        self.max_files, self.max_fields = MOST_FILES, 0
        self.stream = _while_there_is_room(self.stream, folder)
        try:
            form = await parse(self)
        except MultiPartException as error:
            remove(self._files_to_close_on_error)
            if error.message.startswith("Too many fields"):
                raise FormParserError("expected files, got a field of a form") from error
            raise
        except BaseException:  # asyncio's cancelling among them; it is raised again
            remove(self._files_to_close_on_error)
            raise
        finally:
            if self.upload_progress is not None:
                self.upload_progress.set_done(self.upload_id)
        taken = [part for name, part in self.items if name == "files"]
        if any(Path(part.filename).name == ".." for part in taken):
            # Gradio would refuse it after this, and leave what was written.
            remove(self._files_to_close_on_error)
            raise FormParserError("expected a file, got one that is called ..")
        files = [part.file for part in taken]
        remove(file for file in self._files_to_close_on_error if file not in files)
        return form

    parse_or_remove.removes_files = True  # type: ignore[attr-defined]
    parser.parse = parse_or_remove  # type: ignore[method-assign]
