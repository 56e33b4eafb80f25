"""The web application: its pages, and what they ask of the desk and the reading room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from synthorax.errors import SynthoraxError
from synthorax.studio.desk import Desk
from synthorax.studio.reading import ReadingRoom
from synthorax.studio.requests import (
    CallAsking,
    CompareAsking,
    EraseAsking,
    InjectAsking,
    OpenAsking,
    ReaderAsking,
    ResultAsking,
    first_fault,
)
from synthorax.studio.safety import Door, Guard
from synthorax.studio.work import sentence, streamed

PAGE = Path(__file__).parent / "page"
VIEWER = PAGE / "vendor" / "niivue.js"
"""The bundle of niivue, which `make studio` puts there."""
NO_VIEWER = "its viewer; run `make studio` once, with npm and a network, in a checkout of synthorax"


def studio_app(desk: Desk, door: Door) -> ASGIApp:
    """Return the application behind its door."""
    app = FastAPI(title="synthorax studio", openapi_url=None, docs_url=None, redoc_url=None)
    _add_answers_to_errors(app)
    _add_pages(app, desk)
    _add_scans(app, desk)
    _add_edits(app, desk)
    _add_reading(app, ReadingRoom(desk))
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return Guard(app, door)


def _add_answers_to_errors(app: FastAPI) -> None:
    @app.exception_handler(SynthoraxError)
    async def refused(request: Request, error: SynthoraxError) -> JSONResponse:
        return JSONResponse({"error": sentence(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": first_fault(error.errors())}, 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{request.url.path}: {str(error.detail).lower()}"}, error.status_code)


def _add_pages(app: FastAPI, desk: Desk) -> None:
    @app.get("/")
    def studio() -> FileResponse:
        return FileResponse(PAGE / "studio.html")

    @app.get("/reader")
    def reader() -> FileResponse:
        return FileResponse(PAGE / "reader.html")

    @app.get("/api/start")
    def start() -> dict[str, Any]:
        return {
            "version": version("synthorax"),
            "folder": desk.folder.root.name if desk.folder.root else None,
            "first": desk.first,
            "methods": [offer.row() for offer in desk.methods.offers.values()],
            "viewer": "" if VIEWER.is_file() else NO_VIEWER,
        }

    @app.get("/api/folder")
    def folder(inside: str = "") -> dict[str, Any]:
        return desk.folder.listing(inside)

    @app.get("/api/form")
    def form(method: str) -> dict[str, Any]:
        return desk.methods.form(method)


def _add_scans(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/uploads/")
    def begin() -> dict[str, str]:
        return {"upload": desk.uploads.begin()}

    @app.put("/api/uploads/{upload}")
    async def take(upload: str, name: str, request: Request) -> dict[str, str]:
        stream: AsyncIterator[bytes] = request.stream()
        await desk.uploads.take(upload, name, stream)
        return {"upload": upload}

    @app.post("/api/scans")
    def open_scan(asked: OpenAsking) -> StreamingResponse:
        return streamed(lambda work: desk.open(asked, work))

    @app.delete("/api/scans/{key}")
    def close(key: str) -> dict[str, str]:
        desk.close(key)
        return {}

    @app.get("/api/scans/{key}")
    def about(key: str) -> dict[str, Any]:
        return desk.scans[key].about()

    @app.get("/api/scans/{key}/scan.nii")
    def voxels(key: str) -> StreamingResponse:
        scan = desk.scans[key]
        size = {"content-length": str(scan.nifti_bytes())}
        return StreamingResponse(scan.nifti(), media_type="application/octet-stream", headers=size)

    @app.get("/api/scans/{key}/labels")
    def labels(key: str) -> Response:
        return Response(desk.scans[key].labels(), media_type="application/octet-stream")

    @app.get("/api/scans/{key}/lungs")
    def lungs(key: str) -> dict[str, Any]:
        return desk.scans[key].coarse()


def _add_edits(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/scans/{key}/inject")
    def inject(key: str, asked: InjectAsking) -> StreamingResponse:
        return streamed(lambda work: desk.inject(key, asked, work))

    @app.post("/api/scans/{key}/erase")
    def erase(key: str, asked: EraseAsking) -> StreamingResponse:
        return streamed(lambda work: desk.erase(key, asked, work))

    @app.post("/api/scans/{key}/compare")
    def compare(key: str, asked: CompareAsking) -> StreamingResponse:
        return streamed(lambda work: desk.compare(key, asked, work))

    @app.post("/api/scans/{key}/undo")
    def undo(key: str) -> dict[str, Any]:
        return desk.back(key, again=False)

    @app.post("/api/scans/{key}/redo")
    def redo(key: str) -> dict[str, Any]:
        return desk.back(key, again=True)

    @app.post("/api/scans/{key}/result")
    def write(key: str, asked: ResultAsking) -> StreamingResponse:
        return streamed(lambda work: desk.write(key, asked, work))

    @app.get("/api/results/{name}")
    def result(name: str) -> FileResponse:
        found = desk.result(name)
        after = BackgroundTask(desk.drop_result, name)
        return FileResponse(found.path, media_type="application/zip", filename=found.name, background=after)


def _add_reading(app: FastAPI, room: ReadingRoom) -> None:
    @app.post("/api/reader")
    def begin(asked: ReaderAsking) -> StreamingResponse:
        return streamed(lambda work: room.begin(asked, work))

    @app.get("/api/reader/{key}/items/{number}")
    def item(key: str, number: int) -> dict[str, Any]:
        return room.item(key, number)

    @app.post("/api/reader/{key}/calls")
    def call(key: str, asked: CallAsking) -> dict[str, Any]:
        return room.call(key, asked)

    @app.get("/api/reader/{key}/result.{form}")
    def result(key: str, form: Literal["json", "csv"]) -> Response:
        content, kind = room.written(key, form)
        name = f'attachment; filename="reader-test.{form}"'
        return Response(content, media_type=kind, headers={"content-disposition": name})
