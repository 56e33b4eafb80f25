"""The studio's page in a real browser without a screen: what a person sees and does."""

import csv
import io
import zipfile
from contextlib import ExitStack

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import studio_browser
import synthorax as sx
from synthorax.io.images import write_image
from synthorax.patch import PatchSpec
from synthorax.studio.app import VIEWER
from synthorax.volume import Volume
from tests.helpers.chests import chest_of_two_lungs

pytestmark = [
    pytest.mark.skipif(studio_browser.chromium() is None, reason=studio_browser.MISSING),
    pytest.mark.skipif(not VIEWER.is_file(), reason=studio_browser.NO_VIEWER),
]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    write_image(folder / "chest.nii.gz", chest_of_two_lungs())
    return folder / "chest.nii.gz"


@pytest.fixture(scope="module")
def link(scan):
    with studio_browser.running_studio(scan) as link:
        yield link


@pytest.fixture(scope="module")
def browser():
    with studio_browser.running_browser() as browser:
        yield browser


def ball_of(hu):
    """A cube of lung, 30 mm wide, with a ball of some HU in its middle."""
    voxels = np.where(PatchSpec((30, 30, 30)).distances_mm() < 6, hu, -850)
    return Volume(voxels.astype(np.int16), (1.0, 1.0, 1.0))


def picture(page):
    """What is on the canvas of the slices, grey [y, x], without the panel beside it."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("L"), float)


def picture_when(page, holds):
    """The first picture of which a condition holds; the page gets a minute and more for it."""
    for _ in range(600):
        if holds(now := picture(page)):
            return now
        page.wait_for_timeout(100)
    return pytest.fail("the expected picture did not come")


def settled(page):
    """The picture once it stays as it is, however long the machine takes to draw it."""
    earlier = []

    def stays(now):
        earlier.append(now)
        return len(earlier) > 1 and np.array_equal(now, earlier[-2])

    return picture_when(page, stays)


def sides_named(page):
    """Bright pixels at both edges of the 3D view, half-way down, where letters name the patient's sides."""
    box = page.locator("#lungs-box").bounding_box()
    for x in (box["x"] + 4, box["x"] + box["width"] - 20):
        clip = {"x": x, "y": box["y"] + box["height"] / 2, "width": 16, "height": 18}
        yield np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("L")) > 100


def click_lung(page):
    """Click into the patient's right lung on the axial slice, the upper left quarter of the stage."""
    box = page.locator("#planes").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.16, box["y"] + box["height"] * 0.235)


def shown_lung(page):
    """Click into the lung of the scan that opens, and return the settled picture, without outlines of nodules."""
    page.wait_for_selector("body[data-open]")
    click_lung(page)
    page.click("#outline")  # so that the picture shows the nodule's voxels, not its outline
    page.mouse.move(1, 1)
    return settled(page)


def put_in(page, diameter_mm, before):
    """Put a nodule at the crosshair, and return the picture in which it shows."""
    page.locator("#diameter-field input[type=number]").fill(str(diameter_mm))
    page.click("#act")
    page.wait_for_selector("body[data-steps='1']")
    page.mouse.move(1, 1)
    return picture_when(page, lambda now: np.abs(now - before).max() > 60)


def test_a_nodule_is_clicked_in_seen_undone_and_downloaded_bit_for_bit(browser, link, scan, tmp_path):
    with studio_browser.shown_page(browser, link) as (page, errors):
        before = shown_lung(page)
        put_in(page, 20, before)
        assert page.locator("#nodules tbody tr").count() == 1
        at = [float(part) for part in page.inner_text("#readout").split(" mm")[0].split(",")]

        page.click("#undo")
        page.wait_for_selector("body[data-steps='0']")
        picture_when(page, lambda now: np.abs(now - before).max() < 8)
        page.click("#redo")
        page.wait_for_selector("body[data-steps='1']")

        page.click("#download")
        with page.expect_download() as download:
            page.click("#download-images")
        download.value.save_as(tmp_path / "made.zip")
        assert errors == []
    with zipfile.ZipFile(tmp_path / "made.zip") as zipped:
        zipped.extractall(tmp_path / "made")
    (folder,) = (tmp_path / "made").iterdir()
    sx.inject(scan, at_mm=at, diameter_mm=20, seed=1, out=tmp_path / "verb")
    for name in ("chest.nii.gz", "chest_mask.nii.gz", "chest_region.nii.gz"):
        assert (folder / name).read_bytes() == (tmp_path / "verb" / name).read_bytes(), name
    assert np.asarray(nib.load(folder / "chest_mask.nii.gz").dataobj).any()


@pytest.mark.prove
def test_a_nodule_is_taken_out_again_by_its_row_in_the_list(browser, link):
    with studio_browser.shown_page(browser, link) as (page, errors):
        before = shown_lung(page)
        ill = put_in(page, 12, before)
        page.click("#nodules tbody tr button[title*='out']")
        page.wait_for_selector("body[data-steps='2']")
        page.mouse.move(1, 1)
        picture_when(page, lambda now: np.abs(now - before).sum() < 0.25 * np.abs(ill - before).sum())
        page.click("#undo")
        page.wait_for_selector("body[data-steps='1']")
        picture_when(page, lambda now: np.abs(now - ill).max() < 8)
        assert errors == []


def test_a_click_outside_the_lungs_is_told_in_a_sentence_that_offers_to_go_on(browser, link):
    with studio_browser.shown_page(browser, link, size=(390, 844), scheme="light") as (page, errors):
        page.wait_for_selector("body[data-open]")
        page.click("#act")
        page.locator(".toast.error").wait_for()
        assert "expected one in the lungs" in page.inner_text(".toast.error")
        page.click(".toast.error button:has-text('anyway')")
        page.wait_for_selector("body[data-steps='1']")
        page.keyboard.press("Control+z")
        page.wait_for_selector("body[data-steps='0']")
        assert errors == []


@pytest.mark.prove
def test_an_uploaded_scan_is_compared_swiped_and_downloaded_as_dicom(browser, link, scan, tmp_path):
    with studio_browser.shown_page(browser, link) as (page, errors):
        page.wait_for_selector("body[data-open]")
        first = page.get_attribute("body", "data-open")
        page.click("#open")
        page.set_input_files("#files", scan)
        page.wait_for_selector(f"body[data-open]:not([data-open='{first}'])")
        assert page.get_attribute("#lungs-box", "data-left") == "R"
        assert all(white.any() for white in sides_named(page))
        click_lung(page)
        page.locator("#diameter-field input[type=number]").fill("20")
        page.click("#by-seed")
        page.locator("#sheet button.picture").nth(5).wait_for()
        page.locator("#sheet button.picture").nth(3).click()
        page.wait_for_selector("body[data-steps='1']")
        assert page.inner_text("#nodules tbody tr td:nth-child(5)") == "4"  # its seed

        page.click("#outline")
        page.mouse.move(1, 1)
        after = settled(page)
        page.keyboard.press("s")
        box = page.locator("#planes").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.235)
        page.wait_for_selector("#divider:not([hidden])")
        picture_when(page, lambda now: np.abs(now - after).max() > 60)  # the nodule, left of the pointer, is gone
        page.keyboard.press("s")

        page.click("#download")
        with page.expect_download() as download:
            page.click("#download-dicom")
        download.value.save_as(tmp_path / "made.zip")
        assert errors == []
    with zipfile.ZipFile(tmp_path / "made.zip") as zipped:
        zipped.extractall(tmp_path / "made")
    (folder,) = (tmp_path / "made").iterdir()
    assert sx.read_scan(folder / "ct").ct.shape == sx.read_scan(scan).ct.shape
    assert (folder / "mask.dcm").is_file()
    assert (folder / "manifest.json").is_file()


def test_a_reader_goes_from_two_folders_to_the_result(browser, link, scan, tmp_path):
    for name, hu in (("real", -300), ("made", 200)):
        (scan.parent / name).mkdir()
        for i in range(3):
            write_image(scan.parent / name / f"{name}{i}.nii.gz", ball_of(hu))
    with studio_browser.shown_page(browser, link) as (page, errors):
        page.goto(link.partition("?")[0] + "reader")
        page.fill("#real", "real")
        page.fill("#synthetic", "made")
        page.click("#begin-folders")
        for number in range(6):
            page.wait_for_selector(f"body[data-item='{number}']")
            shown = np.asarray(Image.open(io.BytesIO(page.locator(".judged").screenshot())).convert("L"))
            looks_made = shown[shown.shape[0] // 2, shown.shape[1] // 2] > 230
            page.keyboard.press("Shift+Digit5" if looks_made else "Digit4")
        page.wait_for_selector("body[data-result]")
        assert page.inner_text("#figure-auc b") == "1.00"
        assert page.inner_text("#figure-sensitivity b") == "100 %"
        with page.expect_download() as download:
            page.click("#result-csv")
        rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
        assert (
            sorted((row["truth"], row["called"]) for row in rows) == [("real", "real")] * 3 + [("synthetic",) * 2] * 3
        )
        assert errors == []


@pytest.mark.prove
def test_three_browsers_edit_scans_of_their_own_at_once(browser, link):
    with ExitStack() as stack:
        shown = [stack.enter_context(studio_browser.shown_page(browser, link)) for _ in range(3)]
        for page, _ in shown:
            page.wait_for_selector("body[data-open]")
            click_lung(page)
        for page, _ in shown:
            page.click("#act")
        for page, errors in shown:
            page.wait_for_selector("body[data-steps='1']")
            assert page.locator("#nodules tbody tr").count() == 1
            assert errors == []
        assert len({page.get_attribute("body", "data-open") for page, _ in shown}) == 3
