"""Recognises a file by its first bytes, whatever its name."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF, as is the next
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_ENDINGS = {  # kinds of files that hold pictures, volumes, sounds or points and are not read (yet)
    "video": ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ogv .3gp .mts .m2ts .y4m",
    "audio": ".wav .mp3 .flac .ogg .oga .opus .m4a .aac .aif .aiff .wma",
    "DICOM": ".dcm .dicom .ima",
    "NIfTI": ".nii .nii.gz",
    "other medical volumes": ".mha .mhd .nrrd .nhdr .mgz .mgh .mnc",
    "point clouds or meshes": ".ply .pcd .las .laz .e57 .obj .stl .off .xyz .glb .gltf",
    "PDF": ".pdf",
    "SVG drawings": ".svg .svgz",
    "PostScript drawings": ".eps .ps .ai",
    "JPEG XL": ".jxl",
    "camera raw": ".dng .nef .cr2 .cr3 .arw .raf .rw2 .orf .pef .srw",
    "high dynamic range": ".exr .hdr .rgbe",
    "FITS": ".fits .fit .fts",
    "HDF5 or NetCDF": ".h5 .hdf5 .hdf .he5 .nc .zarr",
    "MATLAB": ".mat",
    "TFRecord": ".tfrecord .tfrecords",
    "whole slides": ".svs .ndpi .mrxs .scn .vsi .bif",
    "microscopy": ".czi .lif .nd2 .oib .oif .ims",
}
_KINDS = {ending: kind for kind, endings in _ENDINGS.items() for ending in endings.split()}
_CONTENT = (  # place, bytes, kind: for files whose name says nothing
    (128, b"DICM", "DICOM"),
    (0, b"%PDF", "PDF"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (8, b"WAVE", "audio"),
    (0, b"fLaC", "audio"),
    (0, b"OggS", "audio"),
    (0, b"ID3", "audio"),
    (344, b"n+1\0", "NIfTI"),
    (0, b"ply\n", "point clouds or meshes"),
    (0, b"LASF", "point clouds or meshes"),
    (0, b"<svg", "SVG drawings"),
    (0, b"\x89HDF", "HDF5 or NetCDF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"SIMPLE  =", "FITS"),
)
HEAD = 348  # bytes that tell a kind
_BMP_HEADERS = tuple(bytes([n, 0, 0, 0]) for n in (12, 16, 40, 52, 56, 64, 108, 124))
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", **dict.fromkeys((b"heic", b"heix", b"heim", b"mif1", b"msf1"), "HEIC")}


def sniff(head: bytes) -> str | None:
    """The image format that a file's first 32 bytes announce, or None. Only signatures that no other file has."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:  # many texts begin with BM
        return "BMP"
    return _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def other_kind(name: str, head: bytes) -> str | None:
    """What a file that is no image is, by its name or its first `HEAD` bytes: video, DICOM ...; None where that does
    not show."""
    name = name.lower()
    by_name = next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)
    return by_name or next((kind for place, mark, kind in _CONTENT if head[place:].startswith(mark)), None)


def what_else(data: bytes) -> str:
    """Why a file that no decoder knows is no image, in words that say what to do where that can be told."""
    head = data[:256].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "not an image but a Git LFS pointer: fetch the files with `git lfs pull`"
    if head.startswith((b"<!doctype html", b"<html")):
        return "not an image but a web page: the download failed"
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return "not an image of pixels but an SVG drawing"
    return "not an image"
