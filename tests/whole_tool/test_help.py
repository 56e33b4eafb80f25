"""Help appears at once: no verb's help imports slow modules."""

import subprocess
import sys

PROGRAM = """
import contextlib, io, sys
from synthorax.cli import VERBS, main
from synthorax.registry import registry

slow = {"torch", "SimpleITK", "matplotlib", "skimage", "sklearn", "highdicom", "lightning_fabric"}
found = slow & set(sys.modules)
for verb in ["", *VERBS, "train", *(f"train {name}" for name in registry().having(lambda entry: entry.is_trained))]:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*verb.split(), "--help"])
    assert "Usage" in text.getvalue(), verb
    if new := (slow & set(sys.modules)) - found:
        print(verb, "imports", ", ".join(sorted(new)))
        found |= new
"""


def test_no_verbs_help_imports_what_takes_seconds():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
