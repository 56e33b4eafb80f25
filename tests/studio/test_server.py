"""The studio's server: a scan is opened, edited, undone and downloaded, and only its own page may ask."""

import io
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import synthorax as sx
from synthorax import hub
from synthorax.geometry import orient
from synthorax.io.images import write_image
from tests.helpers.studio import HOST, ORIGIN, box_slices, desk_of, done, entered, error, hu_of, labels_of, lines

LEFT, RIGHT = (-70.0, 2.0, 2.0), (70.0, -10.0, 20.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a scan whose axes lead left, anterior and superior, and one outside it."""
    from tests.helpers.chests import chest_of_two_lungs

    base = tmp_path_factory.mktemp("studio")
    chest = chest_of_two_lungs()
    x, y, z = chest.origin_mm
    turned = replace(
        chest, voxels=chest.voxels[:, ::-1].copy(), origin_mm=(x, -y, z), direction=np.diag([1.0, -1.0, 1.0])
    )
    (base / "scans").mkdir()
    write_image(base / "scans" / "chest.nii.gz", turned)
    write_image(base / "secret.nii.gz", chest)
    return base / "scans"


@pytest.fixture
def without_flow(monkeypatch):
    """A synthorax of which no flow is bundled."""
    others = {name: model for name, model in hub.bundled().items() if name != "flow"}
    monkeypatch.setattr(hub, "bundled", lambda: others)


@pytest.fixture
def desk(folder, tmp_path):
    return desk_of(folder, tmp_path / "files")


@pytest.fixture
def client(desk):
    with entered(desk) as client:
        yield client


@pytest.fixture
def opened(client):
    return done(client.post("/api/scans", json={"kind": "path", "path": "chest.nii.gz"}))


def shown_volume(client, key):
    """The scan as the page has it: HU [z, y, x] on axes that lead right, anterior and superior, and its affine."""
    content = client.get(f"/api/scans/{key}/scan.nii").content
    image = nib.Nifti1Image.from_bytes(content)
    return np.asarray(image.dataobj).T.copy(), image.affine


def voxel_at(affine, point_mm):
    x, y, z = point_mm
    return (np.linalg.inv(affine) @ [-x, -y, z, 1])[:3].tolist()


def inject(client, key, at, **asked):
    recipe = {"method": "render", "seed": 5} | asked.pop("recipe", {})
    return client.post(f"/api/scans/{key}/inject", json={"at": at, "diameter_mm": 14, "recipe": recipe, **asked})


def test_the_page_gets_the_scan_with_its_axes_right_anterior_superior(client, opened, folder):
    hu, affine = shown_volume(client, opened["key"])
    scan = sx.read_scan(folder / "chest.nii.gz").ct
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    assert (hu == orient(scan, "RAS").voxels).all()
    assert opened["shape"] == list(hu.shape[::-1])


def test_the_box_that_an_injection_sends_is_what_changed_and_undo_brings_back_what_was(client, opened):
    before, affine = shown_volume(client, opened["key"])
    made = done(inject(client, opened["key"], voxel_at(affine, LEFT)))
    after, _ = shown_volume(client, opened["key"])
    page = before.copy()
    (box,) = made["changes"]
    page[box_slices(box)] = hu_of(box)
    assert (page == after).all()
    assert (after != before).any()
    labels = np.frombuffer(client.get(f"/api/scans/{opened['key']}/labels").content, np.uint8).reshape(after.shape)
    assert (labels[box_slices(box)] == labels_of(box)).all()
    assert labels.sum() == labels_of(box).sum() > 0
    undone = client.post(f"/api/scans/{opened['key']}/undo").json()
    for box in undone["changes"]:
        page[box_slices(box)] = hu_of(box)
    assert (page == before).all()
    assert (undone["nodules"], undone["undone"]) == ([], 1)


def test_a_later_change_does_not_send_the_nodules_that_stay(client, opened):
    _, affine = shown_volume(client, opened["key"])
    first = done(inject(client, opened["key"], voxel_at(affine, LEFT)))
    second = done(inject(client, opened["key"], voxel_at(affine, RIGHT)))
    assert [nodule["label"] for nodule in second["nodules"]] == [1, 2]
    sent = [sum(np.prod(box["shape"]) for box in state["changes"]) for state in (first, second)]
    assert sent[1] < 2 * sent[0]


def test_the_downloaded_files_are_those_of_inject_byte_for_byte(client, opened, folder, tmp_path):
    _, affine = shown_volume(client, opened["key"])
    done(inject(client, opened["key"], voxel_at(affine, LEFT), recipe={"ratings": {"texture": 5}}))
    result = done(client.post(f"/api/scans/{opened['key']}/result", json={}))
    zipped = zipfile.ZipFile(io.BytesIO(client.get(f"/api/results/{result['result']}").content))
    asked = {"diameter_mm": 14, "seed": 5, "attributes": sx.NoduleAttributes(texture=5.0)}
    at = orient(sx.read_scan(folder / "chest.nii.gz").ct, "RAS").to_world(voxel_at(affine, LEFT)[::-1]).tolist()
    sx.inject(folder / "chest.nii.gz", at_mm=at, **asked, out=tmp_path / "verb")
    written = {path.name: path.read_bytes() for path in (tmp_path / "verb").iterdir() if path.name != ".synthorax"}
    assert {name.split("/")[1]: zipped.read(name) for name in zipped.namelist()} == written
    assert error(client.get(f"/api/results/{result['result']}")).startswith("result: ")


def test_an_erased_nodule_is_gone_from_the_labels_and_the_table(client, opened):
    _, affine = shown_volume(client, opened["key"])
    done(inject(client, opened["key"], voxel_at(affine, LEFT)))
    made = done(client.post(f"/api/scans/{opened['key']}/erase", json={"method": "filler", "label": 1}))
    assert made["nodules"] == []
    assert not any(labels_of(box).any() for box in made["changes"])
    assert [step["kind"] for step in made["steps"]] == ["inject", "erase"]


def test_a_place_outside_the_lungs_is_a_sentence_and_anyway_puts_it_there(client, opened):
    _, affine = shown_volume(client, opened["key"])
    middle = voxel_at(affine, (0.0, 0.0, 0.0))
    assert "expected one in the lungs" in error(inject(client, opened["key"], middle))
    assert len(done(inject(client, opened["key"], middle, anyway=True))["nodules"]) == 1


def test_nodules_are_placed_by_number(client, opened):
    made = done(inject(client, opened["key"], None, auto=3, diameter_mm=9))
    assert len(made["nodules"]) == 3
    assert made["steps"][0]["count"] == 3


@pytest.mark.usefixtures("without_flow")
def test_a_sheet_has_a_cube_for_each_try_and_leaves_the_scan_alone(client, opened):
    before, affine = shown_volume(client, opened["key"])
    tries = [{"method": "render", "seed": seed, "title": f"seed {seed}"} for seed in (1, 2)]
    tries.append({"method": "flow"})
    asked = {"at": voxel_at(affine, LEFT), "diameter_mm": 14, "tries": tries}
    answer = client.post(f"/api/scans/{opened['key']}/compare", json=asked)
    parts = [line["part"] for line in lines(answer) if "part" in line]
    assert done(answer) == {"made": 2}
    same = parts[0]["before"]
    assert hu_of(same).shape == hu_of(parts[1]).shape
    assert (hu_of(parts[1]) != hu_of(parts[2])).any()
    assert "flow" in parts[3]["error"]
    assert (shown_volume(client, opened["key"])[0] == before).all()


def test_an_upload_is_opened_and_removed_when_the_scan_is_closed(client, desk, folder):
    upload = client.post("/api/uploads/").json()["upload"]
    content = (folder / "chest.nii.gz").read_bytes()
    assert (
        client.put(f"/api/uploads/{upload}", params={"name": "../../mine.nii.gz"}, content=content).status_code == 200
    )
    opened = done(client.post("/api/scans", json={"kind": "upload", "upload": upload}))
    assert opened["name"] == "mine.nii.gz"
    assert len(list(desk.uploads.folder.rglob("*.nii.gz"))) == 1
    client.delete(f"/api/scans/{opened['key']}")
    assert not list(desk.uploads.folder.iterdir())


def test_no_path_leads_out_of_the_chosen_folder(client, folder):
    (folder / "link.nii.gz").unlink(missing_ok=True)
    (folder / "link.nii.gz").symlink_to(folder.parent / "secret.nii.gz")
    for path in ("../secret.nii.gz", "/etc/passwd", "link.nii.gz", str(folder.parent / "secret.nii.gz"), "a\0b"):
        assert "folder" in error(client.post("/api/scans", json={"kind": "path", "path": path})), path
    (folder / "link.nii.gz").unlink()
    assert client.get("/api/folder").json()["images"] == ["chest.nii.gz"]
    assert "chosen folder" in error(client.get("/api/folder", params={"inside": ".."}))


def test_a_header_cannot_name_data_outside_the_chosen_folder(client, folder):
    header = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    (folder / "trap.mhd").write_text(header + "ElementDataFile = ../outside.raw\n")
    (folder.parent / "outside.raw").write_bytes(np.full(64, -1000, "<i2").tobytes())
    assert "without a folder" in error(client.post("/api/scans", json={"kind": "path", "path": "trap.mhd"}))
    (folder / "trap.mhd").unlink()


def test_only_the_browser_that_has_the_link_is_let_in(desk):
    from fastapi.testclient import TestClient

    from synthorax.studio.app import studio_app
    from synthorax.studio.safety import Door

    door = Door(frozenset({HOST}))
    client = TestClient(studio_app(desk, door), base_url=ORIGIN)
    assert client.get("/api/start").status_code == 403
    assert client.get("/", params={"token": "guess"}).status_code == 403
    cookie = {"cookie": f"{door.cookie}={door.token}"}
    assert client.get("/api/start", headers=cookie).status_code == 200
    for bad in (
        {"host": "evil.example:8765"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"cookie": f"{door.cookie}=guess"},
    ):
        assert client.get("/api/start", headers=cookie | bad).status_code == 403, bad
    assert client.post("/api/uploads/", headers=cookie).status_code == 403
    assert client.post("/api/uploads/", headers=cookie | {"origin": ORIGIN}).status_code == 200
    assert "script-src 'self'" in client.get("/api/start", headers=cookie).headers["content-security-policy"]


@pytest.mark.usefixtures("without_flow")
def test_methods_without_weights_say_what_would_make_them_usable(client):
    methods = {offer["name"]: offer for offer in client.get("/api/start").json()["methods"]}
    assert methods["render"]["reason"] == ""
    assert "train flow" in methods["flow"]["reason"]
    form = client.get("/api/form", params={"method": "render"}).json()
    assert [field["name"] for field in form["options"]] == ["shapes", "patients"]
    assert "texture" in [field["name"] for field in form["ratings"]]
    assert "no weights" in error(client.get("/api/form", params={"method": "flow"}))
