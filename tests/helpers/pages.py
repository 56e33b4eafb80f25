"""Pages of the documentation, followed step by step."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(page, folder):
    """Do what a page says."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    python = ""
    for language, name, text in BLOCK.findall((ROOT / "docs" / page).read_text()):
        if language == "csv":
            (folder / name).write_text(text)
            continue
        if language == "python":
            python += text
        command = [sys.executable, "-c", python] if language == "python" else ["bash", "-ec", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
