"""Volumes of generated voxels in files: NIfTI of any direction, series of DICOM slices."""

import imagecodecs
import numpy as np
import SimpleITK as sitk

TURNS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS, of NIfTI": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, -1, 0),
    "oblique and flipped": (0.8, -0.6, 0, 0.48, 0.64, -0.6, -0.36, -0.48, -0.8),
}


def scan(direction=TURNS["LPS"], size=(6, 5, 4), spacing=(0.7, 0.8, 2.5)) -> sitk.Image:
    """An image whose value is 10 times the distance to the patient's head, in mm."""
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 7.25, 100))
    image.SetDirection(direction)
    for index in np.ndindex(size):
        point = image.TransformIndexToPhysicalPoint(tuple(map(int, index)))
        image[tuple(map(int, index))] = round(10 * point[2])
    return image


def write_series(folder, slices, uid="1.2.3", spacing=2.0, intercept=-1024, transfer="plain"):
    """Write stored values (D, H, W), uint16, as a CT series; z is 0, 2, 4, ... mm.

    ``transfer`` is "plain", or "JPEG-LS" or "JPEG 2000", lossless.
    """
    import pydicom
    from pydicom.encaps import encapsulate

    folder.mkdir(parents=True, exist_ok=True)
    codecs = {"JPEG-LS": (imagecodecs.jpegls_encode, "1.2.840.10008.1.2.4.80")}
    codecs["JPEG 2000"] = (
        lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
        "1.2.840.10008.1.2.4.90",
    )
    for number, pixels in enumerate(slices):
        name = f"{uid}.{number}"
        data = pydicom.Dataset()
        data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.CTImageStorage, name
        data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = uid, "1.2", "CT"
        data.ImagePositionPatient = [0, 0, number * spacing]
        data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.5, 0.5]
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 0, 1, intercept
        data.PixelData, syntax = pixels.tobytes(), pydicom.uid.ExplicitVRLittleEndian
        if transfer != "plain":
            encode, syntax = codecs[transfer]
            data.PixelData = encapsulate([encode(pixels)])
            data["PixelData"].VR = "OB"
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = name
        data.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return folder
