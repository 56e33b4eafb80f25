"""Long proofs of reading data: five hundred broken files, and twenty kills."""

import gzip
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from synthorax import api
from synthorax.cli import main
from synthorax.io.dicom_out import write_ct_series, write_segmentation
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from tests.helpers.cubes import ball_in_lung, place, write_cubes
from tests.helpers.files import contents
from tests.helpers.foreign_files import square, write_contours

pytestmark = pytest.mark.prove

SECONDS = 5
BYTES = 2 * 1024**3
EACH = 45
"""Broken files of each kind; with the bombs more than five hundred."""
GIGABYTE = 1 << 30

XML = """<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>1.2</SeriesInstanceUid>
<StudyInstanceUID>1</StudyInstanceUID></ResponseHeader><readingSession><unblindedReadNodule><noduleID>1</noduleID>
<characteristics><subtlety>5</subtlety><internalStructure>1</internalStructure><calcification>6</calcification>
<sphericity>3</sphericity><margin>3</margin><lobulation>3</lobulation><spiculation>4</spiculation><texture>5</texture>
<malignancy>5</malignancy></characteristics><roi><imageZposition>-190.0</imageZposition><inclusion>TRUE</inclusion>
<edgeMap><xCoord>10</xCoord><yCoord>10</yCoord></edgeMap><edgeMap><xCoord>20</xCoord><yCoord>10</yCoord></edgeMap>
<edgeMap><xCoord>20</xCoord><yCoord>20</yCoord></edgeMap><edgeMap><xCoord>10</xCoord><yCoord>20</yCoord></edgeMap>
</roi></unblindedReadNodule></readingSession></LidcReadMessage>"""


@pytest.fixture
def folder(tmp_path):
    return write_cubes(tmp_path / "mine")


def image(suffix):
    def make(where):
        write_image(where / f"scan{suffix}", ball_in_lung()[0])
        return "scans", where / f"scan{suffix}"

    return make


def mask(where):
    ct, ball = ball_in_lung()
    write_image(where / "scan.mha", ct)
    write_image(where / "mask.nii.gz", replace(ct, voxels=ball))
    write_table(where / "nodules.csv", [{"image": "scan.mha", "mask": "mask.nii.gz"}])
    return "patches", where / "mask.nii.gz"


def table(where):
    write_image(where / "scan.mha", ball_in_lung()[0])
    row = {"image": "scan.mha", "patient_id": "P", "split": "val", "malignancy": "4 3"}
    write_table(where / "nodules.csv", [row | place(-14.4, 28.1, -188.1, 8)])
    return "patches", where / "nodules.csv"


def luna(where):
    write_image(where / "1.2.3.mhd", ball_in_lung()[0])
    row = {"seriesuid": "1.2.3", "coordX": -14.4, "coordY": 28.1, "coordZ": -188.1, "diameter_mm": 8}
    write_table(where / "annotations.csv", [row])
    return "luna16", where / "annotations.csv"


def dicom(where):
    write_ct_series(where / "ct", ball_in_lung((4, 16, 16))[0], mark=None)
    return "scans", where / "ct" / "0002.dcm"


def segmentation(where):
    ct, ball = ball_in_lung()
    headers = write_ct_series(where / "ct", ct, mark=None)
    write_segmentation(where / "seg.dcm", replace(ct, voxels=ball.astype(np.uint8)), headers, ["nodule"], mark=None)
    return "scans", where / "seg.dcm"


def structures(where):
    ct, _ = ball_in_lung()
    headers = write_ct_series(where / "ct", ct, mark=None)
    contours = [ct.to_world(square(z, 10.5, 20.5)) for z in (8, 9)]
    write_contours(where / "rt.dcm", headers, [("Nodule left", contours)], images=False)
    return "scans", where / "rt.dcm"


def xml(where):
    write_image(where / "ct.nii.gz", ball_in_lung()[0])
    (where / "a.xml").write_text(XML)
    return "lidc", where / "a.xml"


KINDS = {
    "nii": image(".nii"),
    "nii.gz": image(".nii.gz"),
    "mha": image(".mha"),
    "mhd": image(".mhd"),
    "nrrd": image(".nrrd"),
    "mask": mask,
    "table": table,
    "luna": luna,
    "dicom": dicom,
    "seg": segmentation,
    "rtstruct": structures,
    "xml": xml,
}
MASKS = ("mask", "seg", "rtstruct")
"""A mask that cannot be used costs its nodules alone: it is left out with a reason, and its scan is kept."""


def mutate(data, rng):
    """Bytes that were cut off, flipped, doubled, or overwritten by numbers that mean much."""
    data = bytearray(data)
    kind = rng.choice(["cut", "flip", "flip", "number", "number", "swap", "empty", "noise"])
    header = min(len(data), rng.choice([64, 400, 2000, len(data)]))
    if kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "flip":
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(header)] = rng.randrange(256)
    elif kind == "number":
        value = rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"99999", b"-1", b"nan", b"1e308"])
        at = rng.randrange(header)
        data[at : at + len(value)] = value
    elif kind == "swap":
        a, b = sorted(rng.randrange(header) for _ in range(2))
        data[a:b] = data[a:b][::-1]
    elif kind == "empty":
        data = bytearray()
    else:
        data = bytearray(rng.randbytes(len(data)))
    return bytes(data)


def too_slow(signum, frame):
    raise TimeoutError(f"more than {SECONDS} s")


def checked(kind, source, out, capsys):
    """Check that the verb ends in time, and on an error prints one line and leaves no store.

    Returns its exit code and what it said.
    """
    signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        code = main(["prepare", kind, str(source), "--out", str(out), "--workers", "1"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    said = capsys.readouterr().err
    assert code in (0, 2)
    assert "Traceback" not in said
    if code == 2:
        assert len([line for line in said.splitlines() if line.startswith("synthorax:")]) == 1
        assert not out.exists()
    shutil.rmtree(out, ignore_errors=True)
    return code, said


@pytest.mark.parametrize("kind", KINDS)
def test_broken_files_are_told_in_one_line_and_leave_nothing(kind, tmp_path, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = tmp_path / "source"
    source.mkdir()
    verb, target = KINDS[kind](source)
    sound, known = target.read_bytes(), sorted(p.name for p in tmp_path.rglob("*"))
    code, said = checked(verb, source, tmp_path / "store", capsys)
    assert code == 0
    assert " left out: " not in said
    noticed = 0
    for number in range(EACH):
        target.write_bytes(mutate(sound, random.Random(f"{kind} {number}")))
        code, said = checked(verb, source, tmp_path / "store", capsys)
        noticed += code == 2 or (kind in MASKS and " left out: " in said)
    assert noticed > EACH / 10
    assert sorted(p.name for p in tmp_path.rglob("*")) == known
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < BYTES


@pytest.mark.parametrize("size", [(30000, 30000, 30000), (2047, 2047, 2047), (600, 600, 600)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_headers_that_claim_too_much_allocate_nothing(suffix, size, tmp_path, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = tmp_path / f"scan{suffix}"
    write_image(source, ball_in_lung()[0])
    data = source.read_bytes()
    text = b"%d %d %d" % size
    if suffix == ".mha":
        data = data.replace(b"DimSize = 40 40 20", b"DimSize = " + text)
    elif suffix == ".nrrd":
        data = data.replace(b"sizes: 40 40 20", b"sizes: " + text)
    else:
        data = gzip.decompress(data) if suffix == ".nii.gz" else data
        data = data[:42] + struct.pack("<3h", *size) + data[48:]
        data = gzip.compress(data) if suffix == ".nii.gz" else data
    source.write_bytes(data)
    assert checked("scans", source, tmp_path / "store", capsys)[0] == 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES / 4


def test_a_compression_bomb_is_not_unpacked(tmp_path, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = tmp_path / "scan.nii.gz"
    write_image(source, ball_in_lung()[0])
    head = gzip.decompress(source.read_bytes())[:352]
    for size in ((1290, 1290, 1290), (40, 40, 20)):
        with gzip.open(source, "wb", compresslevel=6) as stream:
            stream.write(head[:42] + struct.pack("<3h", *size) + head[48:])
            for _ in range(4 * 64):
                stream.write(bytes(GIGABYTE // 64))
        assert source.stat().st_size < 8_000_000
        assert checked("scans", source, tmp_path / "store", capsys)[0] == 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES


def test_entities_that_multiply_are_not_expanded(tmp_path, capsys):
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(10))
    write_image(tmp_path / "ct.nii.gz", ball_in_lung()[0])
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><LidcReadMessage>&a10;</LidcReadMessage>'
    )
    checked("lidc", tmp_path, tmp_path / "store", capsys)


def test_twenty_kills_end_in_the_same_bytes(folder, tmp_path):
    """`kill -9` at random moments of `prepare`, which goes on each time, and once at the end is let finish."""
    api.prepare("patches", folder, tmp_path / "whole", workers=2)
    command = [sys.executable, "-m", "synthorax", "prepare", "patches", str(folder), "--out", str(tmp_path / "killed")]
    rng, killed = random.Random(0), 0
    for _ in range(20):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 2.0))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if rng.random() < 0.3:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    subprocess.run(command, check=True, capture_output=True)
    assert killed >= 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_a_second_try_ends_well(folder, tmp_path):
    """A limit on the size of written files stands in for a full disk."""
    out = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "synthorax",
        "prepare",
        "patches",
        str(folder),
        "--out",
        str(out),
        "--workers",
        "1",
    ]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert len(api.open_store(out)) == 6
