"""`workbench app [ROOT]`: the web app, on this machine alone unless a password is given."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import (
    Adapter,
    Assume,
    Config,
    Demo,
    Device,
    Family,
    ImageOptions,
    Images,
    Output,
    Partial,
    Remap,
    argument,
    option,
)
from workbench.cli.output import Answer


def command(
    root: Annotated[
        Path | None, argument("A folder of run folders; the built-in checkpoints by default.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        option("--data", "A COCO-format keypoint json, or a folder of such; may be repeated."),
    ] = None,
    images: Images = None,
    port: Annotated[int, option("--port", "Port; the next free one if it is taken.")] = 7860,
    host: Annotated[
        str, option("--host", "Address; other than 127.0.0.1 only with a password.")
    ] = "127.0.0.1",
    auth: Annotated[
        str | None,
        option(
            "--auth",
            "user:password for the browser. Other users of this machine can read it "
            "in the list of processes: use --auth-file or the variable WORKBENCH_AUTH.",
        ),
    ] = None,
    auth_file: Annotated[
        Path | None, option("--auth-file", "A file whose first line is user:password.")
    ] = None,
    limit: Annotated[int, option("--limit", "Maximum number of samples of a data set in Compare.")] = 400,
    config: Config = None,
    adapter: Adapter = None,
    family: Family = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    device: Device = "cpu",
    *,
    pictures: ImageOptions,
    demo: Demo = False,
) -> Answer:
    """Serve the workbench until it is stopped with Ctrl-C."""
    from apps.server.settings import Settings, chosen_credentials
    from workbench.checkpoints.demo import root as demo_root

    if not 0 <= port <= 65535:
        raise ValueError(f"--port: expected 0 to 65535, got {port}")
    settings = Settings(
        root=demo_root() if root is None else root,
        data=tuple(data or ()),
        images=images,
        reading=pictures.reading,
        host=host,
        port=port,
        auth=chosen_credentials(auth, auth_file, os.environ),
        limit=limit,
        device=device,
        config=config,
        adapter=adapter,
        family=family,
        remap=remap,
        allow_partial=allow_partial,
        output=tuple(output or ()),
        assume=tuple(assume or ()),
    )
    # Imported after the settings were found good: it takes seconds, a mistake should not.
    typer.echo("Starting the workbench; its address is printed when it answers.", file=sys.stderr)
    from apps.server.application import address, bound, serve

    listener = bound(settings)
    where = address(listener)
    taken = listener.getsockname()[1]
    if port and taken != port:
        typer.echo(f"Port {port} is taken; using {taken}.", file=sys.stderr)

    def ready() -> None:
        typer.echo(f"Pose workbench: {where}  (root {settings.root}; stop with Ctrl-C)", file=sys.stderr)

    serve(settings, listener, ready)
    return Answer({"address": where, "root": str(settings.root)}, f"served {where}")
