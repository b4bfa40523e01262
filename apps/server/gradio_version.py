"""The version of Gradio that the workbench was tested with, and what differs inside another one."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from typing import Any

import gradio as gr

from workbench.core import NotAvailable

TESTED_VERSION = "6.31.0"
"""Version of Gradio that gradio_private.py was written for and tested with."""

# What gradio_private.py, queue_bounds.py and upload_forms.py replace, call or override and Gradio does not
# document: name -> sha256 of its source in TESTED_VERSION. Print those of another version, once the tests
# pass with it, with `python -c "from apps.server import gradio_version as g; print(g.digests())"`.
PRIVATE = {
    "gradio.routes:App.create_app": "ca031b83f2a38daf",
    "gradio.blocks:Blocks.get_config_file": "03ae83bc139d707d",
    "gradio.blocks:Blocks.__exit__": "a070a3b9c46fb814",
    "gradio.blocks:Blocks.process_api": "8a0295b01e0c042e",
    "gradio.blocks:Blocks.preprocess_data": "ab14baed86ecfeb1",
    "gradio.blocks:Blocks.call_function": "bfc3101690b6d493",
    "gradio.blocks:Blocks.close": "f72b970df107ce60",
    "gradio.route_utils:GradioMultiPartParser.parse": "391fdfd66bafc82e",
    "gradio.route_utils:FileUploadProgress": "0176fcb805336008",
    "gradio.processing_utils:_check_allowed": "faf116a7d9c13df0",
    "gradio.state_holder:SessionState": "fcb971a6f6dee5f0",
    "gradio.state_holder:StateHolder": "cceeb6392133a057",
    "gradio.queueing:Queue.push": "511203b2801177ac",
    "gradio.queueing:Queue.send_message": "1b9f20f1321b7f0a",
    "gradio.queueing:Queue.set_server_app": "d63f6c9f11cb9840",
    "gradio.queueing:Queue.close": "653dafbe1d569e2b",
    "gradio.components.file:File._process_single_file": "bfa1b0944c7c4824",
    "gradio.components.plot:PlotData": "95767a962c67d1eb",
    "gradio.context:Context": "e53ee360166e7eb3",
}


def digests() -> dict[str, str]:
    """Beginning of the sha256 of the source of each name in `PRIVATE`; "" for one that is gone."""
    found = {}
    for name in PRIVATE:
        module, _, path = name.partition(":")
        try:
            thing: Any = importlib.import_module(module)
            for part in path.split("."):
                thing = inspect.getattr_static(thing, part)
            thing = getattr(thing, "__func__", thing)
            source = "".join(inspect.getsource(thing).split())
        except (ImportError, AttributeError, TypeError, OSError):
            source = ""
        found[name] = hashlib.sha256(source.encode()).hexdigest()[:16] if source else ""
    return found


def check_version(version: str = gr.__version__) -> None:
    """Refuse to start on a version of Gradio whose private functions are not those that were tested.

    Raises:
        NotAvailable: they differ; names them.
    """
    if version == TESTED_VERSION:
        return
    if changed := [name for name, digest in digests().items() if digest != PRIVATE[name]]:
        raise NotAvailable(
            f"app: Gradio {version} differs from {TESTED_VERSION}, with which the workbench was tested, in "
            f"{', '.join(changed)}; install gradio=={TESTED_VERSION}"
        )
