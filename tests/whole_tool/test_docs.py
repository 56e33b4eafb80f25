"""The commands and code in the documentation."""

import re
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.annotations.nodule_table import CENTER
from synthorax.io.images import read_image, write_image
from synthorax.io.mappings import read_mapping
from synthorax.io.tables import write_table
from tests.helpers.cubes import ball_in_lung
from tests.helpers.pages import ROOT, follow


def write_scans(folder, names):
    """Write a CT scan with a nodule, and its mask, for each name; return the last one."""
    folder.mkdir()
    for i, name in enumerate(names):
        ct, mask = ball_in_lung(seed=i)
        write_image(folder / f"{name}.nii.gz", ct)
        write_image(folder / f"{name}_mask.nii.gz", replace(ct, voxels=mask))
    return ct


def test_every_step_of_the_page_on_own_data_works(tmp_path):
    write_scans(tmp_path / "scans", "abc")
    follow("own-data.md", tmp_path)
    assert (tmp_path / "Dataset501_Nodules" / "dataset.json").is_file()


def test_every_step_of_the_page_on_ones_own_detector_works(tmp_path):
    write_scans(tmp_path / "scans", "abc")
    rows = [{"image": f"{i}.nii.gz", "mask": f"{i}_mask.nii.gz", "patient_id": f"P{i}"} for i in "abc"]
    write_table(tmp_path / "scans" / "nodules.csv", rows)
    follow("your-own-detector.md", tmp_path)
    results = read_mapping(tmp_path / "compared" / "results.json")
    assert [arm["name"] for arm in results["arms"]] == ["without", "with"]
    assert [test["p"] for test in results["tests"]] == [None]
    splits = [api.open_store(tmp_path / name).splits for name in ("real", "mixed")]
    assert splits[0]["test"] == splits[1]["test"]


def test_every_step_of_the_page_on_injection_works(tmp_path, chest):
    write_image(tmp_path / "chest.nii.gz", chest)
    follow("injection.md", tmp_path)
    assert read_image(tmp_path / "more" / "chest_mask.nii.gz").voxels.max() == 4


@pytest.mark.prove
def test_every_step_of_the_page_on_injection_works_with_trained_systems(tmp_path, chest):
    write_image(tmp_path / "chest.nii.gz", chest)
    follow("injection.md", tmp_path, runs=True)
    assert len(read_mapping(tmp_path / "erased-cases" / "manifest.json")["cases"][0]["erased"]) == 2
    assert (tmp_path / "compared" / "side-by-side.png").is_file()


def test_every_step_of_the_page_on_exports_works(tmp_path):
    scans = tmp_path / "scans"
    names = range(6)
    ct = write_scans(scans, names)
    middle = dict(zip(CENTER, ct.to_world((np.array(ct.shape) - 1) / 2).tolist(), strict=True))
    write_table(scans / "masks.csv", [{"image": f"{i}.nii.gz", "mask": f"{i}_mask.nii.gz"} for i in names])
    write_table(scans / "points.csv", [{"image": "0.nii.gz", **middle, "diameter_mm": 10}])
    api.prepare("patches", scans, tmp_path / "store", table=scans / "masks.csv", workers=1)
    api.prepare("patches", scans, tmp_path / "points", table=scans / "points.csv", workers=1)
    follow("export.md", tmp_path)
    assert (tmp_path / "monai" / "dataset.json").is_file()
    label = read_image(tmp_path / "Dataset502_Ignored" / "labelsTr" / "0.nii.gz").voxels
    assert np.unique(label).tolist() == [0, 2]


@pytest.mark.prove
def test_every_step_of_the_page_on_whole_chests_works(tmp_path):
    follow("scans.md", tmp_path)
    assert read_image(tmp_path / "scans" / "images" / "00001.nii.gz").shape == (24, 16, 16)
    assert (tmp_path / "more" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/studio.md",
        *(
            f"docs/{name}.md"
            for name in (
                "architecture",
                "own-data",
                "injection",
                "translation",
                "export",
                "from-pylidc",
                "scans",
                "your-own-detector",
            )
        ),
    ],
)
def test_links_within_the_project_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
