"""The studio's temporary files: none is left behind, and none of a studio that runs is taken."""

import subprocess
import sys

from synthorax.studio.folders import studio_files

KEPT = """
import sys, time
from pathlib import Path
from synthorax.studio.folders import studio_files
with studio_files(Path(sys.argv[1])) as folder:
    (folder / "upload").write_text("a scan")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_files_of_a_killed_studio_go_when_the_next_one_starts_and_those_of_a_running_one_stay(tmp_path):
    base = tmp_path / "studio"
    killed, running = (
        subprocess.Popen([sys.executable, "-c", KEPT, str(base)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    try:
        left, living = (one.stdout.readline().strip() for one in (killed, running))
        killed.kill()
        killed.wait(60)
        assert (base / left / "upload").is_file()
        with studio_files(base) as folder:
            assert not (base / left).exists()
            assert (base / living / "upload").is_file()
        assert not folder.exists()
    finally:
        for one in (killed, running):
            one.kill()
            one.wait(60)
            one.stdout.close()
