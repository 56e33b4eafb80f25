"""Runs the command in separate processes."""

import subprocess
import sys


def loaded_by(*arguments):
    """Return the names of the modules that a process has imported after the command, which must succeed."""
    code = (
        f"import sys; from synthorax.cli import main; code = main({list(arguments)!r}); "
        "print(*sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())
