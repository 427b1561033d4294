"""Recognises a file by its first bytes, whatever its name."""

import re
import zlib

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
    (344, b"ni1\0", "NIfTI"),
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


_CONTAINERS = (  # place, bytes, FFmpeg's name of the format
    *((4, mark, "mov") for mark in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"GIF8", "gif"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"\0\0\x01\xba", "mpeg"),
)
_SOUNDS = {b"fLaC": "FLAC", b"OggS": "OGG", b"ID3": "MP3", b".snd": "AU", b"caff": "CAF"}
_NUMBER = re.compile(rb"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?|nan|NaN|NA|")


def video_format(head: bytes) -> str | None:
    """FFmpeg's name of the container that a file's first `HEAD` bytes announce, if it can hold moving pictures: mov
    (MP4, MOV), matroska (MKV, WebM), avi, gif, flv, asf (WMV), mpeg, mpegts or ogg. Whether it does (an MP4 may hold
    sound only, a GIF one picture) is seen when it is opened."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] == b"ftyp" and (head[8:12] in _BRANDS or head[8:11] in (b"M4A", b"M4B", b"M4P")):
        return None
    if head[:4] == b"OggS":
        return "ogg" if b"\x80theora" in head else None
    if any(
        head[first : first + 1] == head[first + step : first + step + 1] == b"G" for first, step in ((0, 188), (4, 192))
    ):
        return "mpegts"
    return next((name for place, mark, name in _CONTAINERS if head[place:].startswith(mark)), None)


def audio_format(head: bytes, name: str = "") -> str | None:
    """WAV, FLAC, OGG, MP3, AIFF, AU, CAF, or AAC (which is not read), by a file's first `HEAD` bytes. The frames of MP3
    and AAC begin with too few known bits, so there the name must agree."""
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:11] in (b"ftypM4A", b"ftypM4B", b"ftypM4P"):
        return "AAC"
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0" and name.lower().endswith((".mp3", ".mp2", ".aac")):
        return "AAC" if head[1] & 0x06 == 0 else "MP3"  # the bits of the layer
    if head[:4] == b"OggS" and video_format(head):
        return None
    return next((kind for mark, kind in _SOUNDS.items() if head.startswith(mark)), None)


def is_series(head: bytes, name: str) -> bool:
    """A table of numbers (CSV or TSV by name, and numbers in at least half of the fields of its second to last whole
    lines), or an .npy file of one axis, or of two where the shorter has at most 32 values and the other eight times as
    many. Parquet and NPZ files do not show it in their first bytes: see `series.holds_series`."""
    if head.startswith(b"\x93NUMPY"):
        shape = re.search(rb"'descr': '[<>|=]?[fiu]\d+'.*'shape': \((\d+), ?(\d*)\)", head)
        sides = sorted(int(side) for side in shape.groups() if side) if shape else []
        return len(sides) == 1 or (len(sides) == 2 and sides[0] <= 32 and sides[1] >= 8 * sides[0])
    if not name.lower().endswith((".csv", ".tsv")):
        return False
    head = head.replace(b"\0", b"")  # UTF-16, as some spreadsheets write it
    lines = [line for line in head.splitlines()[:-1] if line.strip() and line[:1] not in b"#%"]
    fields = [field.strip() for line in lines[1:] for field in re.split(rb"[;\t]|,\s*", line)]
    return 2 * sum(_NUMBER.fullmatch(field) is not None for field in fields) >= len(fields) > 0


_REAL = rb"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|NaN)"
_ROW = re.compile(rb"%b(?:(?:\s*[,;]\s*|\s+)%b){2,}" % (_REAL, _REAL))


def points_format(head: bytes, name: str = "") -> str | None:
    """PLY, LAS, OFF, OBJ or XYZ (lines of numbers, by name: .xyz, .pts, .asc, .txt ...), by a file's first `HEAD`
    bytes. An .obj file that begins with comments is known by its name. Arrays do not show it in their first bytes."""
    name = name.lower()
    if re.match(rb"ply[ \t]*\r?\n", head) or head.startswith(b"LASF"):
        return "PLY" if head[:3] == b"ply" else "LAS"
    if b"\0" in head:
        return None
    lines = [line.strip() for line in head.splitlines()]
    content = [line for line in lines if line and not line.startswith((b"#", b"//"))]
    if content and re.match(rb"(ST)?C?N?4?n?OFF\b|OFF\d", content[0]):
        return "OFF"
    if any(re.match(rb"v\s+[-+\d.]+[-+\d.eE]*\s+[-+\d.]", line) for line in content) or name.endswith(".obj"):
        return "OBJ"
    rows = [line for line in (content if head.endswith(b"\n") else content[:-1]) if _ROW.fullmatch(line)]
    if not name.endswith((".xyz", ".xyzn", ".xyzrgb", ".pts", ".asc", ".txt")) or len(rows) < min(2, len(content) - 1):
        return None
    return None if not rows or (name.endswith(".txt") and all(map(_is_box, rows))) else "XYZ"


def _is_box(row: bytes) -> bool:
    """A line of YOLO's annotations: a class, then a box or a polygon of an odd number of values in all, in 0..1."""
    first, *rest = (float(number) for number in re.split(rb"[\s,;]+", row.strip()))
    return first % 1 == 0 <= first and len(rest) % 2 == 0 and len(rest) >= 4 and all(0 <= n <= 1 for n in rest)


def volume_format(head: bytes, name: str = "") -> str | None:
    """NIfTI (packed by gzip or not) or DICOM, by a file's first `HEAD` bytes. DICOM without its preamble, and gzip that
    shows too little of what is in it, need the name to agree. Stacks of TIFF are told by `tiff_kind`."""
    name = name.lower()
    if head[128:132] == b"DICM":
        return "DICOM"
    bare = head[:2] == b"\x08\0" and (head[4:6].isupper() or head[6:8] == b"\0\0")  # the group, then a type or a length
    if bare and name.endswith((".dcm", ".dicom", ".ima")):
        return "DICOM"
    packed = head[:2] == b"\x1f\x8b"
    if packed:
        try:
            head = zlib.decompressobj(31).decompress(head, HEAD)
        except zlib.error:
            return None
    if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):  # ni: its values lie in another file
        return "NIfTI"
    whole = head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # the size of its header, 348
    if whole and name.endswith(".hdr"):  # Analyze's, which has no sign of its own
        return "NIfTI"
    return "NIfTI" if packed and whole and len(head) < 347 and name.endswith((".nii.gz", ".nii")) else None


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
