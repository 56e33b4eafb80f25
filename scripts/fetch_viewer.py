"""Fetch the studio's viewer, niivue, from npm into the package: `make studio`.

The bundle is not part of the repository. Its version and hash are fixed here; its licence is in the package beside it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from synthorax.provenance import fingerprint

PACKAGE, VERSION = "@niivue/niivue", "0.69.0"
BUNDLE = "package/dist/index.js"
BUNDLE_SHA256 = "d6c2be4feb1ad53b2ac76b4196da8d8fd2263b662b511c55ca0fd127eb6a6532"
VENDOR = Path(__file__).parents[1] / "src" / "synthorax" / "studio" / "page" / "vendor"


def fetch(target: Path) -> None:
    """Write the bundle and the licence into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("fetch_viewer: npm is missing; install Node.js with npm, for example `apt-get install npm`")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        packed = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not packed:
            last = (done.stderr.strip().splitlines() or ["npm pack failed"])[-1]
            sys.exit(f"fetch_viewer: {PACKAGE} {VERSION} cannot be fetched: {last}")
        with tarfile.open(packed[0]) as archive:
            member = archive.extractfile(BUNDLE)
            content = b"" if member is None else member.read()
    if fingerprint(content) != BUNDLE_SHA256:
        sys.exit(f"fetch_viewer: {BUNDLE} of {PACKAGE} {VERSION} is not the file that was checked")
    target.mkdir(parents=True, exist_ok=True)
    text = content.decode().rsplit("//# sourceMappingURL", 1)[0]
    (target / "niivue.js").write_text(text)
    shutil.copyfile(target.parent / "niivue-licences.txt", target / "LICENCES.txt")
    print(f"{target / 'niivue.js'}: {PACKAGE} {VERSION}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=VENDOR)
    fetch(parser.parse_args().out)
