"""The manifest of a folder of cases that several methods edited."""

import pytest

from synthorax.editing.cases import collected
from synthorax.errors import InputError
from synthorax.io.atomic import write_mark
from synthorax.io.mappings import read_mapping
from synthorax.lineage import Lineage, joined_lineages
from synthorax.provenance import write_manifest

FLOW, OTHER_FLOW, RENDER = Lineage("flow", "f" * 64), Lineage("flow", "e" * 64), Lineage("render")


def cases_of(out, lineages):
    """Write the folders of cases with lineages; return their names."""
    out.mkdir()
    for i, lineage in enumerate(lineages):
        (out / f"case{i}").mkdir()
        write_manifest(out / f"case{i}" / "manifest.json", {"lineage": lineage.row(), "notes": []})
        write_mark(out / f"case{i}", ["manifest.json"])
    return [f"case{i}" for i in range(len(lineages))]


def test_the_manifest_of_a_folder_names_all_methods_and_hashes(tmp_path):
    both = joined_lineages([RENDER, FLOW])
    assert (both.name, both.model_sha256) == ("render, flow", "f" * 64)
    names = cases_of(tmp_path / "out", [RENDER, FLOW, both])
    collected(tmp_path / "out", {"seed": 0, "request": {}}, names, {}, [])
    manifest = read_mapping(tmp_path / "out" / "manifest.json")
    assert (manifest["method"], manifest["model_sha256"]) == ("render, flow", "f" * 64)


def test_cases_by_one_method_with_different_weights_are_refused(tmp_path):
    names = cases_of(tmp_path / "out", [FLOW, RENDER, OTHER_FLOW])
    with pytest.raises(InputError, match="cases made with 2 different weights of flow; expected cases of one model"):
        collected(tmp_path / "out", {"seed": 0, "request": {}}, names, {}, [])
