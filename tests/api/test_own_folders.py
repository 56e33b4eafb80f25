"""A folder or file of this tool's own, given where something else is expected, is told with what to do."""

import pytest

from synthorax import api
from synthorax.errors import InputError


def test_a_table_of_ones_own_is_no_luna16(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nodules.csv").write_text("image\na.nii.gz\n")
    said = "no annotations.csv of LUNA16, but nodules.csv; expected .* `synthorax prepare patches` reads"
    with pytest.raises(InputError, match=said):
        api.prepare("luna16", tmp_path / "in", out=tmp_path / "store")
