"""Small pictures of the demonstrations, to be kept with a memory for `tasm show`."""

import io
from collections.abc import Iterable

from tasm.demonstrations import Demonstration

LONGEST_SIDE = 256
JPEG_FROM_PIXELS = 64 * 64  # below this a PNG is small anyway, and sharp


def thumbnails(demonstrations: Iterable[Demonstration]) -> dict[str, bytes]:
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
                image = picture.load()
                image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                buffer = io.BytesIO()
                if image.width * image.height > JPEG_FROM_PIXELS:
                    image.save(buffer, "JPEG", quality=85)
                else:
                    image.save(buffer, "PNG", optimize=True)
                found[picture.sha256] = buffer.getvalue()
    return found
