"""The reader tests that are under way in the studio, and the making of new ones."""

from __future__ import annotations

import csv
import io
import json
import secrets
import threading
from base64 import b64encode
from typing import Any

import numpy as np

from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.studio.desk import Desk
from synthorax.studio.reader_test import (
    CALL_COLUMNS,
    ReaderCall,
    ReaderItem,
    ReaderTest,
    items_of_folder,
    items_of_scan,
)
from synthorax.studio.requests import CallAsking, ReaderAsking
from synthorax.studio.work import Work

MOST_TESTS = 6
"""Reader tests that are kept; the oldest is forgotten for a seventh."""


class ReadingRoom:
    """The reader tests, by their keys.

    Args:
        desk: gives folders, open scans and methods.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk, self._lock = desk, threading.Lock()
        self._tests: dict[str, ReaderTest] = {}

    def begin(self, asked: ReaderAsking, work: Work) -> dict[str, Any]:
        """Collect or make the items of a test; return its key, and how many items it has.

        Raises:
            InputError: a folder has no usable image, or the scan has no real nodule.
        """
        notes: list[str] = []
        if asked.kind == "folders":
            items = self._of_folders(asked, work)
        else:
            items, notes = self._of_scan(asked, work)
        work("preparing the cubes", 0.9)
        test, key = ReaderTest(items, asked.seed, asked.reader, notes), secrets.token_hex(12)
        with self._lock:
            self._tests[key] = test
            while len(self._tests) > MOST_TESTS:
                del self._tests[next(iter(self._tests))]
        n = test.items[0].cube.shape[0]
        return {"key": key, "items": len(test.items), "voxels": n, "voxel_mm": test.items[0].cube.spacing_mm[0]}

    def item(self, key: str, number: int) -> dict[str, Any]:
        """Return the cube of an item, int16 with x changing first; nothing tells whether it is synthetic.

        Raises:
            InputError: there is no such test or item.
        """
        test = self.test(key)
        if not 0 <= number < len(test.items):
            raise InputError("item", str(number), f"0 to {len(test.items) - 1}")
        voxels = np.ascontiguousarray(test.items[number].cube.voxels.astype("<i2"))
        return {"shape": list(voxels.shape[::-1]), "hu": b64encode(voxels.tobytes()).decode()}

    def call(self, key: str, asked: CallAsking) -> dict[str, Any]:
        """Record a call; return how many items are left.

        Raises:
            InputError: as of `ReaderTest.call`.
        """
        call = ReaderCall(asked.synthetic, asked.confidence, asked.seconds)
        return {"left": self.test(key).call(asked.item, call)}

    def written(self, key: str, form: str) -> tuple[bytes, str]:
        """Return a test's result as a file's content and media type.

        Args:
            key: of the test.
            form: `json` or `csv`.

        Raises:
            InputError: there is no such test, or an item has no call yet.
        """
        result = self.test(key).result()
        if form == "json":
            return (json.dumps(result, indent=1, allow_nan=False) + "\n").encode(), "application/json"
        text = io.StringIO()
        table = csv.DictWriter(text, CALL_COLUMNS)
        table.writeheader()
        table.writerows(result["calls"])
        return text.getvalue().encode(), "text/csv"

    def test(self, key: str) -> ReaderTest:
        """Return a test.

        Raises:
            InputError: there is none of this key.
        """
        with self._lock:
            if key not in self._tests:
                raise InputError("reader test", "one that is over", "a test that was begun in this studio")
            return self._tests[key]

    def _of_folders(self, asked: ReaderAsking, work: Work) -> list[ReaderItem]:
        items: list[ReaderItem] = []
        for name, synthetic in ((asked.real, False), (asked.synthetic, True)):
            folder = self._desk.folder.at(name)
            if not folder.is_dir():
                raise InputError("folder", name or "none", "a folder of images below the chosen folder")
            work(f"reading {folder.name}", 0.45 * synthetic)
            root = self._desk.folder.at("")
            items += items_of_folder(folder, root, synthetic=synthetic, most=asked.most, seed=asked.seed)
        return items

    def _of_scan(self, asked: ReaderAsking, work: Work) -> tuple[list[ReaderItem], list[str]]:
        if asked.scan is None or asked.recipe is None:
            raise InputError(
                "reader test", "no scan or no method", "an open scan with nodules of its own, and a method"
            )
        scan = self._desk.scans[asked.scan]
        recipe = asked.recipe.model_copy(update={"seed": asked.seed})
        arguments = self._desk.recipe_arguments(recipe, work)
        with scan.lock:
            session = scan.session
            own = () if session.is_edited_again else session.first_labels[: asked.most]
            balls = [ball_around(region, session.mask) for region in own if region.voxels]
            if not balls:
                expected = "one with real nodules, such as a folder with nodules.csv, or two folders of patches"
                raise InputError("scan", f"{scan.name}, in which no real nodule is known", expected)
            work(f"{recipe.method} is making {len(balls)} nodules", 0.3)
            diameters = tuple(ball.diameter_mm for ball in balls)
            made = session.tried(**arguments, auto=len(balls), diameter_mm=diameters)
            real = {f"{scan.name}, nodule {i + 1}": ball.center_mm for i, ball in enumerate(balls)}
            synthetic = {f"{recipe.method}, nodule {n.nodule_id}": n.center_mm for n in made.nodules}
            items = items_of_scan(session.ct, made.ct, real, synthetic)
        notes = [f"one scan, {scan.name}: real and synthetic nodules have the same scanner and patient"]
        if scan.name.startswith("phantom"):
            notes.append("the scan is a phantom: its own nodules were called real")
        return items, notes
