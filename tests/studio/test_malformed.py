"""Requests that no page sends: each is answered by a sentence, and the studio goes on."""

import json
import random

import pytest

from synthorax.io.images import write_image
from tests.helpers.chests import chest_of_two_lungs
from tests.helpers.studio import desk_of, done, entered, error

PATHS = (
    "/api/scans",
    "/api/scans/{key}/inject",
    "/api/scans/{key}/erase",
    "/api/scans/{key}/compare",
    "/api/scans/{key}/result",
    "/api/scans/nothing/inject",
    "/api/reader",
    "/api/reader/nothing/calls",
    "/api/nowhere",
)
VALUES = (
    None,
    True,
    -1,
    0,
    1e9,
    1e400,
    "",
    "x" * 5000,
    "../..",
    "\x00",
    [],
    [1],
    [1, 2, 3, 4],
    {},
    {"a": 1},
    "render",
    "5",
)
FIELDS = ("kind", "path", "upload", "at", "diameter_mm", "recipe", "auto", "method", "label", "seed", "tries", "layout")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    (folder / "scans").mkdir()
    write_image(folder / "scans" / "chest.nii.gz", chest_of_two_lungs())
    with entered(desk_of(folder / "scans", folder / "files")) as client:
        yield client


@pytest.fixture(scope="module")
def key(client):
    return done(client.post("/api/scans", json={"kind": "path", "path": "chest.nii.gz"}))["key"]


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        ("inject", {"recipe": {"method": "render"}}, "a voxel, or a number"),
        ("inject", {"at": [1, 2], "recipe": {"method": "render"}}, "at"),
        ("inject", {"at": [1, 2, 3], "recipe": {"method": "nothing"}}, "one that injects: render"),
        ("inject", {"at": [1, 2, 3], "recipe": {"method": "render", "options": {"a": 1}}}, "does not have here"),
        ("inject", {"at": [1, 2, 3], "recipe": {"method": "render", "options": {"shapes": "/etc/passwd"}}}, "lidc"),
        ("inject", {"at": [1, 2, 3], "recipe": {"method": "render", "ratings": {"texture": 9}}}, "1 to 5"),
        ("inject", {"at": [1, 2, 3], "recipe": {"method": "render", "ratings": {"beauty": 1}}}, "subtlety"),
        ("inject", {"at": [9e4, 0, 0], "recipe": {"method": "render"}}, "one in the scan"),
        ("inject", {"at": [1, 2, 3], "diameter_mm": 1000, "recipe": {"method": "render"}}, "100"),
        ("erase", {"method": "filler", "label": 9}, "the label of a nodule"),
        ("result", {}, "an edit to write down"),
        ("result", {"layout": "exe"}, "images"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_that_says_what_can(client, key, path, asked, expected):
    assert expected in error(client.post(f"/api/scans/{key}/{path}", json=asked))


def test_a_body_that_is_too_large_or_not_json_is_refused(client):
    assert client.post("/api/scans", content=b"x" * 300_000).status_code == 413
    assert client.post("/api/scans", content=b"{").status_code == 422
    assert client.post("/api/scans", content=b"\xff\xfe").status_code == 422


@pytest.mark.prove
def test_two_hundred_malformed_requests_are_answered_and_the_studio_goes_on(client, key):
    draw = random.Random(0)
    for number in range(200):
        path = draw.choice(PATHS).format(key=key)
        asked = {name: draw.choice(VALUES) for name in draw.sample(FIELDS, draw.randint(0, 4))}
        method = draw.choice(["POST", "POST", "POST", "PUT", "DELETE", "GET"])
        answer = client.request(method, path, content=json.dumps(asked), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (number, method, path, asked)
        if answer.status_code == 200 and method == "POST":
            assert error(answer), (number, path, asked)
    assert client.get(f"/api/scans/{key}").json()["steps"] == []
