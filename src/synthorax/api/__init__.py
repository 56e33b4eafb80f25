"""The verbs as functions: `import synthorax as sx; sx.sample("run", 10)`.

The command line calls these functions. Imports that take seconds are inside the functions that need them, so that
`import synthorax` is fast. All functions refuse arguments of other types than their annotations state.
"""

from types import FunctionType

from synthorax.api.about import info, verify
from synthorax.api.arguments import checked
from synthorax.api.data import export, make_phantom, open_store, prepare, prepare_phantom, read_scan, write_scan
from synthorax.api.editing import erase, inject
from synthorax.api.erased_folders import erase_folder
from synthorax.api.folders import inject_folder
from synthorax.api.machine import doctor
from synthorax.api.packs import pack, unpack
from synthorax.api.pretrained import models
from synthorax.api.sampling import load, sample, sample_chunks, write_samples
from synthorax.api.scans import WITH_NODULES, sample_scan, sample_scans
from synthorax.api.shapes import FeatureTable, features, lidc_shapes, read_shapes
from synthorax.api.side_by_side import inject_each
from synthorax.api.studies import (
    study_baselines,
    study_detection,
    study_false_alarms,
    study_fidelity,
    study_malignancy,
    study_scores,
    study_segmentation,
    study_shapes,
    study_volumes,
)
from synthorax.api.training import train
from synthorax.api.translating import translate, translate_store

__all__ = [
    "WITH_NODULES",
    "FeatureTable",
    "doctor",
    "erase",
    "erase_folder",
    "export",
    "features",
    "info",
    "inject",
    "inject_each",
    "inject_folder",
    "lidc_shapes",
    "load",
    "make_phantom",
    "models",
    "open_store",
    "pack",
    "prepare",
    "prepare_phantom",
    "read_scan",
    "read_shapes",
    "sample",
    "sample_chunks",
    "sample_scan",
    "sample_scans",
    "study_baselines",
    "study_detection",
    "study_false_alarms",
    "study_fidelity",
    "study_malignancy",
    "study_scores",
    "study_segmentation",
    "study_shapes",
    "study_volumes",
    "train",
    "translate",
    "translate_store",
    "unpack",
    "verify",
    "write_samples",
    "write_scan",
]

for _name in __all__:
    if isinstance(globals()[_name], FunctionType):
        globals()[_name] = checked(globals()[_name], __name__)
