"""Writes files like those of scanners, treatment planning systems and the tools of LIDC's readers."""

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from prove_kinds import segmentation
from synthorax.nodule import RATINGS


def write_slices(folder, *, count=4, low_mm=100.0, step_mm=2.0, first=1, seed=0, change=None, **elements):
    """Write CT slices of 6 x 5 random HU, named 0001.dcm, 0002.dcm and so on; return the folder.

    Args:
        first: instance number of the first slice, from which the names count too.
        change: called with each header and its index before it is written.
        elements: DICOM elements that all slices have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shared = {
        "PatientID": "P1",
        "PatientName": "One^Person",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
    }
    shared |= {"FrameOfReferenceUID": "1.2.3.5"} | elements
    for i in range(count):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        d.Modality, d.InstanceNumber, d.ImageType = "CT", first + i, ["ORIGINAL", "PRIMARY", "AXIAL"]
        for name, value in shared.items():
            setattr(d, name, value)
        d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, low_mm + step_mm * i]
        d.PixelSpacing, d.Rows, d.Columns, d.SamplesPerPixel = [1, 1], 6, 5, 1
        d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored, d.HighBit = "MONOCHROME2", 16, 16, 15
        d.PixelRepresentation, d.RescaleSlope, d.RescaleIntercept = 1, 1, -1024
        d.PixelData = rng.integers(0, 2000, (6, 5)).astype("<i2").tobytes()
        if change:
            change(d, i)
        d.save_as(folder / f"{first + i:04d}.dcm", enforce_file_format=True)
    return folder


def bare(file):
    """Write a DICOM file again without preamble and file meta group, as treatment planning systems do."""
    buffer = io.BytesIO()
    header = pydicom.Dataset(pydicom.dcmread(file))
    pydicom.dcmwrite(buffer, header, implicit_vr=True, little_endian=True, enforce_file_format=False)
    file.write_bytes(buffer.getvalue())


def edit(file, **elements):
    """Change elements of a DICOM file; an element set to None is deleted."""
    header = pydicom.dcmread(file)
    for name, value in elements.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.save_as(file)


def circle(cx, cy, r, z, n=40):
    """Points [n, (x, y, z)] on a circle in a slice."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([cx + r * np.cos(t), cy + r * np.sin(t), np.full(n, z)])


def square(z, low, high):
    """Corners [4, (z, y, x)], in voxels, of a square in a slice."""
    return np.array([[z, low, low], [z, low, high], [z, high, high], [z, high, low]], float)


def write_contours(path, slices, structures, *, kind="CLOSED_PLANAR", frames=(), series=True, images=True):
    """Write an RTSTRUCT of a series.

    Args:
        slices: headers of the series.
        structures: (name, contours [n, (x, y, z) mm]) of each, in the order of the file.
        frames: (name, frame of reference) of structures in another frame than the series.
        series: whether the file names the series.
        images: whether each contour names its slice.
    """
    header, first = Dataset(), slices[0]
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.Modality, header.PatientID = "RTSTRUCT", first.PatientID
    header.StudyInstanceUID, header.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    if series:
        of_series, study = Dataset(), Dataset()
        of_series.SeriesInstanceUID = first.SeriesInstanceUID
        study.RTReferencedSeriesSequence = [of_series]
        frame.RTReferencedStudySequence = [study]
    header.ReferencedFrameOfReferenceSequence = [frame]
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures, start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = dict(frames).get(name, first.FrameOfReferenceUID)
        item.ReferencedROINumber, item.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            if images:
                image = Dataset()
                image.ReferencedSOPClassUID = first.SOPClassUID
                image.ReferencedSOPInstanceUID = min(
                    slices, key=lambda s: abs(float(s.ImagePositionPatient[2]) - points[0][2])
                ).SOPInstanceUID
                contour.ContourImageSequence = [image]
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.4f}" if abs(v) < 1e9 else f"{v:g}" for v in np.ravel(points)]
            item.ContourSequence.append(contour)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(item)
    header.save_as(path, enforce_file_format=True)


def write_segments(path, slices, masks, names, kind="BINARY", *, references=True, edit=None, **more):
    """Write a DICOM SEG of a series.

    Args:
        slices: headers of the series.
        masks: one for each name, or one label map of all.
        references: whether the file names the series.
        edit: called with the data set before it is written.
    """
    uids = (generate_uid(), generate_uid())
    made = segmentation(slices, masks, names, kind, uids=uids, **more)
    if not references:
        del made.ReferencedSeriesSequence
    if edit:
        edit(made)
    made.save_as(path)


def lidc_xml(readers, series, study=""):
    """The text of an annotation file of LIDC-IDRI.

    Args:
        readers: for each reader the outline of one nodule in each slice, points (x, y) by the z of the patient in mm.
        series: UID of the scan.
        study: UID of the study.
    """
    sessions = ""
    for outlines in readers:
        ratings = "".join(f"<{n}>3</{n}>" for n in RATINGS if n != "internal_structure")
        rois = ""
        for z, points in outlines.items():
            edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
            rois += f"<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>{edges}</roi>"
        characteristics = f"<characteristics>{ratings}<internalStructure>1</internalStructure></characteristics>"
        sessions += (
            f"<readingSession><unblindedReadNodule>{characteristics}{rois}</unblindedReadNodule></readingSession>"
        )
    uids = f"<SeriesInstanceUid>{series}</SeriesInstanceUid><StudyInstanceUID>{study}</StudyInstanceUID>"
    return f'<?xml version="1.0"?><LidcReadMessage><ResponseHeader>{uids}</ResponseHeader>{sessions}</LidcReadMessage>'
