"""The proof itself: mutants depend on the seed only, and their outcomes are judged as the page says."""

from random import Random

import pytest

from prove_kinds import KINDS, Kind, nifti, nodule_table, thorax
from prove_mutants import Mutant, mutants, prove
from prove_mutations import Damage, blind_bytes, damage, damaged_arguments
from prove_outcomes import Sound, judge, snapshot
from prove_processes import Ended

IMAGE = Kind("image", nifti("ct.nii", thorax()), ("ct.nii",), ("prepare scans in --out out",), "nifti")
COMMAND = ["prepare", "scans", "in", "--out", "out"]


def test_there_are_more_than_forty_kinds_of_input_and_every_verb_is_tried():
    verbs = {command.split()[0] for kind in KINDS for command in kind.commands}
    assert len({kind.name for kind in KINDS}) == len(KINDS) > 40
    assert verbs >= {"info", "prepare", "inject", "features", "export", "pack", "unpack", "verify", "sample", "train"}


def test_a_mutant_is_the_same_whenever_it_is_made(tmp_path):
    for build, target, form in ((nodule_table, "nodules.csv", "csv"), (IMAGE.build, "ct.nii", "nifti")):
        made = []
        for again in range(2):
            folder = tmp_path / f"{target}{again}"
            build(folder)
            for number in range(12):
                rng = Mutant(0, "x", number).rng
                if (folder / target).is_file() and not (folder / target).is_symlink():
                    made.append((again, number, damage(rng, folder, target, form, is_sealed=False, is_optional=False)))
        assert [one[1:] for one in made if one[0] == 0] == [one[1:] for one in made if one[0] == 1]


def test_blind_damage_changes_the_bytes():
    before = bytes(range(256)) * 8
    assert sum(blind_bytes(Random(i), before)[0] != before for i in range(200)) > 195
    command = ["info", "in/ct.nii.gz"]
    assert any(damaged_arguments(Random(i), command)[0] != command for i in range(5))


def test_the_kinds_come_in_turn():
    found = list(mutants(0, 200, ["stl", "mha"]))
    assert [mutant.kind for mutant in found[:4]] == ["mha", "stl", "mha", "stl"]
    assert len({(mutant.kind, mutant.number) for mutant in found}) == 200


@pytest.fixture
def where(tmp_path):
    for name in ("in", "tmp", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "ct.nii").write_bytes(b"x")
    return tmp_path


def judged(where, code, stderr="", *, knowable=True, cpu_s=0.1, memory_gb=0.5, before=None):
    ended = Ended(code, "", stderr, cpu_s, memory_gb, 0.2)
    known = snapshot(where / "in") if before is None else before
    sound = Sound(0, [["another result"], []], 0.1)
    return judge(IMAGE, COMMAND, "ct.nii", Damage("x", knowable), sound, ended, known, where)


@pytest.mark.parametrize(
    ("code", "stderr", "faults"),
    [
        (2, "synthorax: in/ct.nii: found nothing; expected a scan\n", []),
        (2, "synthorax: it is broken\n", ["vague"]),
        (2, "a library\nsynthorax: in/ct.nii: found nothing; expected a scan\n", ["lines"]),
        (1, "Traceback (most recent call last):\n  x\nValueError: y\n", ["traceback"]),
        (1, "synthorax: in/ct.nii: failed in a way that nobody foresaw\n", ["exit"]),
        (-11, "", ["signal"]),
        (0, "", ["silent"]),
        (0, "left out: in/ct.nii: found nothing\n", []),
        (0, "x.py:3: UserWarning: y\n", ["silent", "noise"]),
    ],
)
def test_an_end_is_judged_by_its_code_and_words(where, code, stderr, faults):
    assert judged(where, code, stderr).faults == faults


def test_another_result_of_a_sound_file_cannot_be_known(where):
    assert judged(where, 0, knowable=False).verdict == "unknowable"


def test_time_memory_leftovers_and_changed_inputs_are_faults(where):
    assert judged(where, 0, knowable=False, cpu_s=6.0).faults == ["cpu"]
    assert judged(where, 0, knowable=False, memory_gb=2.1).faults == ["memory"]
    assert judged(where, 0, knowable=False, before={}).faults == ["changed"]
    (where / ".tmp-1-out").mkdir()
    assert "left" in judged(where, 0, knowable=False).faults


@pytest.mark.prove
def test_a_hundred_mutants_are_right_or_told(tmp_path):
    found = prove(100, 3, tmp_path / "mutants", tmp_path / "results.jsonl")
    assert [row for row in found if row["verdict"] == "wrong"] == []
