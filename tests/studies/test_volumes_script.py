"""The results page of whole chests says what was found, with its verdict."""

import pytest

import results_volumes as script
from synthorax.datasets.chest_grid import ChestGrid
from synthorax.metrics.estimates import Estimate
from synthorax.studies.chest_fidelity import BLURRED_CHESTS, REAL_REAL, SliceDistances
from synthorax.studies.volumes_page import VolumesReport


def report(**fids):
    rows = {
        name: SliceDistances(Estimate(fid, fid - 1, fid + 1), Estimate(0, 0, 0), {"axial": fid}, 1.0, Estimate(1, 1, 1))
        for name, fid in fids.items()
    }
    return VolumesReport(None, rows, {}, "slice reader", {}, ChestGrid((8, 8, 8)), {}, ())


@pytest.mark.parametrize(("fid", "said"), [(14.0, "under half of it"), (16.0, "0.60 of it, not under half")])
def test_the_distance_beyond_real_chests_is_told_beside_the_3d_gans(fid, said):
    line = script.far_line(
        report(**{REAL_REAL: 10.0, BLURRED_CHESTS: 12.0, "slices": fid, "gan": 20.0}), "slices", "gan"
    )
    assert said in line
    assert line.endswith("Real chests that are blurred by a voxel exceed it by 2.00.")


@pytest.mark.parametrize(
    ("seconds", "gigabytes", "flags", "said"),
    [
        (
            24.0,
            1.0,
            ["avx512_bf16"],
            "12.0 s if 2 cores share them evenly, and 1.00 GB; goal 13 s and 1.5 GB without AMX: reached.",
        ),
        (24.0, 1.0, ["amx_bf16"], "goal 6 s and 1.5 GB with AMX: missed."),
        (24.0, 1.6, ["avx512_bf16"], "goal 13 s and 1.5 GB without AMX: missed."),
    ],
)
def test_seconds_and_memory_are_told_beside_their_goals(seconds, gigabytes, flags, said):
    chest = {"system": "ct-sgan", "preset": "compact", "depth": 128, "precision": "bf16"}
    costs = {
        "chests": [chest | {"cpu_seconds": seconds, "seconds": seconds, "gigabytes": gigabytes}],
        "steps": [],
        "parameters": {},
        "flags": flags,
    }
    assert any(said in line for line in script.cost_lines(costs))
