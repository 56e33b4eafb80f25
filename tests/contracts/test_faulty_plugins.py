"""A fault of another package's system is told before its harm, by the package's name."""

import csv
import inspect
import json
import re
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from cyclopts import Parameter

from synthorax.api.machine import _systems
from synthorax.api.system_checks import TRAIN_FLAGS, VERB_FLAGS, check_entry
from synthorax.api.system_trial import (
    Promise,
    _another_seed,
    _Broken,
    _marked,
    _Noted,
    _others_options,
    _outside,
    _reach,
    _scans,
    _shape_mm,
    _together,
)
from synthorax.cli import erase, inject, main, sample, train
from synthorax.errors import InputError, Stopped
from synthorax.io.images import write_image
from synthorax.io.tables import read_table
from synthorax.makers import Edit, Filled, Lineage, ScanStream, check_maker, fill
from synthorax.nodule import NoduleAttributes
from synthorax.parallel import check_pickles
from synthorax.patch import PatchSpec
from synthorax.registry import BUILT_IN, registry
from synthorax.volume import Volume
from tests.helpers.plugins import install_puff, install_toy
from tests.helpers.stores import cases, store_of

pytestmark = pytest.mark.usefixtures("one_thread")

MEASURED = 'made = as_measured(Nodule("1", self.spec.middle_mm, nodule), mask > 0, self.spec.spacing_mm)'
STATED = 'made = Nodule("1", self.spec.middle_mm, type(nodule)(9.0), label=1)'
OFF = f"{MEASURED}; object.__setattr__(made, 'center_mm', (2.0, 2.0, 2.0))"
EMPTY = 'made, arrays["mask"] = Nodule("1", self.spec.middle_mm, nodule, label=1), 0 * mask[None]'
OPTIONS = 'from synthorax import makers\n\nclass Options(makers.Options):\n    """Options of the toy."""\n\n'
SHARP = OPTIONS.replace('toy."""', 'toy.\n\n    Attributes:\n        sharp: factor of the noise.\n    """')
BARE = 'roles = "toy", frozenset({"diameter_mm"}), frozenset({"judges"})'
SMOKE = ("--preset", "smoke", "--device", "cpu")


def installing(install, package, folder, monkeypatch):
    """Yield a function that installs a package of docs/extending.md with changes, and forget the package afterwards."""

    def put(**changes):
        install(folder, **changes)
        registry.cache_clear()

    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield put
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    registry.cache_clear()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that installs the toy of docs/extending.md with a change of a module, for one test."""
    yield from installing(install_toy, "toy", tmp_path / "packages", monkeypatch)


@pytest.fixture
def puff(tmp_path, monkeypatch):
    """A function that installs the puff of docs/extending.md with a change of its maker, for one test."""
    yield from installing(install_puff, "puff", tmp_path / "packages", monkeypatch)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a store of cubes."""
    return store_of(tmp_path_factory.mktemp("faults") / "store", cases(4)).path


def test_a_system_of_another_name_than_its_entrys_is_refused_before_it_is_trained(toy, store, tmp_path, capsys):
    toy(system=('name = "toy"', 'name = "tyo"'))
    assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 2
    said = "synthorax: system toy: found a System named 'tyo'; expected 'toy', the name of its entry"
    assert capsys.readouterr().err.strip() == said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system": ('name = "toy"', 'name = "tyo"')}, "toy: found a System named 'tyo'; expected 'toy'"),
        ({"system": ("def maker", "def mak")}, "toy.system.System: found no maker; expected the method maker(lineage)"),
        ({"system": ("def restore", "def restored")}, "toy.system.System: found no restore"),
        ({"system": ("system.System)", "object)")}, "a class that inherits synthorax.training.system.System"),
        ({"system": ("(self, lineage)", "(self)")}, "toy.system.System.maker: found a function of (self)"),
        (
            {"training": ("config, data, seed, options", "config, data, seed")},
            "toy.training.training: found a function of (config, data, seed); expected training(config, data, seed, ",
        ),
        ({"config": ("from pydantic", "import torch\nfrom pydantic")}, "toy.config: found a module that imports torch"),
        ({"config": ('"smoke"', '"tiny"')}, "toy.config.PRESETS: found paper, tiny; expected a preset 'smoke' too"),
        (
            {"config": ("PRESETS", 'FLAGS = ("step",)\nPRESETS')},
            "toy.config.FLAGS: found 'step'; expected a setting of",
        ),
        (
            {"config": ("= 500\n", '= 500\n    rate: float = 0.02\n\n\nFLAGS = ("rate",)\n')},
            "toy.config.Config.rate: found no help; expected a line of it under `Attributes:` in the",
        ),
        (
            {"config": ("= 500\n", '= 500\n    width: float = 0.02\n\n\nFLAGS = "width"\n')},
            "toy.config.FLAGS: found the text 'width'; expected a tuple of names",
        ),
        (
            {"config": ("PRESETS", 'CPU_PRESET = "small"\nPRESETS')},
            "toy.config.CPU_PRESET: found 'small'; expected a name of PRESETS: paper, smoke",
        ),
        (
            {"config": ("PRESETS", f"{OPTIONS}    sharp: float = 1.0\n\nPRESETS")},
            "toy.config.Options.sharp: found no help; expected a line of it under `Attributes:` in the",
        ),
        (
            {"config": ("PRESETS", SHARP.replace("sharp", "seed") + "    seed: int = 1\n\nPRESETS")},
            "toy.config.Options: found 'seed', but the verbs have a --seed of their own; expected another name",
        ),
        (
            {"config": ("PRESETS", SHARP.replace("sharp", "json") + "    json: bool = False\n\nPRESETS")},
            "toy.config.Options: found 'json', but the verbs have a --json of their own; expected another name",
        ),
        (
            {"config": ("PRESETS", SHARP + "    sharp: dict[str, float] = {}\n\nPRESETS")},
            "toy.config.Options.sharp: found the type dict[str, float], which no flag can have; expected str, int,",
        ),
        (
            {
                "config": (
                    "PRESETS",
                    f"{OPTIONS.replace('class Options', 'class ToyOptions')}    sharp: float = 1.0\n\nPRESETS",
                )
            },
            "toy.config.ToyOptions: found a class that is not used; expected the name Options",
        ),
        (
            {"config": ("PRESETS", SHARP + '    sharp: float = "wide"\n\nPRESETS')},
            "toy.config.Options.sharp: found the default 'wide'; expected a value of its type, <class 'float'>",
        ),
        (
            {"config": ("PRESETS", "class Options:\n    pass\n\nPRESETS")},
            "expected a class that inherits makers.Options",
        ),
    ],
    ids=[
        "name",
        "maker",
        "restore",
        "class",
        "arguments",
        "training",
        "torch",
        "smoke",
        "flags",
        "help",
        "text of flags",
        "preset of a CPU",
        "help of an option",
        "name of a flag",
        "flag of inject",
        "type of a flag",
        "name of the options",
        "default of an option",
        "options",
    ],
)
def test_doctor_names_what_a_package_lacks(changes, said, toy):
    toy(**changes)
    [found] = _systems()
    assert (found.name, found.state) == ("system toy", "note")
    assert said in found.found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        (
            {"maker": ("default_rng([seed, i])", "default_rng()")},
            "the same seed gives the same bytes, and another seed",
        ),
        ({"maker": ("nodule, seed) for", "nodule, seed + len(asked)) for")}, "sample i does not depend on"),
        (
            {"maker": ("self.spec.to_int16(", "self.spec.to_hu(")},
            "found samples with ct of float64; expected ct of int16",
        ),
        (
            {"system": (".load_weights(weights)", ".weights()")},
            "than in the file: `restore` has to load the weights it",
        ),
        ({"maker": (".clip(-1, 1)", ".clip(-1, 1) * np.nan")}, "toy: found NaN or infinite HU in 4,096 of 4,096"),
        (
            {"maker": ("self.spec.to_int16(", "(lambda hu: (hu * np.nan).astype(np.int16))(")},
            "NaN or infinite values cast to integers",
        ),
        ({"maker": ('roles = "toy"', 'roles = "toys"')}, "a ToyMaker named 'toys'; expected 'toy'"),
        (
            {"maker": ('roles = "toy", frozenset({"diameter_mm"}), frozenset({"makes patches"})', BARE)},
            "found a maker that",
        ),
        ({"maker": ("check_heeds(self,", "(lambda *_: None)(self,")}, "an attribute that it does not use is refused"),
        (
            {"maker": (MEASURED, STATED)},
            "a nodule has the place and the diameter of its mask: a nodule of sample 0 of 9 mm, but",
        ),
        ({"maker": (MEASURED, OFF)}, "a nodule of sample 0 at 2.0, 2.0, 2.0 mm, "),
        (
            {"maker": ("        return (self._one(", "        yield from (self._one(")},
            "`sample` is a generator function",
        ),
        ({"maker": ("default_rng([seed, i])", "default_rng(seed)")}, "samples 0 and 1 of one request are the same"),
        (
            {"training": ('store.in_split("train")', "store.cases")},
            "training learns nothing from patients of validation or test: other weights if their voxels change",
        ),
        ({"maker": ("def sample(", "def generate(")}, "found no sample; expected a maker that makes patches"),
        (
            {"system": ('loss.backward()\n        self.update("adam")', "pass")},
            "the weights after the training are those before it",
        ),
        ({"training": ("patches.batch(step, 8)", "patches.batch(id(object()) % 9973, 8)")}, "stopped and resumed"),
        ({"training": ("return Training", "1 / 0\n    return Training")}, "division by zero, toy 1.0, "),
    ],
    ids=[
        "none",
        "seed",
        "number",
        "type",
        "weights",
        "nan",
        "cast",
        "name",
        "role",
        "heeds",
        "diameter",
        "place",
        "generator function",
        "number alone",
        "test patients",
        "no sample",
        "nothing trained",
        "resume",
        "error",
    ],
)
def test_doctor_tries_a_system_and_names_the_promise_that_is_broken(changes, said, toy, capsys):
    toy(**changes)
    assert main(["doctor", "--system", "toy"]) == int(said is not None)
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines if line.startswith("wrong")]
    assert (said is None) == (not wrong)
    assert said is None or any(said in line for line in wrong)


def test_samples_without_masks_are_noted_by_doctor_and_refused_by_inject(run, tmp_path, capsys):
    model = run(maker=('{"ct": ct[None], "mask": mask[None]}', '{"ct": ct[None]}'))
    assert main(["doctor", "--system", "toy"]) == 0
    noted = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert noted == ["note    system toy: samples have no masks, so inject cannot use them"]
    write_image(tmp_path / "scan.nii.gz", Volume(np.full((60, 60, 60), -850, np.int16), (1.0, 1.0, 1.0)))
    arguments = ["--with", model, "--at", "30,30,30", "--force", "--diameter", "8", "--out", f"{tmp_path}/edited"]
    assert main(["inject", f"{tmp_path}/scan.nii.gz", *arguments]) == 2
    said = 'toy: found samples without masks; expected samples with "mask" in Samples.arrays, uint8 [n, z, y, x]'
    assert said in capsys.readouterr().err


def test_doctor_notes_an_attribute_that_changes_nothing(toy, capsys):
    toy(maker=('frozenset({"diameter_mm"})', 'frozenset({"diameter_mm", "spiculation"})'))
    assert main(["doctor", "--system", "toy"]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # the progress of the trial's trainings is not shown
    noted = [line for line in out.splitlines() if line.startswith("note")]
    assert noted == ["note    system toy: spiculation: in heeds, but another value gives the same nodule"]


def test_doctor_notes_voxels_that_were_not_converted_to_hu(toy, capsys):
    toy(maker=("self.spec.to_int16(", "np.int16("))
    assert main(["doctor", "--system", "toy"]) == 0
    said = "all voxels are from -1 to 1 HU, the range of a network's output; PatchSpec.to_int16 converts them"
    assert f"note    system toy: {said}" in capsys.readouterr().out.splitlines()


USED = "normal(mean, spread * options.sharp)"


@pytest.mark.parametrize("used", [True, False])
def test_doctor_notes_an_option_that_changes_nothing(used, toy, capsys):
    toy(
        config=("PRESETS", f"{SHARP}    sharp: float = 1.0\n\nPRESETS"),
        maker=("seed) for", "seed, options) for"),
    )
    maker = Path(sys.path[0]) / "toy" / "maker.py"
    text = maker.read_text().replace("nodule, seed):", "nodule, seed, options):")
    text = text.replace("import Generator,", "import Generator, options_of,")
    taken = "from toy.config import Options; options = options_of(options, Options, self.name)"
    text = text.replace("        check_heeds(", f"        {taken}\n        check_heeds(")
    maker.write_text(text.replace("normal(mean, spread)", USED) if used else text)
    assert main(["doctor", "--system", "toy"]) == 0
    noted = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    said = "note    system toy: options that change nothing here: sharp=2.0 gives the same as sharp=1.0"
    assert noted == ([] if used else [said])


def test_doctor_tells_each_promise_when_it_is_known_and_a_stop_keeps_nothing(toy, monkeypatch, capsys):
    toy()

    def stopped(entry, folder, data):
        yield Promise("a first promise")
        assert "ok      system toy: a first promise" in capsys.readouterr().out
        (folder / "run").mkdir()
        folders.append(folder)
        raise Stopped(2, "after step 48, which is saved; run the same command again to continue")

    folders = []
    monkeypatch.setattr("synthorax.api.system_trial.try_system", stopped)
    assert main(["doctor", "--system", "toy"]) == 130
    said = "synthorax: stopped before all promises were tried; nothing was kept"
    assert capsys.readouterr().err.strip() == said
    assert not folders[0].exists()


def test_doctor_of_a_system_that_is_not_there_or_data_without_a_system_is_one_line(capsys):
    for arguments, said in (["--system", "tyo"], "system: found 'tyo'"), (["--data", "x"], "--data: found x without"):
        assert main(["doctor", *arguments]) == 2
        assert said in capsys.readouterr().err


OWN_OPTIONS = "options_of(options, Options, self.name, self.options)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"maker": (OWN_OPTIONS, "options_of(options, Options, self.name)")},
            "made with density_hu=80.0, it ignores this where a call gives no options; in `sample` and `scan`, use "
            "makers.options_of(options, Options, name, self.options)",
        ),
        (
            {"maker": ("self.options", "self.given")},
            "made with density_hu=80.0, it has other options, or none, in its attribute `options`",
        ),
        (
            {"maker": (OWN_OPTIONS, "options or self.options")},
            "options of another system are refused: they are taken; makers.options_of refuses them",
        ),
    ],
    ids=["of the call", "not kept", "of others"],
)
def test_doctor_names_a_maker_that_does_not_heed_its_options(changes, said, puff, capsys):
    puff(**changes)
    assert main(["doctor", "--system", "puff"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong")]
    assert [said in line for line in wrong] == [True]


class Slices:
    """A maker of scans of noise; the fields tell what its voxels depend on."""

    name, lineage, heeds = "slices", Lineage("slices"), frozenset()
    roles, nodules_known, options = frozenset({"makes scans"}), "none-known", None

    def __init__(self, drawn_from=lambda index, seed: [index, seed], nodules_known="none-known"):
        self.drawn_from, self.nodules_known = drawn_from, nodules_known

    def scan(self, index, seed, options=None):
        hu = np.random.default_rng(self.drawn_from(index, seed)).normal(-850, 30, (4, 8, 8)).astype(np.int16)
        return ScanStream(hu.shape, (1.0, 1.0, 1.0), iter([hu]), {"deep": options.depth} if options else {})


def test_doctor_names_scans_that_do_not_depend_on_their_seed_or_number():
    _scans(Slices())
    for drawn_from, said in (
        (lambda index, seed: index, "the same voxels for another seed"),
        (lambda index, seed: seed, "the same voxels of another scan"),
        (lambda index, seed: None, "other voxels of the same scan"),
    ):
        with pytest.raises(_Broken, match=said):
            _scans(Slices(drawn_from))


def test_doctor_names_options_of_another_system_that_are_not_refused():
    said = r"they are not \(AttributeError: 'Others' object has no attribute 'depth'\); makers\.options_of refuses them"
    with pytest.raises(_Broken, match=said):
        _others_options(Slices())


def test_a_word_that_nodules_known_cannot_have_and_a_grid_of_another_type_are_refused(capsys):
    assert check_maker(Slices(nodules_known="all"), ["makes scans"])
    with pytest.raises(InputError, match="slices: found 'yes' as `nodules_known`; expected 'all' or 'none-known'"):
        check_maker(Slices(nodules_known="yes"), ["makes scans"])
    judge = Slices()
    judge.roles, judge.judge, judge.spec = frozenset({"judges"}), len, (24, 24, 24)
    with pytest.raises(InputError, match="slices: found `spec` of type tuple; expected a PatchSpec"):
        check_maker(judge, ["judges"])


def test_doctor_names_initial_weights_that_are_not_drawn_from_the_seed(toy, capsys):
    toy(system=("torch.manual_seed(seed)", "torch.seed()"))
    assert main(["doctor", "--system", "toy"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong")]
    assert "the initial weights of two runs with one seed differ; draw them in `System.__init__` after" in wrong[0]


def test_the_help_of_presets_is_sentences(toy, capsys):
    toy(config=("PRESETS", 'ABOUT_PRESETS = {"paper": "for a GPU", "smoke": "takes seconds."}\nPRESETS'))
    assert main(["train", "toy", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "paper: for a GPU. smoke: takes seconds." in said


def test_a_system_that_cannot_be_used_is_told_with_its_reason_alone(toy, tmp_path, capsys):
    toy()
    entry = tmp_path / "packages" / "toy" / "__init__.py"
    entry.write_text(entry.read_text().replace('"makes patches"', '"make patches"'))
    registry.cache_clear()
    assert main(["doctor", "--system", "toy"]) == 2
    said = capsys.readouterr().err.strip()
    assert "found toy: the role 'make patches' is unknown; the roles are" in said
    assert said.endswith("; expected a system that can be used, see docs/extending.md")


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_every_system_of_this_package_has_what_its_entry_promises(entry):
    check_entry(entry)


@pytest.fixture
def run(toy, store, tmp_path):
    """A function that trains the toy, with a change of a module, and returns the run folder."""

    def trained(**changes):
        toy(**changes)
        assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 0
        return f"{tmp_path}/run"

    return trained


def test_a_manifest_says_of_a_system_only_what_was_requested(run, tmp_path):
    assert main(["sample", run(), "-n", "1", "--diameter", "8", "--out", f"{tmp_path}/made"]) == 0
    assert json.loads((tmp_path / "made" / "manifest.json").read_text())["how"] == {"diameter_mm": 8.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"maker": ("self.spec.to_int16(", "self.spec.to_hu(")},
            "toy: found samples with ct of float64; expected ct of",
        ),
        (
            {"maker": (".clip(-1, 1)", ".clip(-1, 1) * (np.nan if i else 1)")},
            "toy: found NaN or infinite HU in 4,096 of 4,096 voxels of sample 1; expected -32768 to 32767 HU",
        ),
        (
            {"maker": ('"mask": mask[None]', '"masks": mask[None]')},
            "toy: found samples with masks of uint8; expected ct",
        ),
        ({"maker": ("np.array([i])", "np.array([i + 1])")}, "toy: found samples of numbers [1] of 1; expected"),
        (
            {"maker": ("in enumerate(asked))", "in enumerate(asked[1:]))")},
            "toy: found 0 samples; expected 1, as requested",
        ),
        (
            {"maker": ("self.lineage, tried", "type(self.lineage)('toy'), tried")},
            "toy: found samples without the maker's",
        ),
        (
            {"maker": (MEASURED, STATED.replace("label=1", "label=2"))},
            "toy: found the value 1 in a mask, but no nodule of that sample with this `label`; expected the `label` of",
        ),
        (
            {"maker": ("({},), self.spec", "({},), type(self.spec)((16, 16, 16), (2.0, 2.0, 2.0))")},
            "toy: found samples of",
        ),
        (
            {"maker": ('"ct": ct[None]', '"ct": ct')},
            "toy: found the array ct of shape (16, 16, 16); expected (1, 16, 16, 16), [samples, z, y, x]",
        ),
        (
            {"maker": ("({},), self.spec", "({}, {}), self.spec")},
            "toy: found 2 entries of `details`; expected 1, one for each number in `index`",
        ),
        (
            {"maker": ("return (self._one(i, nodule, seed) for", "return None and (self._one(i, nodule, seed) for")},
            "toy: found the result of `sample` None; expected an iterator over makers.Samples",
        ),
        (
            {"maker": ("self.lineage, tried=1)", "self.lineage, tried=1).arrays")},
            "toy: found a part of the samples of type dict; expected makers.Samples",
        ),
        (
            {"maker": ("np.array([i]), ((nodule,),), ((made,),)", "[i], ((nodule,),), ((made,),)")},
            "toy: found Samples.index of type list; expected an array of int64 [n]",
        ),
        (
            {"maker": ("((nodule,),), ((made,),)", "((nodule,),), (made,)")},
            "toy: found an entry of Samples.nodules of type Nodule; expected a tuple of Nodule",
        ),
        (
            {"maker": ('{"ct": ct[None]', '{"ct": ct[None].tolist()')},
            "toy: found the array ct of type list; expected an array [samples, z, y, x]",
        ),
    ],
    ids=[
        "type",
        "nan",
        "name",
        "number",
        "count",
        "lineage",
        "label",
        "grid",
        "shape",
        "rows",
        "none",
        "part",
        "index",
        "nodules",
        "list",
    ],
)
def test_samples_that_are_not_as_promised_are_refused_and_nothing_is_written(changes, said, run, tmp_path, capsys):
    model, n = run(**changes), 2 if "sample 1" in said else 1
    assert main(["sample", model, "-n", f"{n}", "--diameter", "8", "--out", f"{tmp_path}/made"]) == 2
    assert f"synthorax: {said}" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_nodule_that_is_wider_than_its_patch_is_refused(run, tmp_path, capsys):
    assert main(["sample", run(), "-n", "1", "--diameter", "60", "--out", f"{tmp_path}/made"]) == 2
    said = "synthorax: --diameter: found 60 mm; expected at most 14 mm, which a patch of toy shows whole"
    assert said in capsys.readouterr().err


def test_nodules_without_voxels_are_told_and_noted_and_no_table_gives_them_a_mask(run, tmp_path, capsys):
    out = tmp_path / "made"
    assert main(["sample", run(maker=(MEASURED, EMPTY)), "-n", "3", "--diameter", "8", "--out", f"{out}"]) == 0
    note = "3 of 3 nodules of toy have no voxel in their masks, so that their diameters are not measured"
    assert f"warning: {note}" in capsys.readouterr().err
    assert json.loads((out / "manifest.json").read_text())["notes"] == [note]
    assert {row["mask_label"] for row in csv.DictReader((out / "nodules.csv").open())} == {""}


def test_a_study_counts_nodules_without_voxels_also_when_it_is_resumed(run, store, tmp_path):
    arguments = ["--data", f"{store}", "--model", run(maker=(MEASURED, EMPTY)), "--amounts", "1", "--trainings", "1"]
    for _ in range(2):
        out = tmp_path / "study"
        assert main(["study", "detection", *arguments, "--set", "steps=2", *SMOKE, "--out", f"{out}"]) == 0
        assert "4 of 4 nodules of toy have no voxel in their masks." in (out / "index.html").read_text()
        (out / "results.json").unlink()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training", "return Training", "1 / 0\n    return Training"),
        ("system", "loss.backward()", "torch.ones(2) @ torch.ones(3)"),
    ],
    ids=["in the package", "in torch, called by the package"],
)
def test_an_error_in_a_package_names_the_package_its_file_and_line(file, old, new, toy, store, tmp_path, capsys):
    toy(**{file: (old, new)})
    assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    found = re.match(
        r"synthorax: the package toy 1\.0, (\S+), line (\d+): failed \(\w+Error: .*\); please report", line
    )
    assert new.splitlines()[0] in Path(found[1]).read_text().splitlines()[int(found[2]) - 1]
    assert "please report it to that package, with the file" in line


def test_a_run_records_the_version_of_the_package_and_another_version_resumes_it(run, store, tmp_path):
    config = Path(run()) / "config.yaml"
    assert "distribution: toy\nversion: '1.0'\n" in config.read_text()
    config.write_text(config.read_text().replace("version: '1.0'", "version: '0.9'"))
    assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 0
    assert "version: '0.9'" in config.read_text()


def test_a_system_without_bundled_weights_is_to_be_trained_first(toy, tmp_path, monkeypatch, capsys):
    toy()
    monkeypatch.chdir(tmp_path)
    said = "toy: found a system that has no bundled weights; expected a run folder of it; train it first: "
    for _ in range(2):
        assert main(["sample", "toy", "--out", f"{tmp_path}/made"]) == 2
        assert f"{said}synthorax train toy --data STORE --out RUN" in capsys.readouterr().err
        (tmp_path / "toy").mkdir(exist_ok=True)  # the second time beside a folder of its name


def test_the_help_shows_only_attributes_that_the_model_heeds(run, capsys):
    model = run()
    for verb in (["sample", model], ["inject", "scan.nii.gz", "--with", model]):
        capsys.readouterr()
        assert main([*verb, "--help"]) == 0
        said = capsys.readouterr().out
        assert "--diameter" in said
        assert "--malignancy" not in said
        assert "--positive" not in said
    assert main(["sample", "ac-wgan", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--diameter", "--malignancy", "--texture", "--positive"))
    assert "--margin" not in said


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("training", "return Training(", "return list, (", "the result of `training` of type tuple; expected a train"),
        ("system", 'return {"loss": loss.detach()}', "", "the result of `training_step` None; expected the figures"),
        ("system", "loss.detach()}", "loss.item()}", "the figure loss of `training_step` of type float; expected the"),
    ],
    ids=["training", "none", "float"],
)
def test_a_training_that_returns_something_else_is_named(file, old, new, said, toy, store, tmp_path, capsys):
    toy(**{file: (old, new)})
    assert main(["train", "toy", "--data", f"{store}", "--out", f"{tmp_path}/run", *SMOKE]) == 2
    assert f"synthorax: toy: found {said}" in capsys.readouterr().err


def test_a_model_that_restore_does_not_return_is_named(run, tmp_path, capsys):
    model = run(system=("        return model\n", ""))
    assert main(["sample", model, "-n", "1", "--diameter", "8", "--out", f"{tmp_path}/made"]) == 2
    said = "synthorax: toy: found the result of `restore` None; expected the system with these weights"
    assert capsys.readouterr().err.strip().splitlines()[-1] == said


def test_a_fault_of_several_promises_is_told_once(toy, capsys):
    toy(maker=("self.lineage, tried=1)", "self.lineage, tried=1).arrays"))
    assert main(["doctor", "--system", "toy"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "found a part of the samples of type" in line]
    assert [line.split()[0] for line in lines] == ["wrong", "note"]
    assert "not tried, because of the same fault" in lines[1]
    assert "sample i does not depend on how many are made" in lines[1]


def test_the_names_that_options_cannot_have_are_those_of_the_verbs():
    verbs = {"makes patches": sample.sample, "makes scans": sample.sample_scans, "injects": inject.inject}
    for role, verb in {**verbs, "makes shapes": sample.sample, "erases": erase.erase}.items():
        blended = names_of(inject.inject) if role == "makes patches" else set()  # inject takes the same options
        assert VERB_FLAGS[role] == names_of(verb) | blended
    assert names_of(train.verb(registry()["flow"])) == TRAIN_FLAGS


def names_of(verb):
    """The names of a verb's arguments and flags."""
    parameters = inspect.signature(verb, eval_str=True).parameters.values()
    return {name for each in parameters if each.name != "options" for name in _names(each.annotation, each.name)}


def _names(kind, name):
    group = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
    if group is not None:
        fields = get_type_hints(group, include_extras=True).items()
        return {each for field, inner in fields for each in _names(inner, field)}
    marks = [mark.name for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Parameter) and mark.name]
    return {word.lstrip("-").replace("-", "_") for mark in marks for word in mark} or {name}


def test_masks_that_are_all_empty_are_noted_by_doctor(toy, capsys):
    toy(maker=("mask = (self.spec", "mask = 0 * (self.spec"))
    main(["doctor", "--system", "toy"])
    noted = [line for line in capsys.readouterr().out.splitlines() if "all empty" in line]
    assert noted == [
        "note    system toy: the masks of 8 samples are all empty, so inject cannot use them; is smoke too short?"
    ]


class Wide:
    """An injector that changes its region in place, and all voxels."""

    name, lineage = "wide", Lineage("wide")
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"injects"})

    def reach_mm(self, edit):
        return 20.0, 9.0

    def fill_many(self, patches, regions, edits, seeds):
        for region in regions:
            region[:] = True
        return [Filled(np.zeros(patch.shape, np.float32), regions[0], edits[0].nodule) for patch in patches]


def test_an_edit_cannot_widen_the_region_that_it_was_given():
    patch, region = Volume(np.ones((9, 9, 9), np.float32), (1.0, 1.0, 1.0)), np.zeros((9, 9, 9), bool)
    region[4, 4, 4] = True
    fill(Wide(), patch, region, Edit("inject", NoduleAttributes(diameter_mm=4.0)), 0)
    assert region.sum() == 1


def test_doctor_names_a_region_that_was_changed():
    with pytest.raises(_Broken, match="the region that was given changed"):
        _together(Wide(), "inject")


class Balls:
    """An injector of balls; the factors of the voxels' spacing (z, y, x) tell how it measures distances."""

    name, lineage = "balls", Lineage("balls")
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"injects"})

    def __init__(self, in_mm=lambda spacing: spacing, region_mm=9.0, hu=40.0, seeded=True, marked=np.copy):
        self.in_mm, self.region_mm, self.hu, self.seeded, self.marked = in_mm, region_mm, hu, seeded, marked

    def reach_mm(self, edit):
        return 20.0, self.region_mm

    def fill_many(self, patches, regions, edits, seeds):
        return [self._fill(*each) for each in zip(patches, regions, edits, seeds, strict=True)]

    def _fill(self, patch, region, edit, seed):
        mask = PatchSpec(patch.shape, self.in_mm(patch.spacing_mm)).distances_mm() <= edit.nodule.diameter_mm / 2
        mask &= region
        ball = np.random.default_rng(seed if self.seeded else 0).normal(self.hu, abs(self.hu) / 9, patch.shape)
        return Filled(np.where(mask, ball, patch.voxels).astype(np.float32), self.marked(mask), edit.nodule)


@pytest.mark.parametrize("in_mm", [lambda spacing: (1.0, 1.0, 1.0), lambda spacing: spacing[::-1]])
def test_doctor_notes_an_injector_that_does_not_look_at_the_spacing_or_turns_it_round(in_mm):
    _shape_mm(Balls())
    with pytest.raises(
        _Noted, match=r"the voxels stretch a nodule: it is .* on voxels of .* mm; measure by patch\.spacing_mm"
    ):
        _shape_mm(Balls(in_mm))


def test_a_maker_whose_lineage_or_names_are_texts_is_refused():
    for name, value, said in (
        ("lineage", "balls", "`lineage` of type str; expected a makers.Lineage"),
        ("heeds", "diameter_mm", "the text 'diameter_mm' as `heeds`; expected a frozenset of names"),
    ):
        maker = Balls()
        setattr(maker, name, value)
        with pytest.raises(InputError, match=re.escape(said)):
            check_maker(maker, ("injects",))


def test_hu_that_no_file_holds_are_refused():
    volume = Volume(np.full((24, 24, 24), -850, np.float32), (1.0, 1.0, 1.0))
    edit = Edit("inject", NoduleAttributes(diameter_mm=8.0))
    with pytest.raises(InputError, match=r"a result of up to .* HU; expected at most 32767"):
        fill(Balls(hu=90_000.0), volume, np.ones(volume.shape, bool), edit, 0)


def test_doctor_names_an_editor_that_cannot_be_sent_to_other_processes():
    check_pickles(Balls(in_mm=tuple))
    said = r"found an object that cannot be sent to other processes \(.*lambda.*\); expected an object of a class that"
    with pytest.raises(InputError, match=said):
        check_pickles(Balls())


def test_doctor_notes_an_injector_whose_region_hardly_holds_its_nodule():
    _reach(Balls(region_mm=5.0), "inject")
    with pytest.raises(_Noted, match=r"a region of 4\.5 mm around a nodule of 8 mm"):
        _reach(Balls(region_mm=4.5), "inject")
    with pytest.raises(_Broken, match="a region of 4 mm around a nodule of 8 mm"):
        _reach(Balls(region_mm=4.0), "inject")


def test_doctor_notes_an_injector_that_forgets_hu_or_its_seed():
    _outside(Balls(), "inject")
    with pytest.raises(_Noted, match="all voxels of the nodule are from -1 to 1 HU"):
        _outside(Balls(hu=0.04), "inject")
    _another_seed(Balls())
    with pytest.raises(_Noted, match="another seed gave the same nodule"):
        _another_seed(Balls(seeded=False))


def test_doctor_notes_a_mask_that_is_not_the_nodules():
    _marked(Balls())
    with pytest.raises(_Noted, match="voxels of the mask change by 0 HU, the others of the region by "):
        _marked(Balls(marked=lambda mask: ~mask))
    with pytest.raises(_Noted, match=r"the middle of the mask is [34]\.. mm from the middle of the patch"):
        _marked(Balls(marked=lambda mask: np.roll(mask, 4, 2)))


def test_doctor_says_that_diameters_were_not_tried_if_all_masks_are_empty(toy, capsys):
    toy(maker=("mask = (self.spec", "mask = 0 * (self.spec"))
    assert main(["doctor", "--system", "toy"]) == 0
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "a nodule has the place and the diameter of its mask" in line
    ]
    assert not [line for line in lines if line.startswith("ok")]


def test_a_nodule_with_an_empty_mask_is_told_and_its_diameter_is_that_of_the_request(run, tmp_path, capsys):
    model = run(maker=("mask = (self.spec", "mask = 0 * (self.spec"))
    assert main(["sample", model, "-n", "2", "--diameter", "8", "--out", f"{tmp_path}/made"]) == 0
    said = "2 of 2 nodules of toy have no voxel in their masks, so that their diameters are not measured"
    assert said in " ".join(capsys.readouterr().err.split())
    rows = read_table(tmp_path / "made" / "nodules.csv")
    assert [(row["diameter_mm"], row["diameter_is"]) for row in rows] == [("8", "asked"), ("8", "asked")]
