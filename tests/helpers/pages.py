"""Follows pages of the documentation step by step."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


RUNS = "runs"
"""Beside the language of a block whose commands need runs of trained systems."""


def follow(page, folder, *, runs=False):
    """Do in a folder what a page of `docs` says: write its CSV files, run its commands and its Python code.

    A block of Python uses the variables of the blocks before it. The test fails if any block fails.

    Args:
        runs: whether to run also the blocks that need runs of trained systems; the folder must contain those.
    """
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    python = ""
    for language, name, text in BLOCK.findall((ROOT / "docs" / page).read_text()):
        if name == RUNS and not runs:
            continue
        if language == "csv":
            (folder / name).write_text(text)
            continue
        if language == "python":
            python += text
        command = [sys.executable, "-c", python] if language == "python" else ["bash", "-ec", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
