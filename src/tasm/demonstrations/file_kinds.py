"""Names what a file is by how it is called and how it begins.

Knows names and first bytes only; decodes nothing.
"""

SUFFIXES = frozenset(
    # Read by Pillow.
    ".png .apng .jpg .jpeg .jpe .jif .jfif .mpo .webp .gif .bmp .dib .tif .tiff".split()
    + ".ppm .pgm .pbm .pnm .jp2 .j2k .jpx .jpf .jpc .avif .avifs".split()
    # Pictures all the same: whoever has them is told that they are not read.
    + ".heic .heif .hif .jxl .svg .svgz .ico .icns .tga .psd .eps .dds .exr .hdr .xcf .qoi".split()
    + ".raw .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw .dcm .wmf .emf .pcx .sgi".split()
)
"""File names that end like this, in small letters, are taken for pictures when a folder is read."""

_CONVERT = "save it as JPEG or PNG"
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file: run git lfs pull"),
    (b"%PDF", f"a PDF document, which is no picture: {_CONVERT}"),
    (b"%!PS", f"a PostScript document, which is no picture: {_CONVERT}"),
    (b"<svg", f"an SVG drawing, which is not read: {_CONVERT}"),
    (b"8BPS", f"a Photoshop file, which is not read: {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL picture, which is not read: {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL picture, which is not read: {_CONVERT}"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"<!doctype html", "a web page instead of a picture: download it again"),
    (b"<html", "a web page instead of a picture: download it again"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def kind_of(data: bytes) -> str | None:
    """Return a phrase for content that is known and not read, with the way out; else None.

    ```python
    >>> kind_of(b"%PDF-1.7")
    'a PDF document, which is no picture: save it as JPEG or PNG'
    ```
    """
    if data[4:8] == b"ftyp":
        brands = data[8 : int.from_bytes(data[:4], "big")] if len(data) < 4096 else data[8:64]
        if any(brand in brands for brand in (b"avif", b"avis")):
            return f"an AVIF picture, which Pillow does not read here: {_CONVERT}"
        if any(brand in brands[:64] for brand in _HEIC_BRANDS):
            return f"a HEIC picture, which is not read: {_CONVERT}"
        return "a video, which is not supported: expected a picture"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning.lower()):
            return kind
    if head.startswith(b"<?xml") and b"<svg" in head:
        return f"an SVG drawing, which is not read: {_CONVERT}"
    return None
