"""`inject` tells before the work that a wide nodule can take minutes."""

import pytest

from synthorax.cli import main


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(("diameter", "told"), [("36", True), ("30", False)])
def test_a_nodule_above_30_mm_is_told_before_the_scan_is_read(planned, diameter, told, tmp_path, capsys):
    asked = ["--auto", "2", "--diameter", f"8,{diameter}"]
    if planned:
        (tmp_path / "plan.csv").write_text(f"diameter_mm\n8\n{diameter}\n")
        asked = ["--plan", str(tmp_path / "plan.csv")]
    assert main(["inject", str(tmp_path / "missing.nii.gz"), *asked, "--out", str(tmp_path / "out")]) == 2
    assert ("a nodule of 36 mm can take minutes" in capsys.readouterr().err) == told
