"""Long work for the page: it runs in a thread, and the answer is a stream of lines that tell how far it is.

Each line is JSON: `{"tell": TEXT, "share": 0 to 1 or null}`, `{"part": ...}` for a result among several, and at the end
`{"done": ...}` or `{"error": SENTENCE}`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

import anyio
from starlette.responses import StreamingResponse

from synthorax.errors import SynthoraxError, reason
from synthorax.provenance import without_folders

POLL_S = 0.02
"""Seconds between two looks for reports of the working thread."""
ALIVE_S = 2.0
"""After so many seconds without news an empty line is sent, which fails if the browser has gone."""
MOST_AT_ONCE = 2
"""Edits and loads that run at the same time; the others wait for their turn."""

_turns = threading.BoundedSemaphore(MOST_AT_ONCE)


class Gone(Exception):
    """The browser that asked for some work has gone; the work ends at its next report."""


class Work:
    """What a piece of long work needs of its caller.

    Attributes:
        lines: reports to be sent, in order.
        gone: set when nobody listens any more.
    """

    def __init__(self) -> None:
        self.lines: Queue[dict[str, Any]] = Queue()
        self.gone = threading.Event()

    def __call__(self, text: str, share: float | None = None) -> None:
        """Tell what is being done.

        Raises:
            Gone: nobody listens any more.
        """
        self._send({"tell": text, "share": share})

    def part(self, content: Any) -> None:
        """Send one of several results.

        Raises:
            Gone: nobody listens any more.
        """
        self._send({"part": content})

    def _send(self, line: dict[str, Any]) -> None:
        if self.gone.is_set():
            raise Gone
        self.lines.put(line)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until fewer than `MOST_AT_ONCE` pieces of work run.

        Raises:
            Gone: nobody listens any more.
        """
        if not _turns.acquire(blocking=False):
            self("waiting for other work in the studio to end")
            while not _turns.acquire(timeout=0.5):
                if self.gone.is_set():
                    raise Gone
        try:
            yield
        finally:
            _turns.release()


def streamed(work: Callable[[Work], Any]) -> StreamingResponse:
    """Return an answer that does some work in a thread and streams its lines.

    An error of the studio's own kinds becomes the last line. Any other error is logged by the server with its trace,
    and the line says so.
    """
    telling = Work()

    def run() -> None:
        try:
            with telling.turn():
                telling.lines.put({"done": work(telling)})
        except Gone:
            pass
        except (SynthoraxError, OSError) as error:
            telling.lines.put({"error": sentence(error)})
        except MemoryError:
            telling.lines.put({"error": "not enough memory for this; close another scan, or use a smaller one"})
        except BaseException as error:
            telling.lines.put({"error": f"the studio failed unexpectedly ({type(error).__name__}); see the terminal"})
            raise

    async def lines() -> AsyncIterator[str]:
        thread = threading.Thread(target=run, name="studio-work", daemon=True)
        thread.start()
        quiet_s = 0.0
        try:
            while True:
                try:
                    line = telling.lines.get_nowait()
                except Empty:
                    await anyio.sleep(POLL_S)
                    quiet_s += POLL_S
                    if quiet_s >= ALIVE_S:
                        quiet_s = 0.0
                        yield "\n"
                    continue
                quiet_s = 0.0
                yield json.dumps(line, allow_nan=False) + "\n"
                if "done" in line or "error" in line:
                    return
        finally:
            telling.gone.set()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def sentence(error: BaseException) -> str:
    """Return an error as one sentence for the page, without the folders of this machine."""
    if isinstance(error, OSError) and not isinstance(error, SynthoraxError):
        return without_folders(f"{error.filename or 'file'}: {reason(error)}")
    return without_folders(str(error)).replace("--force", "'anyway'")
