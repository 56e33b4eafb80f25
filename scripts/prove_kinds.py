"""The kinds of input that mutants are made of.

For each kind: how to build a sound one, which of its files are damaged, and which commands a user gives it to.
Every command runs in a folder that holds the input as `in`; what it writes goes to `out`. DICOM, NIfTI, NRRD, STL, XML
and CSV are written with other libraries than synthorax, or by hand, as its users' files are.
"""

from __future__ import annotations

import csv
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Build = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        name: of the kind, one word.
        build: writes a sound input into a folder.
        targets: patterns of the files that mutants damage, relative to the folder.
        commands: what is run on it, `in` being the input and `out` what is written.
        form: what a target is, which picks the mutations that know its structure: `dicom`, `nifti`, `header` (lines of
            text before voxels), `json`, `yaml`, `csv`, `xml`, `zip`, `npy`, `safetensors`, `stl`, `lines` or `bytes`.
        is_sealed: whether a checksum covers the target, so that no other content of it may pass for the same.
        is_optional: whether a command does as well without the target.
        is_resumed: whether the command goes on in the folder that it is given, and so may change it.
        every: only every so many rounds have a mutant of the kind, whose commands take long.
    """

    name: str
    build: Build
    targets: tuple[str, ...]
    commands: tuple[str, ...]
    form: str
    is_sealed: bool = False
    is_optional: bool = False
    is_resumed: bool = False
    every: int = 1


def run(*arguments: str) -> None:
    """Run a verb that has to succeed; it writes a part of an input."""
    from synthorax.cli import main

    if main(arguments) != 0:
        raise RuntimeError(f"a sound input could not be built: synthorax {' '.join(arguments)}")


def thorax(shape: tuple[int, int, int] = (12, 32, 32), seed: int = 0) -> NDArray[np.int16]:
    """HU [z, y, x] of a trunk with two lungs and noise; no lung is found in so small a scan, and none is looked for."""
    _depth, height, width = shape
    _, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    trunk = ((y - height / 2) / (0.44 * height)) ** 2 + ((x - width / 2) / (0.47 * width)) ** 2 < 1
    hu[trunk] = 40
    for middle in (0.31, 0.69):
        hu[trunk & (((y - height / 2) / (0.3 * height)) ** 2 + ((x - middle * width) / (0.14 * width)) ** 2 < 1)] = -850
    return np.rint(hu + np.random.default_rng(seed).normal(0, 10, shape)).astype(np.int16)


def chest(step: float = 4.0) -> NDArray[np.int16]:
    """HU [z, y, x] of a chest of 60 x 64 x 96 voxels of `step` mm, whose lungs are found."""
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n in (60, 64, 96)], indexing="ij")
    lungs = (z / 100) ** 2 + (y / 70) ** 2 + ((abs(x) - 70) / 45) ** 2 <= 1
    hu = np.where((y / 110) ** 2 + (x / 160) ** 2 <= 1, np.where(lungs, -850, 40), -1000)
    return np.rint(hu + np.random.default_rng(0).normal(0, 10, hu.shape)).astype(np.int16)


def ball(shape: tuple[int, int, int] = (12, 32, 32), center: Sequence[float] = (6, 16, 10), r: float = 3.0) -> NDArray:
    """uint8 mask [z, y, x] of a ball, whose voxels along z are twice as long."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = ((z - center[0]) * 2) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= r * r
    return inside.astype(np.uint8)


# DICOM, by pydicom and highdicom


def write_series(
    folder: Path,
    hu: NDArray[np.int16],
    *,
    origin: Sequence[float] = (-16, -16, 100),
    pixel: float = 1.0,
    step: float = 2.0,
    patient: str = "P1",
    uid: str | None = None,
) -> list:
    """A CT series; the datasets of its slices."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    number = f"{patient}{uid}".encode().hex()[:8]
    root = f"2.25.{int(number, 16)}"
    written = []
    for i, plane in enumerate(hu):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = UID(f"{root}.1.{i + 1}")
        d.Modality, d.PatientID, d.PatientName = "CT", patient, f"{patient}^Test"
        d.StudyInstanceUID, d.FrameOfReferenceUID = f"{root}.2", f"{root}.4"
        d.SeriesInstanceUID = uid or f"{root}.3"
        d.StudyDate = d.StudyTime = d.AccessionNumber = d.PatientBirthDate = d.PatientSex = d.StudyID = ""
        d.ReferringPhysicianName = ""
        d.SeriesNumber, d.InstanceNumber, d.ImageType = 2, i + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.PatientPosition, d.ImageOrientationPatient = "HFS", [1, 0, 0, 0, 1, 0]
        d.ImagePositionPatient = [origin[0], origin[1], origin[2] + step * i]
        d.PixelSpacing, d.SliceThickness, d.KVP = [pixel, pixel], step, 120
        d.Rows, d.Columns = plane.shape
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation = 15, 1
        d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024, "HU"
        d.PixelData = (plane.astype(np.int32) + 1024).astype("<i2").tobytes()
        d.save_as(folder / f"{i + 1:04d}.dcm", enforce_file_format=True)
        written.append(d)
    return written


def dicom_series(folder: Path) -> None:
    """Twelve slices of a scan."""
    write_series(folder, thorax())


def dicom_two_patients(folder: Path) -> None:
    """Two patients' series, a folder each."""
    for patient, seed in (("P1", 0), ("P2", 1)):
        write_series(folder / patient, thorax(seed=seed), patient=patient)


def dicom_chest(folder: Path) -> None:
    """A chest that a nodule can be put into."""
    write_series(folder, chest(), origin=(-190, -126, -118), pixel=4, step=4)


def dicom_compressed(folder: Path) -> None:
    """A scan whose slices are JPEG 2000 or run-length encoded."""
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, RLELossless

    for i, slice_ in enumerate(write_series(folder, thorax())):
        if i % 2:
            slice_.compress(RLELossless, generate_instance_uid=False)
        else:
            stored, stream = slice_.pixel_array.clip(0).astype(np.uint16), BytesIO()
            Image.fromarray(stored).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
            slice_.PixelRepresentation = 0
            slice_.PixelData, slice_["PixelData"].is_undefined_length = encapsulate([stream.getvalue()]), True
            slice_.file_meta.TransferSyntaxUID = JPEG2000Lossless
        slice_.save_as(folder / f"{i + 1:04d}.dcm", enforce_file_format=True)


def enhanced_ct(folder: Path) -> None:
    """A scan in one file of many frames."""
    import highdicom

    slices = write_series(folder, thorax())
    for d in slices:
        d.Manufacturer = d.ManufacturerModelName = d.DeviceSerialNumber = d.SoftwareVersions = "x"
        d.KVP, d.AcquisitionNumber, d.PositionReferenceIndicator, d.BodyPartExamined = None, 1, "", "CHEST"
        d.InstitutionName, d.SpecificCharacterSet = "", "ISO_IR 100"
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices,
        series_instance_uid="2.25.7.3",
        series_number=5,
        sop_instance_uid="2.25.7.1",
        instance_number=1,
    )
    for file in folder.iterdir():
        file.unlink()
    made.save_as(folder / "frames.dcm")


def dicom_seg(folder: Path) -> None:
    """A scan with a nodule and a lung in a DICOM SEG."""
    slices = write_series(folder / "ct", thorax())
    made = segmentation(slices, [ball(), ball(r=6)], ["Lung nodule", "Right lung"], uids=("2.25.8.3", "2.25.8.1"))
    made.save_as(folder / "seg.dcm")


def segmentation(
    slices: Sequence[Any],
    masks: Any,
    names: Sequence[str],
    kind: str = "BINARY",
    *,
    uids: tuple[str, str],
    **more: Any,
) -> Any:
    """A SEG as highdicom makes it: a mask [z, y, x] for each name, or one label map.

    Args:
        kind: BINARY, FRACTIONAL or LABELMAP.
        uids: of its series and of itself.
        more: of highdicom's options.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    described = [
        highdicom.seg.SegmentDescription(
            segment_number=i,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Nodule,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for i, name in enumerate(names, start=1)
    ]
    series_uid, own_uid = uids
    return highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=masks if kind == "LABELMAP" else np.stack(masks, -1),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=series_uid,
        series_number=300,
        sop_instance_uid=own_uid,
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **more,
    )


def rtstruct(folder: Path) -> None:
    """A scan with a tumour and the body in an RTSTRUCT."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    first = write_series(folder / "ct", thorax())[0]
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.481.3")
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = UID("2.25.9.1")
    d.Modality, d.PatientID, d.PatientName = "RTSTRUCT", first.PatientID, first.PatientName
    d.StudyInstanceUID, d.SeriesInstanceUID, d.StructureSetLabel = first.StudyInstanceUID, "2.25.9.3", "RTS"
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for number, (name, r) in enumerate((("GTV-1", 4.0), ("BODY", 14.0)), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, first.FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = "MANUAL"
        item.ReferencedROINumber, item.ContourSequence = number, []
        for z in (108, 110, 112, 114):
            contour = Dataset()
            points = np.column_stack([r * np.cos(around), r * np.sin(around), np.full(len(around), z)])
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.3f}" for v in points.ravel()]
            item.ContourSequence.append(contour)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(item)
    d.save_as(folder / "rs.dcm", enforce_file_format=True)


# Images, by nibabel, SimpleITK and by hand


def nifti(name: str, voxels: NDArray, *, spacing: float = 1.0, slope: float | None = None, version: int = 1) -> Build:
    """A NIfTI image with its orientation stated twice."""

    def build(folder: Path) -> None:
        import nibabel

        affine = np.diag([-spacing, -spacing, 2 * spacing if spacing == 1 else spacing, 1.0])
        affine[:3, 3] = 16, 16, 100
        kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
        image = kind(voxels.T, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        image.header.set_xyzt_units("mm")
        if slope is not None:
            image = kind((voxels.T.clip(-1024).astype(int) + 1024).astype(np.uint16), affine, image.header)
            image.header.set_data_dtype(np.uint16)
            image.header.set_slope_inter(slope, -1024)
        folder.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, folder / name)

    return build


def image(name: str, voxels: NDArray, *, compress: bool = False) -> Build:
    """An image by SimpleITK."""

    def build(folder: Path) -> None:
        import SimpleITK as sitk

        made = sitk.GetImageFromArray(voxels)
        made.SetSpacing((1.0, 1.0, 2.0))
        made.SetOrigin((-16.0, -16.0, 100.0))
        folder.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(made, str(folder / name), useCompression=compress)

    return build


def nrrd_layers(folder: Path) -> None:
    """A Slicer segmentation of two layers, beside its scan and a table."""
    image("ct.nrrd", thorax())(folder)
    layers = np.stack([ball(r=6), ball()])
    header = [
        "NRRD0004",
        "type: uint8",
        "dimension: 4",
        "space: left-posterior-superior",
        "sizes: 2 32 32 12",
        "space directions: none (1,0,0) (0,1,0) (0,0,2)",
        "kinds: list domain domain domain",
        "encoding: raw",
        "space origin: (-16,-16,100)",
        *(f"Segment{i}_ID:=S{i}" for i in (0, 1)),
        *(f"Segment{i}_Name:={name}" for i, name in enumerate(("right lung", "nodule"))),
        *(f"Segment{i}_LabelValue:=1" for i in (0, 1)),
        *(f"Segment{i}_Layer:={i}" for i in (0, 1)),
    ]
    voxels = np.moveaxis(layers, 0, -1).tobytes()
    (folder / "nodules.seg.nrrd").write_bytes("\n".join([*header, "", ""]).encode() + voxels)
    table(folder / "nodules.csv", [{"image": "ct.nrrd", "mask": "nodules.seg.nrrd", "mask_label": 1}])


def seg_nrrd(folder: Path) -> None:
    """A Slicer segmentation of one layer."""
    header = [
        "NRRD0004",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: 32 32 12",
        "space directions: (1,0,0) (0,1,0) (0,0,2)",
        "kinds: domain domain domain",
        "encoding: raw",
        "space origin: (-16,-16,100)",
        "Segment0_ID:=S0",
        "Segment0_Name:=nodule",
        "Segment0_LabelValue:=1",
        "Segment0_Layer:=0",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nodules.seg.nrrd").write_bytes("\n".join([*header, "", ""]).encode() + ball().tobytes())


def masked_scan(folder: Path) -> None:
    """A scan with a mask and a table that names both."""
    image("ct.mha", thorax())(folder)
    nifti("mask.nii.gz", ball())(folder)
    table(folder / "nodules.csv", [{"image": "ct.mha", "mask": "mask.nii.gz", "malignancy": "4 3", "patient_id": "A"}])


def chest_with_mask(folder: Path) -> None:
    """A chest and a mask of a nodule in it."""
    nifti("ct.nii.gz", chest(), spacing=4.0)(folder)
    nifti("mask.nii.gz", ball((60, 64, 96), (30, 32, 20), 2.5), spacing=4.0)(folder)
    (folder / "patients.txt").write_text("\n".join(f"LIDC-IDRI-{i:04d}" for i in range(1, 28)))


def stl(folder: Path) -> None:
    """A binary STL of a tetrahedron."""
    corners = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]], np.float32)
    faces = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *corners[list(face)].ravel(), 0) for face in faces)
    header = b"SYNTHETIC: not a patient's. Made by hand for a proof".ljust(80)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nodule.stl").write_bytes(header + struct.pack("<I", len(faces)) + body)


# Tables and annotations, by hand


def table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """A CSV file."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def nodule_table(folder: Path) -> None:
    """Three scans and a table of nodules by centre and diameter."""
    rows: list[dict[str, object]] = []
    for i in range(3):
        image(f"{i}.mha", thorax(seed=i))(folder)
        rows.append(
            {
                "image": f"{i}.mha",
                "center_x_mm": -6.0 + i,
                "center_y_mm": 0.0,
                "center_z_mm": 112.0,
                "diameter_mm": 8.5,
                "patient_id": f"P{i}",
                "split": ("train", "val", "test")[i],
                "malignancy": "4 3",
            }
        )
    table(folder / "nodules.csv", rows)


def lidc(folder: Path) -> None:
    """An LIDC scan and its readings."""
    write_series(folder / "P1", thorax(), uid="1.2.3.999")
    edges = ((9, 13), (14, 13), (14, 18), (9, 18), (9, 13))
    edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in edges)
    names = "subtlety internalStructure calcification sphericity margin lobulation spiculation texture malignancy"
    ratings = "".join(f"<{name}>3</{name}>" for name in names.split())
    rois = "".join(
        f"<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>{edge}</roi>" for z in (110, 112, 114)
    )
    nodule = (
        f"<unblindedReadNodule><noduleID>1</noduleID><characteristics>{ratings}</characteristics>{rois}"
        "</unblindedReadNodule>"
    )
    (folder / "P1" / "069.xml").write_text(
        "<LidcReadMessage xmlns='http://www.nih.gov'><ResponseHeader><SeriesInstanceUid>1.2.3.999</SeriesInstanceUid>"
        f"<StudyInstanceUID>1.2.3</StudyInstanceUID></ResponseHeader>{f'<readingSession>{nodule}</readingSession>' * 2}"
        "</LidcReadMessage>"
    )


def luna16(folder: Path) -> None:
    """A LUNA16 scan with a nodule and candidates."""
    image("subset0.mhd", thorax())(folder / "subset0")
    for suffix in (".mhd", ".raw"):
        (folder / "subset0" / f"subset0{suffix}").rename(folder / "subset0" / f"1.2.3{suffix}")
    header = folder / "subset0" / "1.2.3.mhd"
    header.write_text(header.read_text().replace("subset0.raw", "1.2.3.raw"))
    place: dict[str, object] = {"seriesuid": "1.2.3", "coordX": -6.0, "coordY": 0.0, "coordZ": 112.0}
    table(folder / "annotations.csv", [place | {"diameter_mm": 8.5}])
    table(folder / "candidates_V2.csv", [place | {"class": 1}, place | {"coordX": 5.0, "class": 0}])


# What synthorax writes, by synthorax


def store(folder: Path) -> None:
    """A store of six cubes of three patients."""
    source = folder.parent / "source"
    rows: list[dict[str, object]] = []
    for i in range(6):
        image(f"{i}.mha", thorax(seed=i))(source)
        nifti(f"m{i}.nii.gz", ball())(source)
        split = ("train", "val", "test")[i // 2]
        rows.append({"image": f"{i}.mha", "mask": f"m{i}.nii.gz", "patient_id": f"P{i // 2}", "split": split})
    table(source / "nodules.csv", [row | {"malignancy": "4", "texture": "5"} for row in rows])
    run("prepare", "patches", str(source), "--out", str(folder), "--workers", "1")
    shutil.rmtree(source)


def store_in_folder(folder: Path) -> None:
    """A store beside what it was prepared from, to go on with."""
    masked_scan(folder / "source")
    run("prepare", "patches", str(folder / "source"), "--out", str(folder / "store"), "--workers", "1")


def pack(folder: Path) -> None:
    """A packed store."""
    folder.mkdir(parents=True, exist_ok=True)
    store(folder / "store")
    run("pack", str(folder / "store"), "--out", str(folder / "p.zip"), "--workers", "1")
    shutil.rmtree(folder / "store")


def shapes_stack(folder: Path) -> None:
    """Twelve shapes on LuNG's grid, each a ball."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [ball((20, 40, 40), (10, 20, 20), 5 + i / 2) for i in range(12)]
    np.save(folder / "shapes.npy", np.array(made).astype(np.float32))


def lung_run(folder: Path) -> None:
    """A run of LuNG, and the shapes it learned from."""
    shapes_stack(folder)
    run(*TRAIN.replace("in/", f"{folder}/").split())


def carded_model(folder: Path) -> None:
    """A model with a card, as those that come with the package."""
    from synthorax.provenance import sha256

    work = folder.parent / "work"
    lung_run(work)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "data.json", "weights.safetensors"):
        shutil.copy(work / "run" / name, folder / name)
    shutil.rmtree(work)
    digest = sha256(folder / "weights.safetensors")
    facts = f"name: small\nwhat: balls\nsystem: lung\npreset: smoke\nseed: 0\nsteps: 60\nweights_sha256: {digest}\n"
    rest = "figures:\n- figure: none\n  value: 1\npatients:\n  train: 12\nlicence: CC BY 3.0\n"
    (folder / "card.md").write_text(f"---\n{facts}{rest}---\n# small\n\nA model for a proof.\n")


def shape_samples(folder: Path) -> None:
    """A folder of shapes that LuNG made."""
    work = folder.parent / "work"
    lung_run(work)
    run("sample", str(work / "run"), "-n", "3", "--out", str(folder))
    shutil.rmtree(work)


def cube_samples(folder: Path) -> None:
    """A folder of CT cubes that AC-WGAN-GP made."""
    run("sample", "ac-wgan", "-n", "3", "--positive", "--formats", "mha", "--out", str(folder))


def injected(folder: Path) -> None:
    """A chest with a nodule put in, and a folder of it."""
    work = folder.parent / "work"
    nifti("ct.nii.gz", chest(), spacing=4.0)(work)
    run("inject", str(work / "ct.nii.gz"), "--auto", "1", "--diameter", "20", "--out", str(folder))
    shutil.rmtree(work)


SHAPES_STUDY = (
    "study shapes --data in/shapes.npy --out in/study --preset smoke --set iterations=4 --set reflected=false"
    " --training-seeds 1 --samples 100"
)


def shapes_study(folder: Path) -> None:
    """A finished study of shapes."""
    shapes_stack(folder)
    run(*SHAPES_STUDY.replace("in/", f"{folder}/").split())


BASELINES = "study baselines --data in/store --out in/study --preset smoke --tasks detection --trainings 1"


def baselines_study(folder: Path) -> None:
    """A finished study of a detector on cubes of twelve patients, whose corners are lung."""
    source = folder / "source"
    rows: list[dict[str, object]] = []
    shape = (20, 40, 40)
    for i in range(12):
        mask = ball(shape, (10, 20, 20), 4)
        hu = np.where(mask, 0, -850) + np.random.default_rng(i).normal(0, 20, shape)
        image(f"{i}.mha", np.rint(hu).astype(np.int16))(source)
        image(f"m{i}.mha", mask)(source)
        split = ("train", "val", "test")[i // 4]
        rows.append({"image": f"{i}.mha", "mask": f"m{i}.mha", "patient_id": f"P{i}", "split": split})
    table(source / "nodules.csv", rows)
    run("prepare", "patches", str(source), "--out", str(folder / "store"), "--workers", "1")
    shutil.rmtree(source)
    run(*BASELINES.replace("in/", f"{folder}/").split())


def settings_file(folder: Path) -> None:
    """A file of settings, and shapes to train on."""
    shapes_stack(folder)
    (folder / "settings.yaml").write_text("layers: '8_3_16_64'\niterations: 4\nbatch_size: 4\nlearning_rate: 0.003\n")


def nothing(folder: Path) -> None:
    """Sound inputs of several kinds, for commands whose arguments are damaged."""
    nifti("ct.nii.gz", chest(), spacing=4.0)(folder)
    shapes_stack(folder / "shapes")
    masked_scan(folder / "scans")
    store(folder / "store")


PREPARE = "prepare {} in --out out --workers 1"
SCANS, PATCHES = PREPARE.format("scans"), PREPARE.format("patches")
INJECT = "inject in/{} --auto 1 --diameter 20 --out out"
STORE = ("info in", "info in --check", "export in --layout monai --out out", "pack in --out out", "verify in")
TRAIN = "train lung --data in/shapes.npy --out in/run --preset smoke --set iterations=4 --set reflected=false"

KINDS = (
    Kind(
        "dicom-slice", dicom_series, ("*.dcm",), ("info in", SCANS, "verify in/0004.dcm", "info in/0004.dcm"), "dicom"
    ),
    Kind("dicom-folder", dicom_two_patients, ("*/*.dcm",), (SCANS, "info in"), "dicom"),
    Kind("dicom-compressed", dicom_compressed, ("*.dcm",), ("info in", SCANS), "dicom"),
    Kind(
        "dicom-chest",
        dicom_chest,
        ("0030.dcm", "0031.dcm"),
        (INJECT.format(""), INJECT.format("") + " --keep-identity"),
        "dicom",
    ),
    Kind("enhanced-ct", enhanced_ct, ("*.dcm",), ("info in", SCANS, "info in/frames.dcm"), "dicom"),
    Kind("dicom-seg", dicom_seg, ("seg.dcm",), (SCANS, "info in", "verify in/seg.dcm"), "dicom"),
    Kind("rtstruct", rtstruct, ("rs.dcm",), (SCANS, "info in"), "dicom"),
    Kind("nifti", nifti("ct.nii", thorax()), ("ct.nii",), ("info in/ct.nii", SCANS, "verify in/ct.nii"), "nifti"),
    Kind(
        "nifti-gz", nifti("ct.nii.gz", thorax()), ("ct.nii.gz",), ("info in/ct.nii.gz", SCANS), "bytes", is_sealed=True
    ),
    Kind("nifti-2", nifti("ct.nii", thorax(), version=2), ("ct.nii",), ("info in/ct.nii", SCANS), "bytes"),
    Kind("nifti-scaled", nifti("ct.nii", thorax(), slope=1.0), ("ct.nii",), ("info in/ct.nii", SCANS), "nifti"),
    Kind("nifti-chest", chest_with_mask, ("ct.nii.gz",), (INJECT.format("ct.nii.gz"),), "bytes", is_sealed=True),
    Kind(
        "nifti-mask",
        chest_with_mask,
        ("mask.nii.gz",),
        (
            INJECT.format("ct.nii.gz --nodules in/mask.nii.gz"),
            "features in/mask.nii.gz",
            "inject in/ct.nii.gz --shapes in/mask.nii.gz --auto 1 --diameter 20 --out out",
        ),
        "bytes",
        is_sealed=True,
    ),
    Kind(
        "patients-file",
        chest_with_mask,
        ("patients.txt",),
        (INJECT.format("ct.nii.gz --patients in/patients.txt"),),
        "lines",
    ),
    Kind("mha", image("ct.mha", thorax()), ("ct.mha",), ("info in/ct.mha", SCANS, "verify in/ct.mha"), "header"),
    Kind("mha-compressed", image("ct.mha", thorax(), compress=True), ("ct.mha",), ("info in/ct.mha", SCANS), "header"),
    Kind(
        "mhd-zraw", image("ct.mhd", thorax(), compress=True), ("ct.mhd", "ct.zraw"), ("info in/ct.mhd", SCANS), "header"
    ),
    Kind("nrrd", image("ct.nrrd", thorax()), ("ct.nrrd",), ("info in/ct.nrrd", SCANS, "verify in/ct.nrrd"), "header"),
    Kind(
        "nrrd-compressed", image("ct.nrrd", thorax(), compress=True), ("ct.nrrd",), ("info in/ct.nrrd", SCANS), "header"
    ),
    Kind("nhdr", image("ct.nhdr", thorax()), ("ct.nhdr", "ct.raw*"), ("info in/ct.nhdr", SCANS), "header"),
    Kind(
        "seg-nrrd",
        seg_nrrd,
        ("nodules.seg.nrrd",),
        ("info in/nodules.seg.nrrd", "features in/nodules.seg.nrrd"),
        "header",
    ),
    Kind("seg-nrrd-layers", nrrd_layers, ("nodules.seg.nrrd",), ("info in/nodules.seg.nrrd",), "header"),
    Kind("stl", stl, ("nodule.stl",), ("verify in/nodule.stl",), "stl"),
    Kind("mask-of-table", masked_scan, ("mask.nii.gz",), (PATCHES, SCANS), "bytes", is_sealed=True),
    Kind("nodules-csv", nodule_table, ("nodules.csv",), (PATCHES, SCANS), "csv"),
    Kind("lidc-xml", lidc, ("P1/069.xml",), (PREPARE.format("lidc"),), "xml"),
    Kind("luna16-annotations", luna16, ("annotations.csv",), (PREPARE.format("luna16"),), "csv"),
    Kind("luna16-candidates", luna16, ("candidates_V2.csv",), (PREPARE.format("luna16"),), "csv", is_optional=True),
    Kind("store-index", store, ("zarr.json",), STORE, "json"),
    Kind("store-case", store, ("*/zarr.json",), STORE, "json"),
    Kind("store-array", store, ("*/*/zarr.json",), STORE, "json", is_sealed=True),
    Kind("store-chunk", store, ("*/*/c/**/*",), STORE, "bytes", is_sealed=True),
    Kind(
        "store-request",
        store_in_folder,
        ("store/prepare.json",),
        ("info in/store", "prepare patches in/source --out in/store --workers 1"),
        "json",
        is_resumed=True,
    ),
    Kind("pack", pack, ("p.zip",), ("unpack in/p.zip --out out",), "zip", is_sealed=True),
    Kind("pack-index", pack, ("p.zip:index.json",), ("unpack in/p.zip --out out",), "json"),
    Kind("pack-ct", pack, ("p.zip:*.ct",), ("unpack in/p.zip --out out",), "bytes", is_sealed=True),
    Kind("pack-mask", pack, ("p.zip:*.[!cj]*",), ("unpack in/p.zip --out out",), "bytes", is_sealed=True),
    Kind(
        "run-config",
        lung_run,
        ("run/config.yaml",),
        ("info in/run", "sample in/run -n 2 --out out", TRAIN),
        "yaml",
        is_resumed=True,
    ),
    Kind(
        "run-weights",
        lung_run,
        ("run/weights.safetensors",),
        ("info in/run", "sample in/run -n 2 --out out", TRAIN.replace("in/run", "out") + " --from in/run"),
        "safetensors",
    ),
    Kind("run-state", lung_run, ("run/state.pt",), (TRAIN,), "zip", is_resumed=True),
    Kind("run-log", lung_run, ("run/log.jsonl",), (TRAIN, "info in/run"), "lines", is_optional=True, is_resumed=True),
    Kind(
        "run-data",
        lung_run,
        ("run/data.json",),
        ("info in/run", "sample in/run -n 2 --out out", TRAIN),
        "json",
        is_resumed=True,
    ),
    Kind("model-card", carded_model, ("card.md",), ("info in", "sample in -n 2 --out out"), "yaml", is_optional=True),
    Kind(
        "model-weights",
        carded_model,
        ("weights.safetensors",),
        ("sample in -n 2 --out out",),
        "safetensors",
        is_sealed=True,
    ),
    Kind(
        "sample-manifest",
        shape_samples,
        ("manifest.json",),
        ("info in", "verify in", "export in --layout monai --out out"),
        "json",
    ),
    Kind(
        "sample-features",
        shape_samples,
        ("features.csv",),
        ("info in", "verify in", "export in --layout monai --out out"),
        "csv",
        is_optional=True,
    ),
    Kind(
        "sample-shapes",
        shape_samples,
        ("shapes.npy",),
        ("features in/shapes.npy", "info in/shapes.npy", TRAIN.replace("in/run", "out")),
        "npy",
    ),
    Kind("sample-meshes", shape_samples, ("meshes/0001.stl",), ("verify in", "verify in/meshes/0001.stl"), "stl"),
    Kind(
        "cube-table",
        cube_samples,
        ("nodules.csv",),
        ("export in --layout monai --out out", "prepare patches in --out out --workers 1"),
        "csv",
    ),
    Kind(
        "cube-images",
        cube_samples,
        ("images/*.mha", "*/*.mha"),
        ("export in --layout monai --out out", "prepare patches in --out out --workers 1", "verify in"),
        "header",
    ),
    Kind(
        "injected-folder",
        injected,
        ("nodules.csv", "manifest.json", "*.nii.gz"),
        (SCANS, PATCHES, "info in", "verify in"),
        "bytes",
    ),
    Kind(
        "shapes-stack",
        shapes_stack,
        ("shapes.npy",),
        ("features in/shapes.npy", "info in/shapes.npy", TRAIN.replace("in/run", "out")),
        "npy",
    ),
    Kind(
        "settings-yaml",
        settings_file,
        ("settings.yaml",),
        ("train lung --data in/shapes.npy --out out --preset smoke --config in/settings.yaml",),
        "yaml",
    ),
    Kind(
        "shapes-study",
        shapes_study,
        ("study/results.json", "study/**/*.json", "study/*.json"),
        (SHAPES_STUDY,),
        "json",
        is_resumed=True,
        every=10,
    ),
    Kind("baselines-scores", baselines_study, ("study/**/scores-*.npz",), (BASELINES,), "zip", is_resumed=True),
    Kind(
        "arguments",
        nothing,
        (),
        (
            INJECT.format("ct.nii.gz"),
            "prepare scans in/scans --out out --workers 1",
            "prepare patches in/scans --out out --workers 1",
            "features in/shapes/shapes.npy --out out",
            "export in/store --layout monai --out out",
            "pack in/store --out out --size 8,8,8",
            "sample ac-wgan -n 2 --seed 1 --out out",
            "train lung --data in/shapes/shapes.npy --out out --preset smoke --set iterations=4 --set reflected=false",
            "info in/ct.nii.gz",
            "verify in/store",
            "prepare phantom --scans 1 --spacing 12,12,12 --out out --workers 1",
        ),
        "arguments",
    ),
)


def main() -> None:
    """Print the kinds and their commands as JSON."""
    print(json.dumps({kind.name: kind.commands for kind in KINDS}, indent=1))


if __name__ == "__main__":
    main()
