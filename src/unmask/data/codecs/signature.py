"""What a file is by its first bytes, whatever its name says."""

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
_BMP_HEADERS = tuple(bytes([n, 0, 0, 0]) for n in (12, 40, 52, 56, 64, 108, 124))
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
