"""Folders that `inject` writes, of a small scan with one nodule."""

import json
from dataclasses import replace

import numpy as np

from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.lineage import Lineage
from synthorax.provenance import sha256, synthetic_patient
from synthorax.volume import Volume

MARK = "SYNTHETIC: made by synthorax, not a patient; abcd1234 s5"
RENDER = Lineage("render")


def scan(seed=0):
    hu = np.random.default_rng(seed).integers(-900, -800, (6, 20, 20)).astype(np.int16)
    return Volume(hu, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))


def ball(label=1):
    mask = np.zeros((6, 20, 20), np.uint8)
    mask[2:4, 8:12, 8:12] = label
    return replace(scan(), voxels=mask)


def row(image, patient, mask="", label="", **more):
    x, y, z = scan().to_world((2.5, 9.5, 9.5)).tolist()
    place = {"center_x_mm": x, "center_y_mm": y, "center_z_mm": z, "diameter_mm": 5, "texture": 5}
    return {
        "image": image,
        "patient_id": patient,
        "nodule_id": "01",
        "mask": mask,
        "mask_label": label,
        **place,
        **more,
    }


def injected(folder, source=None, *, lineage=RENDER, name="", mark=MARK, origin="", patient=""):
    """The folder that `inject` writes for an image."""
    folder.mkdir(parents=True)
    name = name or (source.name if source else "scan.nii.gz")
    files = {"scan": name, "mask": f"mask_{name}", "region": f"region_{name}"}
    write_image(folder / name, scan(99), mark=mark)
    write_image(folder / files["mask"], ball(), mark=mark)
    write_image(folder / files["region"], ball(), mark=mark)
    patient = patient or synthetic_patient(name.split(".")[0])
    extra = {"shape_origin": origin} if origin else {}
    write_table(folder / "nodules.csv", [row(name, patient, files["mask"], 1, **extra)])
    manifest = {"synthorax": "0", "synthetic": mark or MARK, "method": "render", "model_sha256": "", "files": files}
    manifest |= {"patient_id": patient, "lineage": lineage.row() if lineage else None}
    manifest |= {"source": {"name": source.name, "sha256": sha256(source)}} if source else {}
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    return folder
