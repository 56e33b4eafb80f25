"""The package of docs/extending.md, extracted from the page, works in every verb and study."""

import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api, hub
from synthorax.api.machine import _systems
from synthorax.cli import main
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.images import read_image, write_image
from synthorax.provenance import making_key, patient_key
from synthorax.registry import registry
from tests.helpers.plugins import BLOCKS, PAGE, install, install_drop, install_mold, install_puff, install_toy
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = ("--preset", "smoke", "--device", "cpu")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder of `sys.path` with both packages of the page, and one whose maker lacks what its role promises."""
    folder = tmp_path_factory.mktemp("packages")
    install_toy(folder)
    install_mold(folder)
    install_drop(folder)
    install_puff(folder)
    entry = 'from synthorax.registry import Entry\nentry = Entry("lame", "lame", frozenset({"injects"}), "", "Lame.")'
    maker = """
        from synthorax.makers import Lineage

        class Lame:
            name, lineage, heeds, roles = "lame", Lineage("lame"), frozenset(), frozenset({"injects"})

        def maker(options):
            return Lame()
    """
    install(folder, "lame", {"": entry, "config": "", "maker": maker}, {"lame": "lame:entry"})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.cache_clear()
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in ("toy", "mold", "drop", "puff", "lame")]:
        del sys.modules[name]
    registry.cache_clear()


@pytest.fixture(scope="module")
def home(packages, tmp_path_factory, chest):
    """A folder with a store of cubes, a scan, and the run of the toy."""
    folder = tmp_path_factory.mktemp("toy")
    store_of(folder / "store", cases(4))
    write_image(folder / "scan.nii.gz", chest)
    assert main(["train", "toy", "--data", f"{folder}/store", "--out", f"{folder}/run", *SMOKE]) == 0
    return folder


def test_the_package_without_weights_keeps_its_contract_and_edits_scans_with_its_option(home, tmp_path, capsys):
    assert main(["doctor", "--system", "drop"]) == 0
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith(("note", "wrong"))]
    scan, out = f"{home}/scan.nii.gz", tmp_path / "out"
    arguments = ["--with", "drop", "--at", "-70,0,0", "--diameter", "9", "--density-hu", "100", "--out", f"{out}"]
    assert main(["inject", scan, *arguments]) == 0
    ct, mask = (read_image(next(out.glob(f"*{kind}.nii.gz"))).voxels for kind in ("scan", "mask"))
    assert ct[mask > 0].mean() > 50


def test_the_maker_of_patches_without_weights_keeps_its_contract_and_the_options_that_it_is_made_with(packages, capsys):
    assert main(["doctor", "--system", "puff"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith(("note", "wrong"))]
    assert "ok      system puff: the maker keeps the options that it is made with" in lines
    config, maker = (importlib.import_module(f"puff.{name}") for name in ("config", "maker"))
    dense = maker.Puff(config.Options(density_hu=400))
    own, usual, named = (
        api.sample(*given, 2, diameter_mm=8, **more)
        for given, more in (((dense,), {}), (("puff",), {}), (("puff",), {"density_hu": 400}))
    )
    assert np.array_equal(own.ct, named.ct)
    assert own.ct[own.masks].mean() > usual.ct[usual.masks].mean() + 300
    again = api.sample(dense, 2, diameter_mm=8, density_hu=40)
    assert np.array_equal(again.ct, usual.ct)


def test_a_study_knows_makers_with_other_options_apart_and_inject_blends_with_those_of_the_object(packages, chest):
    config, maker = (importlib.import_module(f"puff.{name}") for name in ("config", "maker"))
    usual, dense = (hub.find(maker.Puff(config.Options(density_hu=hu)), "injects") for hu in (40, 800))
    assert making_key(usual) != making_key(dense)
    means = []
    for method in (usual, dense):
        made = api.inject(chest, method, at_mm=(-70.0, 0.0, 0.0), diameter_mm=9, force=True)
        means.append(made.ct.voxels[made.mask.voxels > 0].mean())
    assert means[1] > means[0] + 200


def test_the_package_has_at_most_80_lines():
    lines = [line for file, text in BLOCKS.items() if file.startswith("toy/") for line in text.splitlines()]
    assert len([line for line in lines if line.strip()]) <= 80


def test_the_page_names_every_module_that_the_package_imports_as_stable():
    table = PAGE.read_text().partition("## Stable interfaces")[2]
    imports = {name for text in BLOCKS.values() for name in re.findall(r"^from (synthorax\.[\w.]+) import", text, re.M)}
    imports.remove("synthorax.training")  # of its module `system`
    assert {"synthorax.errors", "synthorax.datasets.lineage", "synthorax.datasets.store"} < imports
    assert [name for name in sorted(imports) if f"`{name}" not in table] == []
    for name in re.findall(r"^\| `(synthorax\.[a-z_.]+)` ", table, re.M):
        importlib.import_module(name)


def test_it_learns_that_nodules_are_dense_and_samples_have_masks(home, tmp_path):
    out = tmp_path / "made"
    assert main(["sample", f"{home}/run", "-n", "3", "--diameter", "8", "--out", f"{out}"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["lineage"]["seen"].split() == sorted(map(patient_key, Store(home / "store").splits["train"]))
    for entry in manifest["samples"]:
        ct, mask = (read_image(out / entry[kind]["nifti"]).voxels for kind in ("files", "masks"))
        assert 200 < mask.sum() < 320  # a ball of 8 mm has 268 mm3
        assert ct[mask > 0].mean() > ct[mask == 0].mean() + 400


def test_sample_i_of_it_is_the_same_however_many_are_made(home):
    few, more = (api.sample(home / "run", n, seed=3, diameter_mm=6.0).ct for n in (1, 2))
    assert np.array_equal(few[0], more[0])


def test_its_nodules_are_blended_into_scans(home, tmp_path):
    out = tmp_path / "edited"
    arguments = ["inject", f"{home}/scan.nii.gz", "--with", f"{home}/run", "--at", "-70,0,0", "--diameter", "9"]
    assert main([*arguments, "--out", f"{out}"]) == 0
    before, after = (read_image(file).voxels for file in (home / "scan.nii.gz", next(out.glob("scan*.nii.gz"))))
    assert (after != before).any()


def test_the_second_package_keeps_its_contract_and_edits_scans_with_its_option(home, tmp_path, capsys):
    assert main(["doctor", "--system", "mold"]) == 0
    assert (
        "ok      system mold: an edit changes its region only, and is what the contract says" in capsys.readouterr().out
    )
    run, means = tmp_path / "run", []
    assert main(["train", "mold", "--data", f"{home}/store", "--out", f"{run}", *SMOKE]) == 0
    assert main(["inject", "--with", f"{run}", "--help"]) == 0
    assert "--brighter-hu FLOAT HU added to the nodule." in " ".join(capsys.readouterr().out.replace("│", " ").split())
    for hu in (0, 100):
        arguments = ["--with", f"{run}", "--at", "-70,0,0", "--diameter", "9", "--brighter-hu", f"{hu}"]
        assert main(["inject", f"{home}/scan.nii.gz", *arguments, "--out", f"{tmp_path}/{hu}"]) == 0
        scan, mask = (
            read_image(next((tmp_path / f"{hu}").glob(f"*{kind}.nii.gz"))).voxels for kind in ("scan", "mask")
        )
        means.append(scan[mask > 0].mean())
    assert means[1] > means[0] + 30


def test_it_stands_as_an_arm_of_a_study(home, tmp_path):
    out = tmp_path / "study"
    arguments = ["--data", f"{home}/store", "--model", f"{home}/run", "--amounts", "1", "--trainings", "1"]
    assert main(["study", "detection", *arguments, "--set", "steps=2", *SMOKE, "--out", f"{out}"]) == 0
    names = [arm["name"] for arm in json.loads((out / "results.json").read_text())["arms"]]
    assert {"flips + render", "flips + toy"} <= set(names)
    assert not {"toy only", "flips + toy, selected", "toy's own judgement"} & set(names)


def test_it_is_refused_where_it_knows_held_out_patients(home, tmp_path):
    other = {"train": "test", "val": "val", "test": "train"}
    turned = store_of(tmp_path / "store", [replace(case, split=other[case.split]) for case in cases(4)])
    with pytest.raises(InputError, match="toy, made with data of 4 patients who are held out here"):
        api.study_detection(turned, tmp_path / "out", models=[home / "run"], preset="smoke", device="cpu")


def test_spawned_workers_find_it(packages):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "toy" in pool.apply(registry).entries


def test_a_maker_that_lacks_what_its_role_promises_is_named_and_the_others_go_on(home, tmp_path, capsys):
    def inject(method):
        arguments = ["inject", f"{home}/scan.nii.gz", "--with", method, "--at", "-70,0,0", "--diameter", "9"]
        return main([*arguments, "--out", f"{tmp_path}/{method}"])

    assert inject("lame") == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line == "synthorax: lame.maker.Lame: found no reach_mm, fill_many; expected a maker that injects"
    assert not (tmp_path / "lame").exists()
    assert inject("render") == 0


def test_doctor_tells_which_packages_fit(packages):
    install(packages, "rude", {"": "1 / 0"}, {"rude": "rude:entry"})
    registry.cache_clear()
    found = {finding.name: finding for finding in _systems()}
    assert {name: finding.state for name, finding in found.items()} == {
        "system drop": "ok",
        "system lame": "note",
        "system mold": "ok",
        "system puff": "ok",
        "system rude": "note",
        "system toy": "ok",
    }
    assert "lame.maker.Lame: found no reach_mm, fill_many" in found["system lame"].found
    assert "rude:entry does not load (ZeroDivisionError" in found["system rude"].found


def test_a_run_of_a_package_that_is_gone_names_its_system(home, packages, monkeypatch):
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(packages)])
    registry.cache_clear()
    with pytest.raises(InputError, match="a model of the system 'toy'"):
        hub.load(home / "run")
    monkeypatch.undo()
    registry.cache_clear()


@pytest.mark.prove
def test_every_command_of_the_page_runs_in_a_process_of_its_own(home, packages, tmp_path):
    commands = re.findall(r"^    (synthorax .*)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 7
    places = {"STORE": home / "store", "scan.nii.gz": home / "scan.nii.gz"}
    more = {"detection": ["--set", "steps=2"]}
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{os.environ.get('PYTHONPATH', '')}"}
    for command in commands:
        words = [str(places.get(word, word)) for word in command.split()[1:]]
        run = [sys.executable, "-m", "synthorax", *words, *more.get(words[1], [])]
        assert subprocess.run(run, cwd=tmp_path, env=environment, timeout=300, check=False).returncode == 0, command
