"""`synthorax studio`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from synthorax.cli.options import Device
from synthorax.errors import InputError
from synthorax.screen import say, warn

EXTRA = "studio"
"""Optional dependency group of the studio."""


def studio(
    scan: Path | None = None,
    *,
    folder: Path | None = None,
    model: Annotated[list[Path] | None, Parameter(negative="")] = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    browser: bool = True,
    device: Device = "cpu",
) -> None:
    """Open a local web page to click nodules into a scan, erase them, compare methods and test readers.

    Parameters
    ----------
    scan
        Chest CT to show at once: a DICOM folder or file, NIfTI, MHA, MHD or NRRD. The page takes uploads too.
    folder
        Folder whose scans the page may open; by default that of SCAN. Nothing outside it can be opened.
    model
        Run folder of a trained model to offer beside the bundled ones; may be repeated.
    port
        Port to listen at; 0 for any that is free.
    host
        Address to listen at. The default is reached from this machine alone.
    browser
        Open the page in the browser.
    device
        cpu, cuda, or auto for cuda if there is a GPU.
    """
    try:
        from synthorax.studio.server import LOOPBACK, run_studio  # with FastAPI, which is an optional part
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "starlette"):
            raise
        raise InputError("studio", f"no package {error.name}", f"pip install 'synthorax[{EXTRA}]'") from error

    def ready(link: str) -> None:
        say(f"The studio is at {link}")
        say("Ctrl-C ends it.")
        if browser:
            webbrowser.open(link)

    if host != LOOPBACK:
        warn(f"the studio listens at {host}, where others may reach it; whoever has its link can use it")
    run_studio(scan, folder, model or (), host=host, port=port, device=device, ready=ready)
