"""Running the studio: its address, its link, its temporary files, and its end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs
import uvicorn

from synthorax.errors import InputError, OutputError, reason
from synthorax.io.images import is_image
from synthorax.studio.app import NO_VIEWER, VIEWER, studio_app
from synthorax.studio.desk import Desk
from synthorax.studio.folders import ChosenFolder, studio_files
from synthorax.studio.methods import Methods
from synthorax.studio.safety import Door

EVERY_ADDRESS = ("0.0.0.0", "::", "")
"""Values that stand for all addresses of a machine."""
LOOPBACK = "127.0.0.1"
"""Address that only this machine reaches."""


def run_studio(
    scan: Path | None,
    folder: Path | None,
    models: Sequence[Path],
    *,
    host: str,
    port: int,
    device: str,
    ready: Callable[[str], None],
) -> None:
    """Serve the studio until a signal ends it.

    Args:
        scan: to show at once.
        folder: below which the page opens scans; that of `scan` if not given.
        models: run folders whose methods are offered.
        host: address to listen at.
        port: 0 for any that is free.
        device: on which models run.
        ready: called with the studio's link when it answers.

    Raises:
        InputError: the host is no single address, the viewer is missing, a folder or model cannot be used, or the scan
            lies outside the folder.
        OutputError: the port is taken.
    """
    if host in EVERY_ADDRESS:
        expected = "the one address by which its page is reached, so that others' pages are told apart"
        raise InputError("--host", f"{host}, every address of this machine", expected)
    if not VIEWER.is_file():
        raise InputError("studio", "no viewer", NO_VIEWER)
    chosen, first = chosen_folder(scan, folder)
    methods = Methods(models, device)
    with _listening(host, port) as bound, studio_files(platformdirs.user_cache_path("synthorax") / "studio") as files:
        number = bound.getsockname()[1]
        door = Door.of(host, number)
        app = studio_app(Desk(chosen, files, methods, first), door)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=30)
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{number}/?token={door.token}")
        uvicorn.Server(config).run(sockets=[bound])


def chosen_folder(scan: Path | None, folder: Path | None) -> tuple[ChosenFolder, str]:
    """Return the folder from which the page opens scans, and the path in it of the scan to show.

    Raises:
        InputError: there is no such scan or folder, or the scan lies outside the folder.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(folder, "no folder", "a folder of scans")
    if scan is None:
        return ChosenFolder(folder), ""
    if not scan.exists():
        raise InputError(scan, "nothing", "a scan: a DICOM folder, NIfTI, MHA, MHD or NRRD")
    at = scan.resolve()
    if at.is_file() and not is_image(at):
        at = at.parent  # a slice of a DICOM series
    root = (folder or at.parent).resolve()
    if root not in at.parents:
        raise InputError(scan, f"a scan outside {root.name}", "one below the folder of --folder")
    return ChosenFolder(root), at.relative_to(root).as_posix()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        OutputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise OutputError(f"{host}:{port}", f"{reason(error)}; give another --port, or 0 for any") from error
    return made
