"""`synthorax translate` from file to file: what is written, the recorded patients, and what is refused."""

import json

import numpy as np
import pytest
import torch

from synthorax import api
from synthorax.anatomy.tissue import TissueClass
from synthorax.cli import main
from synthorax.datasets.store import STORE_REQUEST
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError, Stopped
from synthorax.hub import Model
from synthorax.io.atomic import write_mark
from synthorax.io.images import read_image, write_image
from synthorax.provenance import patient_key
from synthorax.systems.translation.config import PRESETS
from synthorax.systems.translation.system import Translation
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training
from synthorax.volume import Volume
from tests.helpers.chests import labels_of_two_lungs
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """The run folder of a painter of 4 mm voxels that has learned nothing, from a patient named somebody."""
    config = PRESETS["smoke"].model_copy(update={"spacing_mm": (4.0, 4.0, 4.0), "precision": "32"})
    system = Translation(config, 1, torch.full((7,), 1 / 7))
    folder = tmp_path_factory.mktemp("painter") / "run"
    about = {"patients": {"train": ["somebody"], "val": [], "test": []}}
    run = RunFolder.open(folder, {"system": "translation", "preset": "smoke", "seed": 1, "config": config}, about)
    run.save(Training(system, [Stage("gan", 1, lambda step: None)], about), 1)
    return folder


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    path = tmp_path_factory.mktemp("chest") / "chest.nii.gz"
    write_image(path, labels_of_two_lungs())
    return path


@pytest.fixture(scope="module")
def painted(painter, chest, tmp_path_factory):
    out = tmp_path_factory.mktemp("painted") / "out"
    arguments = ["translate", str(chest), "--with", str(painter), "--nodules", "3", "--diameter", "20,16,24"]
    assert main([*arguments, "--out", str(out)]) == 0
    return out


def test_the_folder_holds_a_ct_exact_masks_and_the_label_map_that_it_was_painted_from(painted, chest):
    ct, mask, labels = (read_image(painted / f"{name}.nii.gz") for name in ("ct", "mask", "labels"))
    assert ct.voxels.dtype == np.int16
    assert ct.shape == mask.shape == labels.shape == read_image(chest).shape
    assert sorted(np.unique(mask.voxels)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(mask.voxels > 0, labels.voxels == TissueClass.NODULE)
    was = read_image(chest).voxels
    np.testing.assert_array_equal(labels.voxels[mask.voxels == 0], was[mask.voxels == 0])
    assert {file.name for file in painted.iterdir()} == {
        *("ct.nii.gz", "mask.nii.gz", "labels.nii.gz", "nodules.csv", "manifest.json", ".synthorax")
    }


def test_everything_says_that_it_is_synthetic_and_whom_it_knows(painted):
    assert all(api.verify(painted / f"{name}.nii.gz") for name in ("ct", "mask", "labels"))
    manifest = json.loads((painted / "manifest.json").read_text())
    lineage = manifest["lineage"]
    assert lineage["seen"] == patient_key("somebody")
    outlines = {row["extra"]["shape_origin"] for row in manifest["nodules"]}
    assert set(lineage["outlines"].split()) == {patient_key("chest"), *map(patient_key, outlines)}


def test_the_patient_of_a_mask_that_gives_the_shape_is_not_known(painter, chest, tmp_path):
    mask = np.zeros((12, 12, 12), bool)
    mask[2:10, 2:10, 2:10] = True
    shape = Volume(mask, (2.0, 2.0, 2.0))
    made = api.translate(chest, painter, out=tmp_path / "out", nodules=1, diameter_mm=20, shapes=shape)
    lineage = json.loads((tmp_path / "out" / "manifest.json").read_text())["lineage"]
    assert not made.lineage.tells
    assert (lineage["tells"], lineage["seen"], lineage["outlines"]) == (
        False,
        patient_key("somebody"),
        patient_key("chest"),
    )
    assert api.translate(chest, painter, shapes=shape).lineage.tells  # no nodule has the shape


def test_a_store_of_the_folder_has_its_nodules_by_their_masks_and_its_lineage(painted, tmp_path):
    store = api.prepare("scans", painted, tmp_path / "store", split=(1, 0, 0), workers=1)
    (case,) = store.cases
    assert len(case.nodules) == 3
    mask = read_image(painted / "mask.nii.gz").voxels
    assert [store.region(case.case_id, i).voxels for i in (1, 2, 3)] == [(mask == i).sum() for i in (1, 2, 3)]
    assert case.lineage.seen == {patient_key("somebody")}
    assert patient_key("chest") in case.lineage.outlines


def test_the_same_seed_gives_the_same_ct_in_memory_and_on_disk_and_another_seed_another(painted, painter, chest):
    again = api.translate(chest, painter, nodules=3, diameter_mm=(20, 16, 24))
    np.testing.assert_array_equal(again.ct.voxels, read_image(painted / "ct.nii.gz").voxels)
    other = api.translate(chest, painter, nodules=3, diameter_mm=(20, 16, 24), seed=1)
    assert (other.mask.voxels != again.mask.voxels).any()


def test_a_ct_becomes_a_label_map_by_its_hu(painter, chest, tmp_path):
    hu = np.array([-1000, -860, -100, 0, 40, 700, 40], np.int16)[read_image(chest).voxels]
    scan = read_image(chest)
    write_image(tmp_path / "scan.nii.gz", Volume(hu, scan.spacing_mm, scan.origin_mm))
    made = api.translate(tmp_path / "scan.nii.gz", painter, codes="hu", nodules=1, diameter_mm=16)
    unchanged = made.mask.voxels == 0
    assert (made.labels.voxels == scan.voxels)[unchanged].mean() > 0.99
    assert patient_key("scan") in made.lineage.outlines


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    cubes = [with_tissue(ball_case(f"cube{i}", 20, size=24, voxel_mm=4.0, seed=i)) for i in range(2)]
    made = store_of(tmp_path_factory.mktemp("cubes") / "store", cubes)
    (made.path / STORE_REQUEST).write_text("{}")
    return made


def test_volumes_of_a_store_are_its_cases_by_turns_and_the_first_are_the_same_in_a_larger_set(store, painter, tmp_path):
    for name, count in (("few", 2), ("many", 3)):
        arguments = ["translate", str(store.path), "--with", str(painter), "-n", str(count), "--nodules", "1"]
        assert main([*arguments, "--diameter", "12", "--out", str(tmp_path / name)]) == 0
    folders = sorted(path.name for path in (tmp_path / "many").iterdir() if path.is_dir())
    assert folders == ["cube0-0", "cube0-1", "cube1-0"]
    for case in ("cube0-0", "cube1-0"):
        few, many = ((tmp_path / name / case / "ct.nii.gz").read_bytes() for name in ("few", "many"))
        assert few == many
    manifest = json.loads((tmp_path / "many" / "manifest.json").read_text())
    assert set(manifest["lineage"]["outlines"].split()) >= {patient_key("cube0"), patient_key("cube1")}


def test_a_stopped_set_goes_on_and_keeps_what_is_there(store, painter, tmp_path):
    api.translate_store(store, painter, tmp_path / "out", volumes=2)
    kept = (tmp_path / "out" / "cube0-0" / "ct.nii.gz").stat().st_mtime_ns
    (tmp_path / "out" / "manifest.json").unlink()
    for file in (tmp_path / "out" / "cube1-0").iterdir():
        file.unlink()
    (tmp_path / "out" / "cube1-0").rmdir()
    made = api.translate_store(store, painter, tmp_path / "out", volumes=2)
    assert made.cases == ("cube0-0", "cube1-0")
    assert (tmp_path / "out" / "cube0-0" / "ct.nii.gz").stat().st_mtime_ns == kept


def test_a_set_that_is_stopped_before_its_first_volume_says_how_to_resume_and_leaves_nothing(
    store, painter, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("synthorax.editing.painting.painted_slabs", stop)
    with pytest.raises(Stopped, match="after 0 of 2 volumes; the same command goes on"):
        api.translate_store(store, painter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_share_of_the_volumes_gets_nodules_and_the_others_keep_those_of_their_maps(store, painter, tmp_path):
    made = api.translate_store(
        store, painter, tmp_path / "out", volumes=10, nodules=1, diameter_mm=12, share=0.5, shapes=None
    )
    put_in = [sum(row["extra"]["from"] == "put in" for row in case["nodules"]) for case in read(tmp_path / "out")]
    had = [sum(row["extra"]["from"] == "label map" for row in case["nodules"]) for case in read(tmp_path / "out")]
    assert had == [1] * 10
    assert 2 <= sum(put_in) <= 8
    assert (made.nodules, made.earlier) == (10 + sum(put_in), 10)


def test_a_store_of_which_no_map_has_room_is_refused_and_leaves_nothing_behind(store, painter, tmp_path):
    with pytest.raises(InputError, match=r"no case of train that can be painted as .*the widest nodule that fits"):
        api.translate_store(store, painter, tmp_path / "out", nodules=1, diameter_mm=99)
    assert not (tmp_path / "out").exists()


def test_a_case_that_cannot_be_made_is_named_and_left_out_as_in_other_folders(painter, tmp_path, capfd):
    sizes = {"large": 24, "small": 8}
    cases = [with_tissue(ball_case(name, 20, size=size, voxel_mm=4.0)) for name, size in sizes.items()]
    made = store_of(tmp_path / "store", cases)
    (made.path / STORE_REQUEST).write_text("{}")
    assert main(["translate", str(made.path), "--with", str(painter), "--out", str(tmp_path / "out")]) == 0
    said = capfd.readouterr()
    assert "1 volume with 0 added nodules, and 1 that the label maps had before; 1 volume failed" in said.out
    assert "small-0: left out: small-0: found a label map of 8 x 8 x 8 voxels" in said.err
    assert [case["case"] for case in read(tmp_path / "out")] == ["large-0"]


def read(out):
    return json.loads((out / "manifest.json").read_text())["cases"]


def test_a_folder_with_the_shapes_is_not_replaced_by_what_is_made_of_them(painter, chest, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    write_image(tmp_path / "out" / "shape.nii.gz", read_image(chest))
    write_mark(tmp_path / "out")
    arguments = ["translate", str(chest), "--with", str(painter), "--shapes", str(tmp_path / "out" / "shape.nii.gz")]
    assert main([*arguments, "--nodules", "1", "--out", str(tmp_path / "out"), "--overwrite"]) == 2
    assert "a folder that holds the input" in capfd.readouterr().err
    assert (tmp_path / "out" / "shape.nii.gz").is_file()


def codes(path, chest, **change):
    labels = read_image(chest)
    write_image(path, Volume(change.get("voxels", labels.voxels), labels.spacing_mm, labels.origin_mm))
    return path


BAD = {
    "unknown codes": (["other.nii"], "other.nii: found codes 9; expected codes of the table classes"),
    "another table": (["chest.nii", "--codes", "mine"], "codes: found 'mine'; expected classes, thesis"),
    "no geometry": (["bare.npy"], "bare.npy: found an array, which has no voxel size and no place"),
    "too wide": (["chest.nii", "--nodules", "1", "--diameter", "99"], "diameter: found 99 mm; expected at most"),
    "too small": (["small.nii"], "small.nii: found a label map of 8 x 64 x 96 voxels"),
    "no map": (["gone.nii"], "gone.nii"),
    "no painter": (["chest.nii", "--with", "ac-wgan"], "makes patches; expected one that paints"),
    "of a store": (["chest.nii", "--share", "0.5"], "--share: found given with one label map"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(case, painter, chest, tmp_path, monkeypatch, capfd):
    voxels = read_image(chest).voxels
    codes(tmp_path / "chest.nii", chest)
    codes(tmp_path / "other.nii", chest, voxels=np.where(voxels == 4, 9, voxels).astype(np.uint8))
    codes(tmp_path / "small.nii", chest, voxels=voxels[:8].copy())
    np.save(tmp_path / "bare.npy", voxels)
    monkeypatch.chdir(tmp_path)
    arguments, said = BAD[case]
    given = arguments if "--with" in arguments else [*arguments, "--with", str(painter)]
    before = sorted(tmp_path.rglob("*"))
    assert main(["translate", *given, "--out", "out"]) == 2
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert said in warning
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_in_memory_paints_too(chest):
    config = PRESETS["smoke"].model_copy(update={"spacing_mm": (4.0, 4.0, 4.0), "precision": "32"})
    model = Model(Translation(config, 1, torch.full((7,), 1 / 7)), "0" * 64, frozenset(["somebody"]))
    assert api.translate(chest, model).ct.shape == read_image(chest).shape
