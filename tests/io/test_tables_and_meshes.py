"""Tables and meshes of other programs, and that written ones cannot harm other programs."""

import re

import numpy as np
import pytest

from synthorax.annotations.nodule_table import KNOWN, read_nodule_table
from synthorax.editing.plan_table import read_plan
from synthorax.errors import InputError
from synthorax.io.stl import read_stl, read_stl_header, write_stl
from synthorax.io.tables import misnamed_columns, read_table, write_table

ROWS = [
    {"image": "Müller.nii", "center_x_mm": "-12.5", "note": "a, b"},
    {"image": "b.nii", "center_x_mm": "3", "note": ""},
]
COMMAS = 'image,center_x_mm,note\nMüller.nii,-12.5,"a, b"\nb.nii,3,\n'


@pytest.mark.parametrize(
    "content",
    [
        COMMAS.encode(),
        COMMAS.encode("utf-8-sig"),
        COMMAS.encode("utf-16"),
        COMMAS.replace("\n", "\r\n").encode(),
        COMMAS.replace("note", "note,,").replace("b.nii,3,\n", "b.nii,3,,,\n\n,,\n").encode(),
        b"image;center_x_mm;note\nM\xc3\xbcller.nii;-12,5;a, b\nb.nii;3;\n",
        b"image\tcenter_x_mm\tnote\nM\xc3\xbcller.nii\t-12.5\ta, b\nb.nii\t3\t\n",
        b' image , center_x_mm,note\nM\xc3\xbcller.nii,-12.5,"a, b"\nb.nii,3,\n',
    ],
    ids=["plain", "byte order mark", "UTF-16", "CRLF", "empty columns", "semicolons", "tabs", "spaces"],
)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    assert read_table(tmp_path / "a.csv") == ROWS


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("image,note\nMüller,a\n".encode("latin1"), "not UTF-8"),
        ("image,note\na,b\n".encode("utf-16-le"), "zero bytes"),
        (b"image,mask,image\na,b,c\n", "the column 'image' twice"),
        (b"image,mask\na,b,c\n", "3 cells in line 2; expected 2 cells, as in the header"),
        (b"image,mask\na\n", "1 cells in line 2"),
        (b"image,mask\n", "no rows"),
        (b"\n\n,,\n", "no rows"),
        (b"image\n" + b"x" * 200_000, "field larger than field limit"),
        (b"<!DOCTYPE html><html>\n<p>,</p>\n", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"PK\x03\x04\xff\xff" + bytes(100), "a ZIP archive"),
        (b"", "no rows"),
        (b"a\n" + b"1\n" * 2_000_001, "2000002 lines"),
        (",".join(map(str, range(20_000))).encode() + b"\n", "20000 columns"),
    ],
)
def test_what_is_no_table_is_told_what_it_is(tmp_path, content, found):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv: found ") as caught:
        read_table(tmp_path / "a.csv")
    assert found in str(caught.value)


def test_a_table_that_is_no_file_is_refused(tmp_path):
    for name, found in ((tmp_path, "a folder"), (tmp_path / "gone.csv", "no such file")):
        with pytest.raises(InputError, match=found):
            read_table(name)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("a.nii,H1,train\nb.nii,H2,val\nc.nii,H1,test\n", r"patient H1 in two splits \(line 2: train; line 4: test\)"),
        (
            "a.nii,H1,train\nb.nii,H2,val\na.nii,H3,train\n",
            r"image a\.nii of several patients or splits in the lines 2, 4",
        ),
    ],
    ids=["patient", "image"],
)
def test_rows_of_a_table_that_contradict_each_other_are_named_by_their_lines(tmp_path, rows, found):
    (tmp_path / "nodules.csv").write_text(
        f"image,patient_id,split,mask\n{rows}".replace("\n", ",\n").replace("mask,", "mask")
    )
    with pytest.raises(InputError, match=found):
        read_nodule_table(tmp_path / "nodules.csv")


HEADER = "Image,Patient ID,Mask,Malignancy,Texture,diameter-mm,diameter,age\n"


def test_columns_are_known_in_other_writing_and_the_rest_is_kept_as_text(tmp_path):
    table = tmp_path / "nodules.csv"
    table.write_text(f"{HEADER}a.nii,H1,m.nii,4,Part solid,n/a,7,60\nb.nii,H2,m.nii,-,solid part-solid,12.5,7,61\n")
    first, second = read_nodule_table(table)
    assert (first.patient_id, second.patient_id) == ("H1", "H2")
    ((one,), (two,)) = first.nodules, second.nodules
    assert (one.attributes.malignancy, one.attributes.texture, one.attributes.diameter_mm) == (4, 3, None)
    assert (two.attributes.malignancy, two.ratings["texture"], two.attributes.diameter_mm) == (None, (5, 3), 12.5)
    assert one.extra == {"diameter": "7", "age": "60"}
    assert misnamed_columns(read_table(table, KNOWN)[0], KNOWN) == {"diameter": "diameter_mm"}


def test_a_column_that_is_there_under_its_known_name_is_not_taken_from_another(tmp_path):
    (tmp_path / "t.csv").write_text("image,Image\na.nii,b.nii\n")
    assert read_table(tmp_path / "t.csv", KNOWN) == [{"image": "a.nii", "Image": "b.nii"}]


def test_all_rows_with_a_fault_are_named_at_once(tmp_path):
    ratings = ["7", "malignant", "4", "4;9", "0"]
    rows = "".join(f"{i}.nii,m.nii,5,{rating}\n" for i, rating in enumerate(ratings))
    for name, read in (("nodules.csv", read_nodule_table), ("plan.csv", read_plan)):
        table = tmp_path / name
        table.write_text(f"image,mask,diameter_mm,malignancy\n{rows}")
        with pytest.raises(InputError) as error:
            read(table)
        found = error.value.args[1]
        bad = [2, 3, 5, 6] if read is read_nodule_table else [3]
        assert [int(n) for n in re.findall(r"line (\d+):", found)] == bad


def test_text_that_a_spreadsheet_would_run_is_made_harmless_and_comes_back(tmp_path):
    texts = ["=cmd|'/c calc'!A1", "+1+1", "@SUM(A1)", "-x", "'=x", "\tx", "-850", "+3.5", "a=b", "'quoted'"]
    write_table(tmp_path / "a.csv", [{"name": text, "value": -1.5, "n": -2} for text in texts])
    lines = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert [line.lstrip('"')[0] for line in lines] == ["'"] * 6 + ["-", "+", "a", "'"]
    assert [row["name"] for row in read_table(tmp_path / "a.csv")] == texts
    assert {(row["value"], row["n"]) for row in read_table(tmp_path / "a.csv")} == {("-1.5", "-2")}


def test_names_that_are_no_unicode_are_written_by_their_numbers(tmp_path):
    write_table(tmp_path / "a.csv", [{"name": b"caf\xe9".decode("utf-8", "surrogateescape")}])
    assert (tmp_path / "a.csv").read_text() == "name\ncaf\\udce9\n"


TRIANGLES = np.eye(3, dtype=np.float32)[None]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: content[:-1], "133 bytes for 1 triangles"),
        (lambda content: content + b"x", "135 bytes for 1 triangles"),
        (lambda content: content[:80] + b"\xff\xff\xff\xff" + content[84:], "4294967295 triangles"),
        (lambda content: content[:96] + b"\0\0\xc0\x7f" + content[100:], "corners that are not finite"),
        (lambda content: b"", "an empty file"),
        (lambda content: b"\xff" * 50, "50 bytes"),
        (lambda content: b"solid a\nfacet normal 0 0 1\nendsolid a\n" * 3, "a text STL file"),
    ],
)
def test_a_damaged_or_text_mesh_is_refused(tmp_path, change, found):
    write_stl(tmp_path / "a.stl", TRIANGLES, "mark")
    (tmp_path / "a.stl").write_bytes(change((tmp_path / "a.stl").read_bytes()))
    with pytest.raises(InputError, match=found):
        read_stl(tmp_path / "a.stl")


def test_a_text_mesh_is_known_by_its_name_and_has_no_mark_of_ours(tmp_path):
    (tmp_path / "a.stl").write_bytes(b"solid left lung\nfacet normal 0 0 1\nendsolid\n")
    assert read_stl_header(tmp_path / "a.stl") == "left lung"
