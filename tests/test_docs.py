"""What the documentation tells users to type."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synthorax.io.images import write_image
from test_store import chest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_step_of_the_page_on_own_data_works(tmp_path):
    (tmp_path / "scans").mkdir()
    for i, name in enumerate("abc"):
        ct, mask = chest(seed=i)
        write_image(tmp_path / "scans" / f"{name}.nii.gz", ct)
        write_image(tmp_path / "scans" / f"{name}_mask.nii.gz", replace(ct, voxels=mask))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    python = ""
    for language, name, text in BLOCK.findall((ROOT / "docs" / "own-data.md").read_text()):
        if language == "csv":
            (tmp_path / name).write_text(text)
            continue
        if language == "python":
            python += text
        command = [sys.executable, "-c", python] if language == "python" else ["bash", "-ec", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
    assert (tmp_path / "Dataset501_Nodules" / "dataset.json").is_file()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/own-data.md"])
def test_links_within_the_project_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
