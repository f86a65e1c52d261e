"""DICOM files for tests, written with pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SPACING = (1.5, 0.75)


def data_set(sop_class: str, array: np.ndarray | None = None, uid: str = "1.2.3.4", **tags):
    """A data set with the common tags; ``array`` is (rows, columns) or (frames, rows, columns)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", uid
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    if array is not None:
        ds.Rows, ds.Columns = array.shape[-2:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 1
        ds.PixelData = array.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
        if value is None:
            delattr(ds, name)
    return ds


def write_slice(path: Path, hu: np.ndarray, z: float, **tags) -> None:
    """One axial slice (rows, columns) at (-5, 7, z) mm, stored with an intercept of -1024."""
    geometry = dict(
        ImagePositionPatient=[-5, 7, z],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=list(SPACING),
        RescaleSlope=1,
        RescaleIntercept=-1024,
    )
    sop_class = tags.pop("SOPClassUID", CT_IMAGE)
    data_set(sop_class, hu + 1024, **{**geometry, **tags}).save_as(path, enforce_file_format=True)


def write_series(folder: Path, hu: np.ndarray, step: float = 3.0, suffix: str = ".dcm", **tags) -> None:
    """A series of slices (D, H, W), with file names in reverse spatial order."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, plane in enumerate(hu):
        write_slice(folder / f"{tags.get('uid', '1')}_{len(hu) - k:03d}{suffix}", plane, step * k, **tags)


def write_enhanced(path: Path, hu: np.ndarray, order=None, slopes=None, **tags) -> None:
    """An enhanced multi-frame CT (D, H, W), with frames in any order and one slope per frame."""
    from pydicom.dataset import Dataset

    def item(**values) -> Dataset:
        ds = Dataset()
        for name, value in values.items():
            setattr(ds, name, value)
        return ds

    order = list(range(len(hu))) if order is None else order
    slopes = np.ones(len(hu)) if slopes is None else slopes
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=9)],
    )
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-5, 7, 3.0 * k])],
            PixelValueTransformationSequence=[item(RescaleSlope=slopes[k], RescaleIntercept=-1024, RescaleType="HU")],
        )
        for k in order
    ]
    stored = np.stack([(hu[k] + 1024) / slopes[k] for k in order])
    ds = data_set(ENHANCED_CT, stored, NumberOfFrames=len(order), **tags)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
