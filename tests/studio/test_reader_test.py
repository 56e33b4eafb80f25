"""The reader test: blind until its end, and right in its figures."""

import csv
import io

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.io.images import write_image
from synthorax.studio.reader_test import ReaderCall, ReaderItem, ReaderTest
from synthorax.volume import Volume
from tests.helpers.studio import desk_of, done, entered, error, hu_of

REAL_HU, MADE_HU = -300, 200


def cube(hu, size=40, spacing=1.0):
    """A cube of lung with a ball of some HU in its middle."""
    axes = np.linspace(-1, 1, size)
    z, y, x = np.meshgrid(axes, axes, axes, indexing="ij")
    voxels = np.where(z**2 + y**2 + x**2 < 0.1, hu, -850).astype(np.int16)
    return Volume(voxels, (spacing,) * 3)


def items(real, synthetic):
    return [ReaderItem(cube(REAL_HU, 16), False, f"r{i}") for i in range(real)] + [
        ReaderItem(cube(MADE_HU, 16), True, f"s{i}") for i in range(synthetic)
    ]


def test_the_figures_are_those_of_the_calls():
    test = ReaderTest(items(20, 10), seed=1)
    wrong_real, wrong_made = iter([True] * 4), iter([True] * 2)
    for number, item in enumerate(test.items):
        wrong = next(wrong_made if item.synthetic else wrong_real, False)
        test.call(number, ReaderCall(item.synthetic != wrong, 1 if wrong else 5, 2.0))
    found = test.result()
    assert found["called_synthetic"] == {"of_real": 4, "of_synthetic": 8}
    assert found["figures"]["sensitivity"] == {"value": 0.8, "low": 0.4439, "high": 0.9748}  # Clopper-Pearson of 8/10
    assert found["figures"]["specificity"] == {"value": 0.8, "low": 0.5634, "high": 0.9427}  # and of 16/20
    # Of 200 pairs 16 * 8 are certain and right; wrong calls of confidence 1 lie between: 4 * 8 and 16 * 2 pairs are
    # right too, and 4 * 2 pairs are wrong.
    assert found["figures"]["auc"]["value"] == pytest.approx((128 + 32 + 32) / 200)


def test_a_result_before_the_last_call_would_end_the_blinding_and_is_refused():
    test = ReaderTest(items(2, 2), seed=1)
    for number in range(3):
        test.call(number, ReaderCall(True, 3, 1.0))
    with pytest.raises(InputError, match="1 items without a call"):
        test.result()
    with pytest.raises(InputError, match="called before"):
        test.call(0, ReaderCall(False, 3, 1.0))


def test_a_test_of_one_kind_alone_is_refused():
    with pytest.raises(InputError, match="no synthetic item"):
        ReaderTest(items(3, 0), seed=1)


def test_items_of_different_grids_are_shown_on_one_grid():
    coarse = ReaderItem(cube(REAL_HU, 20, 2.0), False, "coarse")
    fine = ReaderItem(cube(MADE_HU, 36, 0.8), True, "fine")
    shown = ReaderTest([coarse, fine], seed=1).items
    assert shown[0].cube.shape == shown[1].cube.shape
    assert shown[0].cube.spacing_mm == shown[1].cube.spacing_mm
    middle = shown[0].cube.shape[0] // 2
    for item in shown:
        expected = MADE_HU if item.synthetic else REAL_HU
        assert item.cube.voxels[middle, middle, middle] == expected


@pytest.fixture
def client(tmp_path):
    folder = tmp_path / "patches"
    for name, hu in (("real", REAL_HU), ("made", MADE_HU)):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            write_image(folder / name / f"{name}{i}.nii.gz", cube(hu + 10 * i))
            write_image(folder / name / f"{name}{i}_mask.nii.gz", cube(1))
    (folder / "scans").mkdir()
    write_image(folder / "scans" / "whole.nii.gz", cube(REAL_HU, 130))
    with entered(desk_of(folder, tmp_path / "files")) as client:
        yield client


def test_a_reader_goes_through_two_folders_to_the_table(client):
    asked = {"kind": "folders", "real": "real", "synthetic": "made", "most": 3, "seed": 7, "reader": "AB"}
    test = done(client.post("/api/reader", json=asked))
    assert test["items"] == 6
    for number in range(6):
        item = client.get(f"/api/reader/{test['key']}/items/{number}").json()
        assert item.keys() == {"shape", "hu"}
        hu = hu_of(item)
        looks_made = int(hu[tuple(n // 2 for n in hu.shape)]) >= MADE_HU
        assert "without a call" in error(client.get(f"/api/reader/{test['key']}/result.json"))
        call = {"item": number, "synthetic": looks_made, "confidence": 4, "seconds": 1.5}
        assert client.post(f"/api/reader/{test['key']}/calls", json=call).json() == {"left": 5 - number}
    result = client.get(f"/api/reader/{test['key']}/result.json").json()
    assert (result["reader"], result["real"], result["synthetic"]) == ("AB", 3, 3)
    assert result["figures"]["auc"]["value"] == 1.0
    table = list(csv.DictReader(io.StringIO(client.get(f"/api/reader/{test['key']}/result.csv").text)))
    assert {(row["truth"], row["called"], row["confidence"]) for row in table} == {
        ("real", "real", "4"),
        ("synthetic", "synthetic", "4"),
    }
    assert all(row["source"].startswith({"real": "real", "synthetic": "made"}[row["truth"]]) for row in table)


def test_a_whole_scan_without_a_table_of_its_nodules_is_refused(client):
    asked = {"kind": "folders", "real": "scans", "synthetic": "made"}
    assert "without a row in nodules.csv" in error(client.post("/api/reader", json=asked))
