"""Small pictures of the demonstrations, to be kept with a memory for `tasm show`."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from PIL import Image

from tasm.demonstrations import Conversation, Picture
from tasm.errors import DemonstrationError
from tasm.memory.entry import DemonstrationEntry
from tasm.view.heat_maps import data_uri

LONGEST_SIDE = 256
SMALLEST_SIDE = 32
JPEG_FROM_PIXELS = 64 * 64  # below this a PNG is small anyway, and sharp


def thumbnails(demonstrations: Iterable[Conversation]) -> dict[str, bytes]:
    """Return a PNG or JPEG of every picture, by the picture's SHA-256; at most 256 pixels wide.

    ```python
    memory.save("birds.tasm", pictures=thumbnails(demonstrations))
    ```

    Raises `DemonstrationError` where a picture's file is gone by now.
    """
    found: dict[str, bytes] = {}
    for demonstration in demonstrations:
        for picture in demonstration.pictures:
            if picture.sha256 not in found:
                found[picture.sha256] = _encoded(picture.load(), LONGEST_SIDE)
    return found


class LaterThumbnails(Mapping[str, bytes]):
    """Thumbnails of picture files, each made when it is asked for, by the picture's SHA-256.

    ```python
    memory.save("birds.tasm", pictures=LaterThumbnails(memory.demonstrations))
    ```

    Pictures that are no files of their own have none. Asking raises `DemonstrationError` where a
    file is gone by now, or holds another picture.
    """

    def __init__(self, entries: Iterable[DemonstrationEntry]) -> None:
        self._paths = {
            picture.sha256: Path(picture.path)
            for entry in entries
            for picture in entry.pictures
            if picture.path is not None
        }

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __getitem__(self, sha256: str) -> bytes:
        picture = Picture(self._paths[sha256])
        if picture.sha256 != sha256:
            raise DemonstrationError(
                f"{picture.path} changed while it was in use: its pixels are no longer those that "
                "were read. Start again with the files at rest."
            )
        return _encoded(picture.load(), LONGEST_SIDE)


def within(pictures: dict[str, bytes], most_bytes: int) -> dict[str, bytes]:
    """Return thumbnails that together take about `most_bytes`, made smaller where they must be.

    ```python
    >>> within({"a": b"..."}, 1000)
    {'a': b'...'}
    ```
    """
    total = sum(map(len, pictures.values()))
    if total <= most_bytes:
        return pictures
    factor = (most_bytes / total) ** 0.5
    return {name: _smaller(content, factor) for name, content in pictures.items()}


def address(content: bytes) -> str:
    """Return a thumbnail as a data URI."""
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
    return data_uri(content, kind)


def size(content: bytes) -> tuple[int, int]:
    """Return a thumbnail's width and height in pixels."""
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def _smaller(content: bytes, factor: float) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        side = max(SMALLEST_SIDE, int(factor * max(image.size)))
        if max(image.size) <= side:
            return content
        return _encoded(image, side, as_jpeg=image.format == "JPEG")


def _encoded(image: Image.Image, side: int, *, as_jpeg: bool = False) -> bytes:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    if as_jpeg or image.width * image.height > JPEG_FROM_PIXELS:
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
