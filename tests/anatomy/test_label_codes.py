"""The meaning of codes in label maps: bundled tables, a table of the user, and unknown codes."""

import numpy as np
import pytest

from synthorax.anatomy.label_codes import TABLES, classes_of, find_table
from synthorax.anatomy.tissue import TissueClass
from synthorax.errors import InputError
from synthorax.volume import Volume

OUTSIDE, OTHER, FAT, WATER, SOFT, BONE, NODULE = TissueClass


def labels(*codes):
    return Volume(np.array([[codes]], np.uint8), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "codes", "expected"),
    [
        ("thesis", range(6), [OTHER, FAT, WATER, SOFT, BONE, NODULE]),
        ("classes", range(7), list(TissueClass)),
        ("phantom", range(10), [OUTSIDE, OTHER, OTHER, SOFT, FAT, SOFT, SOFT, BONE, OTHER, OUTSIDE]),
        # spleen, upper lobe, oesophagus, trachea, first lumbar vertebra, heart, humerus, autochthonous muscle, first
        # and last rib, sternum, costal cartilages
        (
            "totalsegmentator",
            [1, 10, 15, 16, 31, 51, 69, 86, 92, 115, 116, 117],
            [SOFT, OTHER, SOFT, OTHER, BONE, SOFT, BONE, SOFT, BONE, BONE, BONE, SOFT],
        ),
    ],
)
def test_each_code_of_a_table_is_its_tissue(name, codes, expected):
    found, _ = classes_of("map", labels(*codes), find_table(name))
    assert found.voxels[0, 0].tolist() == expected


def test_totalsegmentators_table_has_its_117_structures_and_the_background():
    assert sorted(TABLES["totalsegmentator"].classes) == list(range(118))


def test_what_a_segmenter_leaves_without_a_label_is_soft_tissue_within_the_outline_of_the_rest_and_air_outside_it():
    codes = np.zeros((2, 40, 40), np.uint8)
    codes[0, 10:30, 10] = codes[0, 10:30, 29] = 92  # two ribs of the first slice; the second has no label
    found, notes = classes_of("map", Volume(codes, (1.0, 1.0, 1.0)), TABLES["totalsegmentator"])
    assert (found.voxels[0, 10:30, 11:29] == SOFT).all()
    assert (found.voxels[0, :9] == OUTSIDE).all()
    assert (found.voxels[1] == OUTSIDE).all()
    assert notes[0].startswith("360 voxels without a label")


def test_unknown_codes_are_named_with_the_table_to_give_and_those_that_have_them():
    with pytest.raises(InputError) as refused:
        classes_of("map.nii.gz", labels(0, 3, 7, 8, 9), find_table("thesis"))
    said = str(refused.value)
    assert "map.nii.gz: found codes 7-9; expected codes of the table thesis (0 other; 1 fat;" in said
    assert "--codes FILE gives another table, a CSV file with the columns code and class" in said
    assert said.endswith("the codes fit the table phantom or totalsegmentator")


def test_a_table_of_ones_own_is_a_csv_of_codes_and_classes(tmp_path):
    (tmp_path / "own.csv").write_text("code,class\n0,outside\n40,Lung? no: other\n")
    with pytest.raises(InputError, match=r"row 3: '40', 'Lung\? no: other'; expected .* one of outside, other, fat"):
        find_table(tmp_path / "own.csv")
    (tmp_path / "own.csv").write_text("code,class\n0,outside\n40,Other\n500,bone\n")
    codes = Volume(np.array([[[500, 40, 0]]], np.uint16), (1.0, 1.0, 1.0))
    assert classes_of("map", codes, find_table(tmp_path / "own.csv"))[0].voxels.tolist() == [[[BONE, OTHER, OUTSIDE]]]


def test_a_table_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(
        InputError,
        match="codes: found 'mine'; expected classes, thesis, phantom, totalsegmentator, hu for a CT, or a CSV",
    ):
        find_table("mine")
