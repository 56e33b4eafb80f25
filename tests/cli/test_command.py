"""The `synthorax` command: what it does, and that every error that a user can correct is one line."""

import csv
import hashlib
import inspect
import json
import os
import subprocess
import sys
from dataclasses import is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from cyclopts import Parameter

import synthorax as sx
from synthorax.cli import VERBS, main
from synthorax.cli.train import verb as train_verb
from synthorax.errors import InputError
from synthorax.io.atomic import MARK, write_mark
from synthorax.io.images import read_image, write_image
from synthorax.io.stl import read_stl
from synthorax.registry import registry
from synthorax.volume import Volume
from tests.helpers.balls import ball_stack
from tests.helpers.files import contents
from tests.helpers.processes import loaded_by

GRID = (20, 40, 40)
SPACING_MM = (1.25, 0.7, 0.7)
SMOKE = ["--preset", "smoke", "--device", "cpu"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def balls():
    return ball_stack()


@pytest.fixture(scope="module")
def home(balls, tmp_path_factory):
    """A folder with `balls.npy`, the trained `run` and its samples `made`."""
    folder = tmp_path_factory.mktemp("home")
    np.save(folder / "balls.npy", balls)
    assert main(["train", "lung", "--data", f"{folder}/balls.npy", "--out", f"{folder}/run", *SMOKE]) == 0
    assert main(["sample", f"{folder}/run", "-n", "10", "--seed", "7", "--out", f"{folder}/made"]) == 0
    return folder


@pytest.fixture
def desk(balls, home, chest, tmp_path, monkeypatch):
    """A working folder with good and bad inputs; `run` is the trained one."""
    monkeypatch.chdir(tmp_path)
    np.save("balls.npy", balls)
    np.save("2d.npy", np.ones((20, 40), np.float32))
    np.save("other-grid.npy", np.ones((2, 20, 40, 41), np.float32))
    np.save("nan.npy", np.where(balls > 0.5, np.nan, balls))
    np.save("hot.npy", balls * 1.5)
    np.save("negative.npy", balls - 1)
    np.save("empty.npy", np.concatenate([balls, np.zeros((1, *GRID), np.float32)]))
    np.save("none.npy", np.zeros((0, *GRID), np.float32))
    np.save("objects.npy", np.array([None, {}], object), allow_pickle=True)
    np.save("complex.npy", balls.astype(np.complex64))
    np.save("words.npy", np.full(GRID, "nodule"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "balls.npy").read_bytes()[:5000])
    for name in ("text.npy", "text.nii.gz", "text.mha", "notes.txt"):
        (tmp_path / name).write_text("no nodule here\n")
    large = np.zeros((40, 60, 60), bool)
    large[2:38, 2:58, 2:58] = True
    write_image(tmp_path / "large.nii.gz", Volume(large, (1.0, 1.0, 1.0)))
    write_image(tmp_path / "chest.nii.gz", chest)
    write_image(tmp_path / "shifted.nii.gz", replace(chest, voxels=((chest.voxels + 1024) * 16).astype(np.int32)))
    (tmp_path / "patients.txt").write_text("LIDC-IDRI-9999\n")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    (tmp_path / "bare").mkdir()
    (tmp_path / "number.yaml").write_text("3\n")
    (tmp_path / "number-inside.yaml").write_text("config: 3\n")
    (tmp_path / "broken.yaml").write_text("a: [1, 2\n")
    (tmp_path / "run").symlink_to(home / "run")
    return tmp_path


def run(*arguments):
    """Run the command in a separate process."""
    return subprocess.run([sys.executable, "-m", "synthorax", *arguments], capture_output=True, text=True, timeout=60)


def table(path):
    """Names and figures [n, 12] of a feature table."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["nodule", *(f"f{i}" for i in range(1, 13))]
    return [row[0] for row in rows[1:]], np.array([[float(v) for v in row[1:]] for row in rows[1:]])


# Errors

TRAIN = "train lung --preset smoke --device cpu --out new --data "
SAMPLE = "sample run --out new "
INJECT = "inject chest.nii.gz --out new "
ONE = INJECT + "--auto 1 --diameter 8 "
IN_LUNG = "--at -70,0,0 --diameter 8 "

BAD = [
    ("nonsense", "nonsense"),
    ("train nonsense", "nonsense"),
    ("prepare nonsense", "nonsense"),
    ("--nonsense", "nonsense"),
    ("sample run --out new --nonsense 1", "--nonsense"),
    ("sample run --out new extra", "extra"),
    ("train lung --out new", "--data"),
    ("train lung --data balls.npy", "--out"),
    ("train lung --data balls.npy --out", "--out"),
    ("sample --out new", "MODEL is required"),
    ("sample run", "--out"),
    ("features", "FILE is required"),
    ("prepare shapes", "--out"),
    ("train lung --data balls.npy --out new --preset huge", "huge"),
    ("features balls.npy --convention mine", "mine"),
    ("demo --preset paper", "paper"),
    (TRAIN + "balls.npy --seed one", "one"),
    (TRAIN + "balls.npy --seed -1", "-1"),
    (TRAIN + "balls.npy --layers 32-3", "'32-3'"),
    (TRAIN + "balls.npy --layers deep", "'deep'"),
    (TRAIN + "balls.npy --nodules 0", "0"),
    (TRAIN + "balls.npy --nodules 5", "5"),
    ("train lung --preset smoke --data balls.npy --out new --device abacus", "abacus"),
    (SAMPLE + "--device abacus", "abacus"),
    (TRAIN + "balls.npy --max-minutes soon", "soon"),
    (TRAIN + "balls.npy --max-minutes -1", "-1"),
    (TRAIN + "balls.npy --max-minutes nan", "nan"),
    (TRAIN + "balls.npy --set iterations", "KEY=VALUE"),
    (TRAIN + "balls.npy --set iterations=many", "iterations"),
    (TRAIN + "balls.npy --set iterations=61", "iterations"),
    (TRAIN + "balls.npy --set depth=3", "depth"),
    (TRAIN + "balls.npy --set layers=[", "layers"),
    (TRAIN + "balls.npy --set spacing_mm=[-1,1,1]", "spacing_mm"),
    (TRAIN + "balls.npy --set grid=[20,40]", "grid"),
    (TRAIN + "balls.npy --config nowhere.yaml", "nowhere.yaml"),
    (TRAIN + "balls.npy --config number.yaml", "number.yaml"),
    (TRAIN + "balls.npy --config number-inside.yaml", "number-inside.yaml"),
    (TRAIN + "balls.npy --config broken.yaml", "broken.yaml"),
    (TRAIN + "2d.npy", "2d.npy"),
    (TRAIN + "other-grid.npy", "other-grid.npy"),
    (TRAIN + "nan.npy", "NaN"),
    (TRAIN + "hot.npy", "1.5"),
    (TRAIN + "negative.npy", "-1"),
    (TRAIN + "empty.npy", "empty.npy[4]"),
    (TRAIN + "none.npy", "none.npy"),
    (TRAIN + "objects.npy", "objects.npy"),
    (TRAIN + "complex.npy", "complex64"),
    (TRAIN + "words.npy", "words.npy"),
    (TRAIN + "cut.npy", "cut.npy"),
    (TRAIN + "text.npy", "text.npy"),
    (TRAIN + "text.mha", "text.mha"),
    (TRAIN + "notes.txt", "notes.txt"),
    (TRAIN + "nowhere.npy", "nowhere.npy"),
    (TRAIN + "bare", "bare"),
    (TRAIN + "large.nii.gz", "large.nii.gz"),
    ("train lung --preset smoke --data balls.npy --out thesis", "thesis"),
    ("train lung --preset smoke --data balls.npy --out notes.txt", "notes.txt"),
    ("train lung --preset smoke --data balls.npy --out notes.txt/new", "notes.txt/new"),
    ("train lung --preset smoke --data balls.npy --out run --seed 1", "seed"),
    ("train lung --preset smoke --data balls.npy --out " + "x" * 300, "xxx"),
    ("sample thesis --out new", "thesis"),
    ("sample nowhere --out new", "nowhere"),
    ("sample notes.txt --out new", "notes.txt"),
    ("sample features-24mm --out new", "makes no voxels"),
    (SAMPLE + "--select", "select"),
    (SAMPLE + "--diameter 8", "--diameter: found 8 mm, which lung does not use"),
    (SAMPLE + "-n 0", "-n: found 0"),
    (SAMPLE + "-n -3", "-3"),
    (SAMPLE + "-n some", "some"),
    (SAMPLE + "--seed -1", "-1"),
    (SAMPLE + "--formats npy,obj", "'obj'"),
    (SAMPLE + "--formats ,", "format"),
    (SAMPLE + "--near nowhere.npy", "nowhere.npy"),
    (SAMPLE + "--near notes.txt", "notes.txt"),
    (SAMPLE + "--near balls.npy:4", "balls.npy:4"),
    (SAMPLE + "--near balls.npy:-1", "balls.npy:-1"),
    (SAMPLE + "--near large.nii.gz", "large.nii.gz"),
    (SAMPLE + "--near other-grid.npy", "other-grid.npy"),
    (SAMPLE + "--near balls.npy --radius 0", "radius"),
    (SAMPLE + "--near balls.npy --radius nan", "radius"),
    (SAMPLE + "--near balls.npy --walk balls.npy:0 balls.npy:1", "walk"),
    (SAMPLE + "--walk balls.npy:0", "--walk"),
    (SAMPLE + "--walk balls.npy:0 balls.npy:9", "balls.npy:9"),
    (SAMPLE + "--walk balls.npy:0 balls.npy:1 -n 1", "walk"),
    ("sample run --out thesis", "thesis"),
    ("sample run --out thesis --overwrite", "thesis"),
    ("sample run --out notes.txt", "notes.txt"),
    ("sample run --out notes.txt/new -n 1", "notes.txt/new"),
    ("features nowhere.npy", "nowhere.npy"),
    ("features notes.txt", "notes.txt"),
    ("features text.npy", "text.npy"),
    ("features text.nii.gz", "text.nii.gz"),
    ("features cut.npy", "cut.npy"),
    ("features bare", "bare"),
    ("features empty.npy", "empty.npy[4]"),
    ("features balls.npy --spacing 1,2", "--spacing"),
    ("features balls.npy --spacing thin", "--spacing"),
    ("features balls.npy --spacing 0,1,1", "--spacing"),
    ("features balls.npy --spacing=-1,1,1", "--spacing"),
    ("features balls.npy --spacing nan,1,1", "--spacing"),
    ("features balls.npy --out nowhere/table.csv", "nowhere/table.csv"),
    ("features balls.npy --out notes.txt/table.csv", "notes.txt/table.csv"),
    ("features balls.npy --out thesis", "thesis"),
    ("prepare shapes --out new --readers 5", "5"),
    ("prepare shapes --out new --readers 0", "0"),
    ("prepare shapes --out new --grid 20,40", "--grid"),
    ("prepare shapes --out new --grid 20,40,x", "--grid"),
    ("prepare shapes --out new --grid 0,40,40", "grid"),
    ("prepare shapes --out new --spacing thick", "--spacing"),
    ("prepare shapes --out new --spacing nan,1,1", "nan"),
    ("prepare shapes --out thesis", "thesis"),
    ("prepare phantom --out new --scans 0", "0"),
    ("prepare phantom --out new --scans some", "some"),
    ("prepare phantom --out new --spacing thick", "--spacing"),
    ("prepare phantom --out new --spacing 0,1,1", "spacing"),
    ("prepare phantom --out new --nodules -1", "nodules"),
    ("prepare phantom --out new --split 1,1,1", "split"),
    ("prepare phantom --out thesis", "thesis"),
    ("inject nowhere.nii.gz --out new --auto 1 --diameter 8", "nowhere.nii.gz"),
    ("inject text.nii.gz --out new --auto 1 --diameter 8", "text.nii.gz"),
    ("inject notes.txt --out new --auto 1 --diameter 8", "notes.txt"),
    ("inject thesis --out new --auto 1 --diameter 8", "thesis"),
    ("inject large.nii.gz --out new --auto 1 --diameter 8", "large.nii.gz"),
    ("inject shifted.nii.gz --out new --auto 1 --diameter 8", "shifted.nii.gz"),
    ("inject chest.nii.gz --out thesis --auto 1 --diameter 8", "thesis"),
    ("inject chest.nii.gz --out notes.txt/new --auto 1 --diameter 8", "notes.txt"),
    (INJECT + "--auto 1", "--diameter"),
    (INJECT + "--diameter 8", "nodules"),
    (INJECT + "--auto -1 --diameter 8", "nodules"),
    (INJECT + "--auto 1 --diameter wide", "--diameter"),
    (INJECT + "--auto 1 --diameter 0", "0 mm"),
    (INJECT + "--auto 1 --diameter nan", "nan"),
    (INJECT + "--auto 1 --diameter 95", "95 mm"),
    (INJECT + "--auto 3 --diameter 8,9", "diameters"),
    (INJECT + "--at 1,2 --diameter 8", "--at"),
    (INJECT + "--at here --diameter 8", "--at"),
    (INJECT + "--at nan,0,0 --diameter 8", "--at: found (nan"),
    (INJECT + "--at 0,0,900 --diameter 8", "(0.0, 0.0, 900.0) mm"),
    (INJECT + "--at 0,0,0 --diameter 8", "in the lungs"),
    (INJECT + "--at -150,0,0 --diameter 8", "in the lungs"),
    (INJECT + "--at -70,0,0 --at -72,0,0 --diameter 8", "nodule"),
    (INJECT + "--voxel 900,0,0 --diameter 8", "--voxel: found 900,0,0"),
    (INJECT + IN_LUNG + "--texture wool", "--texture"),
    (INJECT + IN_LUNG + "--texture 6", "--texture"),
    (INJECT + IN_LUNG + "--calcification chalk", "--calcification"),
    (INJECT + IN_LUNG + "--calcification 5.25", "a whole number from 1 to 6"),
    (INJECT + IN_LUNG + "--spiculation 0", "--spiculation"),
    (INJECT + IN_LUNG + "--with magic", "magic"),
    (INJECT + IN_LUNG + "--shapes nowhere.nii.gz", "nowhere.nii.gz"),
    (INJECT + IN_LUNG + "--shapes thesis", "thesis"),
    (INJECT + IN_LUNG + "--shapes text.nii.gz", "text.nii.gz"),
    (INJECT + IN_LUNG + "--patients nowhere.txt", "nowhere.txt"),
    (INJECT + IN_LUNG + "--patients patients.txt", "patients"),
    (INJECT + IN_LUNG + "--patients balls.npy", "balls.npy"),
    (INJECT + IN_LUNG + "--nodules nowhere.nii.gz", "nowhere.nii.gz"),
    (INJECT + IN_LUNG + "--nodules large.nii.gz", "large.nii.gz"),
    (INJECT + IN_LUNG + "--nodules chest.nii.gz", "chest.nii.gz"),
    (INJECT + IN_LUNG + "--nodules notes.txt", "notes.txt"),
    (INJECT + IN_LUNG + "--series 1.2.3", "series"),
    (INJECT + IN_LUNG + "--seed -1", "-1"),
    (INJECT + IN_LUNG + "--lungs guess", "guess"),
    (ONE + "--site heart", "heart"),
    (ONE + "--wall-mm 90", "8 mm"),
    (ONE + "--wall-mm wide", "wide"),
    ("demo --out thesis", "thesis"),
    ("study baselines --data nowhere --out new", "nowhere"),
    ("study baselines --data nowhere --out new --tasks seeing", "seeing"),
    ("study baselines --data nowhere --out new --set steps=3", "TASK.KEY=VALUE"),
    ("study baselines --data nowhere --out new --set detection.stepps=3", "stepps"),
    ("study baselines --data nowhere --out new --tasks malignancy --set detection.steps=3", "detection.steps"),
    ("study detection --data nowhere --out new", "nowhere"),
    ("study detection --data notes.txt --out new", "notes.txt"),
    ("study detection --data nowhere --out new --amounts much", "--amounts"),
    ("study detection --data nowhere --out new --set stepps=3", "stepps"),
    ("study false-alarms --data nowhere --chests nowhere --out new", "nowhere"),
    ("study false-alarms --data nowhere --chests nowhere --out new --model nothing", "nothing"),
    ("study malignancy --data nowhere --out new", "nowhere"),
    ("study malignancy --data nowhere --out new --arms raw,more", "more"),
    ("study malignancy --data nowhere --out new --ratios two", "--ratios"),
    ("study malignancy --data nowhere --out new --model lung", "lung"),
    ("study fidelity --data nowhere --out new", "nowhere"),
    ("study scores --scores nowhere.csv --out new", "nowhere.csv"),
    ("study scores --scores notes.txt --out new", "notes.txt"),
    ("study fidelity --data nowhere --out new --samples 1", "samples"),
]


@pytest.mark.parametrize(("command", "named"), BAD, ids=[c.replace(TRAIN, "train ")[:60] for c, _ in BAD])
def test_a_mistake_is_told_in_one_line_and_leaves_nothing_behind(desk, capfd, command, named):
    before = contents(desk)
    code = main(command.split())
    out, err = capfd.readouterr()
    assert code == 2
    assert err.startswith("synthorax: ")
    (err,) = [line for line in err.splitlines() if not line.startswith("synthorax: warning: ")]
    assert named in err
    assert not out
    assert contents(desk) == before


def test_an_error_of_the_command_is_its_exit_code_for_the_shell():
    done = run("features", "nowhere.npy")
    assert done.returncode == 2
    assert done.stderr.startswith("synthorax: nowhere.npy: ")
    assert not done.stdout


def test_a_fault_of_ours_is_one_line_and_a_file_for_those_who_must_mend_it(desk, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(desk))
    monkeypatch.setattr("synthorax.cli.features.compute", lambda *_, **__: 1 // 0)
    assert main(["features", "balls.npy"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("synthorax: balls.npy: failed in a way that nobody foresaw (ZeroDivisionError: integer")
    assert "Traceback (most recent call last)" in Path(line.rpartition(" ")[2]).read_text()


# Help


def of_verb(verb):
    """The function of a verb, or of one whose flags depend on the system that is named."""
    if verb.startswith("train "):
        return train_verb(registry()[verb.split()[1]])
    module, _, function = VERBS[verb][1].partition(":")
    found = getattr(import_module(f"synthorax.cli.{module}"), function.removesuffix("()"))
    return found([]) if function.endswith("()") else found


TRAIN_VERBS = [f"train {name}" for name in registry().having(lambda entry: entry.is_trained)]


@pytest.mark.parametrize("verb", [*VERBS, *TRAIN_VERBS])
def test_every_verb_explains_itself_and_each_of_its_options(verb, capsys):
    signature = inspect.signature(of_verb(verb), eval_str=True)
    parameters = []
    for name, parameter in signature.parameters.items():
        group = next((t for t in (parameter.annotation, *get_args(parameter.annotation)) if is_dataclass(t)), None)
        options = get_type_hints(group, include_extras=True) if group else {name: parameter.annotation}
        kinds = [t for part in get_args(parameter.annotation) for t in get_args(part)]
        model = next((t for t in kinds if hasattr(t, "model_fields")), None)
        options = dict.fromkeys(model.model_fields) if model else options
        for option, annotation in options.items():
            given = [a.name[0] for a in get_args(annotation) if isinstance(a, Parameter) and a.name]
            parameters += given or [option]
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    words = " ".join(text.replace("│", " ").split())
    if verb == "inject":  # its help has only the ratings that the method takes
        parameters.remove("subtlety")
    for name in parameters:
        assert (name if name.startswith("-") else "--" + name.replace("_", "-")) in words
    assert f"synthorax {verb}" in words


def test_the_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    words = capsys.readouterr().out.split()
    for verb in VERBS:
        assert verb.split()[0] in words


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_heavy_library(option):
    loaded = loaded_by(option)
    assert "synthorax.cli" in loaded
    assert not loaded & {"torch", "numpy", "SimpleITK", "scipy", "pydantic", "matplotlib"}


def test_help_loads_no_library_but_those_of_the_command_line():
    heavy = {"torch", "numpy", "scipy", "pydantic", "nibabel", "pydicom", "SimpleITK", "matplotlib", "yaml"}
    code = "import sys\nfrom synthorax.cli import main\nmain(['--help'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Put nodules into your chest CT scans." in done.stdout
    assert not set(done.stderr.split()) & heavy


@pytest.mark.parametrize(
    "study", ["detection", "malignancy", "false-alarms", "volumes", "segmentation", "fidelity", "shapes"]
)
def test_the_help_of_a_study_lists_the_settings_of_its_network_by_the_preset(study, capsys):
    assert main(["study", study, "--preset", "smoke", "--help"]) == 0
    said = capsys.readouterr().out
    assert "Settings for --set KEY=VALUE, with their values in preset smoke:" in said
    assert "batch_size=" in said


def test_the_help_of_the_study_of_baselines_lists_the_settings_of_each_task(capsys):
    assert main(["study", "baselines", "--preset", "smoke", "--help"]) == 0
    said = capsys.readouterr().out
    for task in ("detection", "malignancy", "segmentation"):
        assert f"Settings for --set {task}.KEY=VALUE, with their values in preset smoke:" in said
        assert f"{task}.batch_size=" in said


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == sx.__version__


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, synthorax; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "SimpleITK", "cyclopts"}


def test_sampling_loads_no_training_library(home, tmp_path):
    loaded = loaded_by("sample", f"{home}/run", "-n", "1", "--out", f"{tmp_path}/made")
    assert "torch" in loaded
    assert not loaded & {"lightning_fabric", "lightning", "pytorch_lightning", "monai", "matplotlib"}


# From nodules to nodules


def test_a_trained_run_is_a_folder_with_configuration_weights_log_and_state(home):
    names = {path.name for path in (home / "run").iterdir()}
    assert names == {"config.yaml", "data.json", "weights.safetensors", "state.pt", "log.jsonl", "tensorboard"}
    assert json.loads((home / "run" / "data.json").read_text())["shapes"] == 4


def test_the_sample_folder_holds_every_format_of_every_nodule(home):
    made = home / "made"
    numbers = [f"{i:04d}" for i in range(10)]
    found = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    expected = [".synthorax", "features.csv", "manifest.json", "shapes.npy"]
    expected += [f"masks/{n}{suffix}" for n in numbers for suffix in (".nii.gz", ".mha")]
    expected += [f"meshes/{n}.stl" for n in numbers]
    assert found == sorted(expected)


def test_every_format_tells_of_the_same_nodules(home):
    stack = np.load(home / "made" / "shapes.npy")
    assert stack.dtype == np.bool_
    assert stack.shape == (10, *GRID)
    for i, mask in enumerate(stack):
        for suffix in (".nii.gz", ".mha"):
            volume = read_image(home / "made" / "masks" / f"{i:04d}{suffix}")
            np.testing.assert_array_equal(volume.voxels, mask)
            assert volume.spacing_mm == pytest.approx(SPACING_MM, rel=1e-6)
        corners, mark = read_stl(home / "made" / "meshes" / f"{i:04d}.stl")
        assert mark.startswith("SYNTHETIC")
        low, high = corners.reshape(-1, 3).min(0), corners.reshape(-1, 3).max(0)
        inside = np.argwhere(mask)[:, ::-1] * np.array(SPACING_MM[::-1])
        assert (low <= inside.min(0) + 1e-3).all()
        assert (high >= inside.max(0) - 1e-3).all()
        assert (inside.min(0) - low <= np.array(SPACING_MM[::-1])).all()
        assert (high - inside.max(0) <= np.array(SPACING_MM[::-1])).all()


def test_the_features_of_every_format_agree_with_the_folders_own_table(home, tmp_path):
    names, expected = table(home / "made" / "features.csv")
    assert names == [f"{i:04d}" for i in range(10)]
    for suffix in (".nii.gz", ".mha"):
        part = tmp_path / suffix[1:4]
        part.mkdir()
        for path in (home / "made" / "masks").glob("*" + suffix):
            (part / path.name).write_bytes(path.read_bytes())
    for source in (home / "made" / "shapes.npy", tmp_path / "nii", tmp_path / "mha"):
        assert main(["features", str(source), "--out", str(tmp_path / "table.csv"), "--overwrite"]) == 0
        found, values = table(tmp_path / "table.csv")
        assert len(found) == 10
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_features_on_the_screen_are_those_of_the_file_and_of_json(home, tmp_path, capsys):
    source = str(home / "balls.npy")
    assert main(["features", source, "--out", str(tmp_path / "table.csv")]) == 0
    capsys.readouterr()
    assert main(["features", source]) == 0
    assert capsys.readouterr().out == (tmp_path / "table.csv").read_text()
    assert main(["features", source, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names, values = table(tmp_path / "table.csv")
    assert [row["nodule"] for row in rows] == names == [f"balls.npy[{i}]" for i in range(4)]
    np.testing.assert_allclose([[row[f"f{i}"] for i in range(1, 13)] for row in rows], values, rtol=1e-8)


def test_json_stays_json_for_a_nodule_of_one_voxel(tmp_path, capsys):
    mask = np.zeros((1, *GRID), bool)
    mask[0, 5, 6, 7] = True
    np.save(tmp_path / "one.npy", mask)
    assert main(["features", str(tmp_path / "one.npy"), "--json"]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    rows = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert rows[0]["f6"] is None


def test_spacing_scales_the_features_of_a_stack(home, capsys):
    volumes = []
    for spacing in ("1.25,0.7,0.7", "2.5,1.4,1.4"):
        assert main(["features", str(home / "balls.npy"), "--spacing", spacing, "--json"]) == 0
        volumes.append([row["f5"] for row in json.loads(capsys.readouterr().out)])
    np.testing.assert_allclose(volumes[1], np.multiply(volumes[0], 8))


def test_the_manifest_tells_all_that_made_the_samples(home):
    manifest = json.loads((home / "made" / "manifest.json").read_text())
    weights = (home / "run" / "weights.safetensors").read_bytes()
    assert manifest["synthorax"] == sx.__version__
    assert manifest["synthetic"].startswith("SYNTHETIC")
    assert manifest["system"] == "lung"
    assert manifest["model_sha256"] == hashlib.sha256(weights).hexdigest()
    assert manifest["seed"] == 7
    assert manifest["spacing_zyx_mm"] == list(SPACING_MM)
    assert manifest["formats"] == ["npy", "nifti", "mha", "stl"]
    assert manifest["sample_batch"] > 0
    samples = manifest["samples"]
    assert [sample["name"] for sample in samples] == [f"{i:04d}" for i in range(10)]
    _, features = table(home / "made" / "features.csv")
    np.testing.assert_allclose([list(sample["features_alnsb"].values()) for sample in samples], features, rtol=1e-8)
    system = sx.load(home / "run").system
    latents = [sample["latent"] for sample in samples]
    np.testing.assert_allclose(latents, system.draw_latents(10, 7), atol=1e-6)
    again = system.generate(system.draw_latents(10, 7))
    np.testing.assert_array_equal(again.masks, np.load(home / "made" / "shapes.npy"))
    assert [sample["pieces_before_reconnection"] for sample in samples] == again.n_components.tolist()
    assert [sample["inverted_by_network"] for sample in samples] == again.inverted.tolist()


def test_five_samples_are_the_first_five_of_ten_to_the_byte(home, tmp_path):
    assert main(["sample", f"{home}/run", "-n", "5", "--seed", "7", "--out", f"{tmp_path}/five"]) == 0
    five, ten = contents(tmp_path / "five"), contents(home / "made")
    files = [name for name, content in five.items() if content and name.startswith(("masks/", "meshes/"))]
    assert len(files) == 15
    assert all(five[name] == ten[name] for name in files)
    np.testing.assert_array_equal(np.load(tmp_path / "five/shapes.npy"), np.load(home / "made/shapes.npy")[:5])
    manifests = [json.loads(parts["manifest.json"]) for parts in (five, ten)]
    assert manifests[0]["samples"] == manifests[1]["samples"][:5]


def test_the_same_command_makes_the_same_bytes_and_another_seed_others(home, tmp_path):
    assert main(["sample", f"{home}/run", "--seed", "7", "--out", f"{tmp_path}/again"]) == 0
    assert main(["sample", f"{home}/run", "--seed", "8", "--out", f"{tmp_path}/other"]) == 0
    assert contents(tmp_path / "again") == contents(home / "made")
    assert not np.array_equal(np.load(tmp_path / "other/shapes.npy"), np.load(home / "made/shapes.npy"))


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        ("npy", {"shapes.npy"}),
        ("nifti", {"masks/0000.nii.gz"}),
        ("mha", {"masks/0000.mha"}),
        ("stl", {"meshes/0000.stl"}),
        ("stl, npy", {"meshes/0000.stl", "shapes.npy"}),
    ],
)
def test_only_the_chosen_formats_are_written(home, tmp_path, chosen, parts):
    assert main(["sample", f"{home}/run", "-n", "1", "--formats", chosen, "--out", f"{tmp_path}/made"]) == 0
    files = {name for name, content in contents(tmp_path / "made").items() if content}
    assert files == {"features.csv", "manifest.json", MARK} | parts


def test_a_walk_leads_from_one_nodule_to_the_other(home, tmp_path):
    ends = [f"{home}/balls.npy:0", f"{home}/balls.npy:3"]
    assert main(["sample", f"{home}/run", "-n", "4", "--walk", *ends, "--out", f"{tmp_path}/walk"]) == 0
    manifest = json.loads((tmp_path / "walk" / "manifest.json").read_text())
    latents = np.array([sample["latent"] for sample in manifest["samples"]])
    assert latents.shape == (4, 3)
    encoded = sx.load(home / "run").system.encode(np.load(home / "balls.npy")[[0, 3]])
    np.testing.assert_allclose(latents[[0, -1]], encoded, atol=1e-6)
    np.testing.assert_allclose(np.diff(latents, axis=0), [(latents[3] - latents[0]) / 3] * 3, atol=1e-6)


def test_near_stays_near_the_given_row(home, tmp_path):
    command = ["sample", f"{home}/run", "-n", "6", "--near", f"{home}/balls.npy:2", "--radius", "0.1"]
    assert main([*command, "--out", f"{tmp_path}/near"]) == 0
    manifest = json.loads((tmp_path / "near" / "manifest.json").read_text())
    latents = np.array([sample["latent"] for sample in manifest["samples"]])
    centre = sx.load(home / "run").system.encode(np.load(home / "balls.npy")[[2]])
    assert abs(latents - centre).max() <= 0.1 + 1e-6
    assert len(np.unique(latents, axis=0)) == 6


def test_near_takes_an_image_of_another_spacing(home, tmp_path):
    mask = np.load(home / "balls.npy")[3] >= 0.5
    write_image(tmp_path / "fine.nii.gz", Volume(mask.repeat(2, 1).repeat(2, 2), (1.25, 0.35, 0.35)))
    command = ["sample", f"{home}/run", "-n", "2", "--near", f"{tmp_path}/fine.nii.gz"]
    assert main([*command, "--out", f"{tmp_path}/near"]) == 0


def test_our_own_folder_is_replaced_only_when_asked(home, tmp_path, capsys):
    command = ["sample", f"{home}/run", "-n", "2", "--formats", "npy", "--out", f"{tmp_path}/made"]
    assert main(command) == 0
    before = contents(tmp_path)
    assert main([*command, "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert contents(tmp_path) != before
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


def test_a_folder_with_the_plan_is_not_replaced_by_what_is_made_of_the_plan(desk, capsys):
    (desk / "out").mkdir()
    (desk / "out" / "nodules.csv").write_text("diameter_mm\n8\n")
    write_mark(desk / "out")
    before = contents(desk)
    assert main(["inject", "chest.nii.gz", "--plan", "out/nodules.csv", "--out", "out", "--overwrite"]) == 2
    assert "a folder that holds the input, out/nodules.csv" in capsys.readouterr().err
    assert contents(desk) == before


def test_a_run_goes_on_from_its_own_config_file(home, tmp_path):
    command = ["train", "lung", "--data", f"{home}/balls.npy", "--config", f"{home}/run/config.yaml", *SMOKE]
    assert main([*command, "--out", f"{tmp_path}/run"]) == 0
    weights = [(folder / "run" / "weights.safetensors").read_bytes() for folder in (home, tmp_path)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("layers", ["3", "8_2", "16_4_32"])
def test_the_layers_are_the_same_by_option_and_by_setting(home, tmp_path, layers):
    command = ["train", "lung", "--data", f"{home}/balls.npy", *SMOKE, "--set", "iterations=2"]
    assert main([*command, "--layers", layers, "--out", f"{tmp_path}/option"]) == 0
    assert main([*command, "--set", f"layers={layers}", "--out", f"{tmp_path}/setting"]) == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("option", "setting")]
    assert weights[0] == weights[1]


def test_output_into_a_closed_pipe_is_no_error(home):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "synthorax", "features", f"{home}/balls.npy"]
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


# The functions behind the verbs


def test_the_functions_do_what_the_verbs_do(home, balls, tmp_path):
    outcome = sx.train("lung", home / "balls.npy", tmp_path / "run", preset="smoke", device="cpu")
    assert outcome.finished
    weights = [(folder / "run" / "weights.safetensors").read_bytes() for folder in (home, tmp_path)]
    assert weights[0] == weights[1]
    for model in (str(tmp_path / "run"), tmp_path / "run", sx.load(home / "run")):
        made = sx.sample(model, 10, seed=7)
        np.testing.assert_array_equal(made.masks, np.load(home / "made" / "shapes.npy"))
    found = sx.features(made.masks)
    assert found.names == [str(i) for i in range(10)]
    np.testing.assert_allclose(found.values, table(home / "made" / "features.csv")[1], rtol=1e-8)
    np.testing.assert_array_equal(sx.features(balls).values, sx.features(home / "balls.npy").values)
    assert list(found.rows()[0]) == ["nodule", *(f"f{i}" for i in range(1, 13))]


@pytest.mark.parametrize(
    "call",
    [
        lambda home: sx.features("nowhere.npy"),
        lambda home: sx.features(np.ones((20, 40))),
        lambda home: sx.features(np.zeros((1, *GRID), bool)),
        lambda home: sx.features(np.full((1, *GRID), np.nan)),
        lambda home: sx.features(home / "balls.npy", convention="mine"),
        lambda home: sx.features(home / "balls.npy", spacing_mm=(0, 1, 1)),
        lambda home: sx.features(home / "balls.npy", spacing_mm=(1, 1)),
        lambda home: sx.sample(home / "run", -1),
        lambda home: sx.sample(home / "run", 1, seed=-1),
        lambda home: sx.sample(home, 1),
        lambda home: sx.train("kidney", home / "balls.npy", home / "new"),
        lambda home: sx.train("lung", home / "balls.npy", home / "new", preset="huge"),
        lambda home: sx.train("lung", home / "balls.npy", home / "new", settings={"depth": 3}),
        lambda home: sx.lidc_shapes(readers=5),
    ],
    ids=range(14),
)
def test_a_mistake_in_a_call_is_an_input_error(home, call):
    with pytest.raises(InputError):
        call(home)
    assert not (home / "new").exists()


@pytest.mark.parametrize("name", ["kidney", "_private", "api_"])
def test_an_unknown_name_of_the_package_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(sx, name)


def test_every_public_name_is_there():
    assert set(sx.__all__) <= set(dir(sx))
    assert all(callable(getattr(sx, name)) for name in sx.__all__)


def test_nodules_of_a_trained_generator_go_into_a_scan(desk, capsys):
    command = "inject chest.nii.gz --auto 1 --diameter 12 --shapes run --seed 4 --json --out new"
    assert main(command.split()) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["attributes"]["diameter_mm"] == pytest.approx(12, abs=4)
    manifest = json.loads((desk / "new" / "manifest.json").read_text())
    assert manifest["model_sha256"] == sx.load("run").sha256
    assert read_image(desk / "new" / "chest_mask.nii.gz").voxels.max() == 1
