"""Cached results of a study are read back, or refused by name if they are damaged."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synthorax import hub
from synthorax.errors import InputError
from synthorax.io.structure_names import wanted_structures
from synthorax.studies.noted import read_figures, read_scores

VAL, TEST, MARKS = np.linspace(0, 1, 4), np.linspace(0, 1, 3), np.zeros((0, 5))


def noted(path, **arrays):
    np.savez_compressed(path, **({"val": VAL, "test": TEST, "marks": MARKS} | arrays))
    return path


def entry(path, name, data):
    """Put other bytes in the place of one array."""
    with zipfile.ZipFile(path) as zipped:
        entries = {n: zipped.read(n) for n in zipped.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for n, content in (entries | {name: data}).items():
            zipped.writestr(n, content)
    return path


def claim(shape):
    """The bytes of an array that claims a shape it does not have."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_scores_come_back_as_they_were_noted(tmp_path):
    val, test, marks = read_scores(noted(tmp_path / "s.npz"), 4, 3)
    np.testing.assert_array_equal(val, VAL)
    np.testing.assert_array_equal(test, TEST)
    assert marks.shape == (0, 5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"noise" * 50),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: noted(path, val=VAL[:2]),
        lambda path: noted(path, val=np.array(["a"] * 4)),
        lambda path: noted(path, test=np.array([np.nan, 0, 1])),
        lambda path: noted(path, marks=np.zeros(3)),
        lambda path: entry(path, "val.npy", claim((10**9, 10**6))),
        lambda path: entry(path, "val.npy", bytes(1000)),
    ],
)
def test_damaged_scores_are_refused_by_name(tmp_path, damage):
    path = noted(tmp_path / "s.npz")
    damage(path)
    with pytest.raises(InputError, match=r"s\.npz: found damaged scores .*delete it"):
        read_scores(path, 4, 3)


def test_damaged_figures_are_refused_by_name(tmp_path):
    path = tmp_path / "f.json"
    sound = {"metrics": {"acceptance": 0.5}, "latents": [[0.0, 1.0]]}
    path.write_text(json.dumps(sound))
    assert read_figures(path, {"latents": (1, 2)}) == sound
    for damaged in (sound | {"metrics": 3}, sound | {"latents": []}, {"metrics": {"acceptance": "x"}}, {}):
        path.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"f\.json: found damaged figures"):
            read_figures(path, {"latents": (1, 2)})
    path.write_text('{"metrics": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputError, match=r"f\.json: found a damaged note"):
        read_figures(path, {"latents": (1, 2)})


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path):
    folder = hub.bundled()["features-24mm"]
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    tensors = load_file(folder / "weights.safetensors")
    name = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors: found NaN or infinite weights"):
        hub.load(tmp_path)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*$", "(a|b){2,}", "("])
def test_an_expression_that_could_search_for_years_is_refused(expression):
    with pytest.raises(InputError, match="structures"):
        wanted_structures(expression)


@pytest.mark.parametrize("expression", ["GTV.*", "nod(ule)?", "gtv\\)+", "(left|right) nodule"])
def test_expressions_that_people_write_are_taken(expression):
    assert wanted_structures(expression) is not None
