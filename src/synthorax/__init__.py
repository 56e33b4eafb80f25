"""synthorax makes synthetic lung nodules and chest CT, and proves whether they help.

The functions here are the verbs of the `synthorax` command; the types are those of scans, nodules and patches. Each is
loaded when first used, so `import synthorax as sx` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Clearance
    from synthorax.api import (
        erase,
        erase_folder,
        export,
        features,
        info,
        inject,
        inject_each,
        inject_folder,
        lidc_shapes,
        load,
        make_phantom,
        open_store,
        prepare,
        prepare_phantom,
        read_scan,
        sample,
        sample_chunks,
        sample_scan,
        sample_scans,
        study_baselines,
        study_detection,
        study_false_alarms,
        study_fidelity,
        study_malignancy,
        study_scores,
        study_segmentation,
        study_shapes,
        study_volumes,
        train,
        translate,
        translate_store,
        verify,
        write_samples,
        write_scan,
    )
    from synthorax.api.machine import doctor
    from synthorax.api.packs import pack, unpack
    from synthorax.api.pretrained import models
    from synthorax.datasets.patches import PatchDataset
    from synthorax.nodule import Nodule, NoduleAttributes
    from synthorax.patch import PatchSpec
    from synthorax.volume import Volume

__version__ = version("synthorax")
__all__ = [
    "Clearance",
    "Nodule",
    "NoduleAttributes",
    "PatchDataset",
    "PatchSpec",
    "Volume",
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
_MODULE_OF_TYPE = {
    "Clearance": "synthorax.anatomy.placement",
    "Nodule": "synthorax.nodule",
    "NoduleAttributes": "synthorax.nodule",
    "PatchDataset": "synthorax.datasets.patches",
    "PatchSpec": "synthorax.patch",
    "Volume": "synthorax.volume",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'synthorax' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF_TYPE.get(name, "synthorax.api")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
