"""A model trained on masks knows their patients by a table, or tells that it does not know them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api, hub
from synthorax.datasets.lineage import check_unseen_patients
from synthorax.errors import InputError
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.provenance import patient_key
from synthorax.volume import Volume
from tests.helpers.cubes import ball_case
from tests.helpers.stores import store_of

pytestmark = pytest.mark.usefixtures("one_thread")


def masks(folder):
    folder.mkdir()
    z, y, x = np.indices((20, 40, 40))
    for i, size in enumerate((20, 30)):
        ball = (z - 10) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < size
        write_image(folder / f"000{i}.mha", Volume(ball.astype(np.uint8), (1.25, 0.7, 0.7)))
    return folder


def trained(data, out):
    settings = {"iterations": 2, "rounds": 1, "initialisation": "default"}
    api.train("lung", data, out, preset="smoke", settings=settings, device="cpu")
    return hub.load(out).lineage


def test_masks_without_a_table_make_a_model_whose_patients_are_not_known(tmp_path, capsys):
    lineage = trained(masks(tmp_path / "masks"), tmp_path / "run")
    assert (lineage.tells, lineage.seen) == (False, frozenset())
    assert "columns mask and patient_id" in " ".join(capsys.readouterr().err.split())
    about = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (about["train_patients"], about["untold"]) == ([], True)
    with pytest.raises(InputError, match=r"without a record of the patients .* nodules\.csv"):
        check_unseen_patients(lineage, {patient_key("P1"): "P1"})
    # A run of an earlier version has the names of files.
    about = {**about, "train_patients": ["0000.mha", "0001.mha"]}
    del about["untold"]
    (tmp_path / "run" / "data.json").write_text(json.dumps(about))
    assert not hub.load(tmp_path / "run").lineage.tells


def test_a_model_of_masks_with_a_table_is_refused_for_its_patients_alone(tmp_path):
    folder = masks(tmp_path / "masks")
    write_table(folder / "nodules.csv", [{"mask": f"000{i}.mha", "patient_id": f"P{i}"} for i in range(2)])
    lineage = trained(folder, tmp_path / "run")
    assert lineage.seen == {patient_key("P0"), patient_key("P1")}
    with pytest.raises(InputError, match="such as P1"):
        check_unseen_patients(lineage, {patient_key("P1"): "P1"})
    check_unseen_patients(lineage, {patient_key("P2"): "P2"})


def test_a_store_gives_the_outlined_nodules_of_its_training_patients(tmp_path, capsys):
    cases = [ball_case(f"P{i}", 10 + i, seed=i, split="train") for i in range(2)]
    cases.append(ball_case("held-out", 10, split="test"))
    cases.append(ball_case("no-mask", 10, split="train", outlined=False))
    cases.append(replace(ball_case("made", 10, split="train"), synthetic="SYNTHETIC: a test"))
    cases.append(ball_case("wide", 36, split="train", size=50))
    store = store_of(tmp_path / "store", cases)
    lineage = trained(store.path, tmp_path / "run")
    assert (lineage.tells, lineage.seen) == (True, frozenset({patient_key("P0"), patient_key("P1")}))
    said = " ".join(capsys.readouterr().err.split())
    larger = "larger than the model's grid of 25.0 x 28.0 x 28.0 mm (z, y, x; see its setting grid)"
    assert f"nodules left out: 1 {larger}, 1 of synthetic cases, 1 without a mask" in said
    with pytest.raises(InputError, match="no nodule of a training patient"):
        trained(store_of(tmp_path / "empty", cases[2:4]).path, tmp_path / "none")
