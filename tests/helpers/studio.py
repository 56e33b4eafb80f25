"""A studio in the tests: its application behind its door, and a client that came in by the link."""

import base64
import json
from contextlib import contextmanager

import numpy as np
from fastapi.testclient import TestClient

from synthorax.studio.app import studio_app
from synthorax.studio.desk import Desk
from synthorax.studio.folders import ChosenFolder
from synthorax.studio.methods import Methods, Offer
from synthorax.studio.safety import Door
from tests.helpers.toy_makers import LungFiller

HOST = "127.0.0.1:8765"
ORIGIN = f"http://{HOST}"


class WithFiller(Methods):
    """The methods, and an eraser without weights."""

    def __init__(self, runs=()):
        super().__init__(runs)
        self.offers["filler"] = Offer("filler", "eraser", ("erases",), "Fills nodules with lung.")

    def method(self, name, role):
        return LungFiller() if self.usable(name, role).name == "filler" else super().method(name, role)


def desk_of(folder, files, methods=None):
    """The desk of a studio that opens scans below a folder; `files` is a new folder for its temporary ones."""
    files.mkdir()
    return Desk(ChosenFolder(folder), files, methods or WithFiller())


@contextmanager
def entered(desk):
    """A client that came by the link, as a browser does."""
    door = Door(frozenset({HOST}))
    with TestClient(studio_app(desk, door), base_url=ORIGIN, headers={"origin": ORIGIN}) as client:
        assert client.get("/", params={"token": door.token}).status_code == 200
        yield client


def lines(answer):
    """The lines of a streamed answer; its last is `done` or `error`."""
    return [json.loads(line) for line in answer.text.splitlines() if line.strip()]


def done(answer):
    """The result of a streamed answer."""
    last = lines(answer)[-1]
    assert "done" in last, last
    return last["done"]


def error(answer):
    """The sentence of a refusal, streamed or not."""
    return lines(answer)[-1]["error"]


def hu_of(box):
    """The HU [z, y, x] of a box that the studio sent."""
    return np.frombuffer(base64.b64decode(box["hu"]), "<i2").reshape(box["shape"][::-1])


def labels_of(box):
    """The labels [z, y, x] of a box that the studio sent."""
    return np.frombuffer(base64.b64decode(box["labels"]), np.uint8).reshape(box["shape"][::-1])


def box_slices(box):
    """The slices (z, y, x) of a box in the page's voxels."""
    return tuple(slice(a, a + n) for a, n in zip(box["corner"][::-1], box["shape"][::-1], strict=True))
