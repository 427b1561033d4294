"""A small DICOM series, a file for each slice."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write_series(folder: Path, seed: int, depth: int = 6, size: tuple[int, int] = (12, 10)) -> Path:
    """000.dcm and on, from feet to head."""
    folder.mkdir(parents=True)
    chance, series = np.random.default_rng(seed), generate_uid()
    for number in range(depth):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
        data.SeriesInstanceUID, data.InstanceNumber = series, number
        data.PixelSpacing, data.SliceThickness = [1.0, 1.0], 2
        data.ImagePositionPatient, data.ImageOrientationPatient = [0.0, 0.0, 2.0 * number], [1, 0, 0, 0, 1, 0]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.Rows, data.Columns = size
        data.PixelData = chance.integers(0, 4096, size).astype(np.uint16).tobytes()
        pydicom.dcmwrite(folder / f"{number:03d}.dcm", data, enforce_file_format=True)
    return folder
