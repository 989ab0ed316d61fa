"""A picture that a demonstration or a query shows: its place, its pixels, its identity."""

import hashlib
import weakref
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

from PIL import Image

from tasm.demonstrations.pixels import UnreadablePicture, decode
from tasm.errors import DemonstrationError

HELD_BYTES = 1 << 27
"""Decoded pixels that are held at most, of all pictures together: those that came first."""


class Picture:
    """One picture, decoded when asked for; two pictures are equal when their pixels are.

    ```python
    picture = Picture(Path("birds/wren.png"))
    picture.load().size      # (640, 480)
    picture.sha256           # '5f0c…', of the decoded pixels
    ```

    `source` is a path, the bytes of a picture file, or a `PIL.Image.Image`. What was decoded is
    held for whoever comes next, up to `HELD_BYTES`: beyond, a thousand pictures take no more memory
    than their sources, and are decoded again.
    """

    def __init__(self, source: Path | bytes | Image.Image, *, name: str | None = None) -> None:
        self.path: Path | None = source if isinstance(source, Path) else None
        """Where the picture lies; None when it came in memory."""
        self.name: str = name or (str(source) if isinstance(source, Path) else "picture in memory")
        """What messages call the picture."""
        # An image in memory may change after it was handed over, so its pixels are taken now.
        self._source = self._decode(source) if isinstance(source, Image.Image) else source

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the size and the decoded RGB pixels, 64 hex digits."""
        image = self._decode(self._source)
        if not isinstance(self._source, Image.Image) and _HOLDER.takes(self, image):
            self._held = image
        return _digest(image)

    def load(self) -> Image.Image:
        """Return the picture as a new `PIL.Image.Image` in mode RGB, upright.

        Raises `DemonstrationError` when it cannot be decoded, or when its file, read again, holds
        other pixels than those that were hashed.
        """
        held = self.__dict__.get("_held")
        if held is not None:
            return held.copy()
        image = self._decode(self._source)
        known = self.__dict__.get("sha256")
        if self.path is not None and known is not None and _digest(image) != known:
            raise DemonstrationError(
                f"{self.path} changed while it was in use: its pixels are no longer those that "
                "were read. Start again with the files at rest."
            )
        return image

    def _decode(self, source: Path | bytes | Image.Image) -> Image.Image:
        try:
            return decode(source)
        except UnreadablePicture as error:
            raise DemonstrationError(f"{self.name}: found {error}; expected a picture.") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_held"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Picture({self.name!r})"


class _Holder:
    """Counts the decoded pixels that pictures hold."""

    def __init__(self) -> None:
        self._bytes, self._lock = 0, RLock()  # a picture may go at any time

    def takes(self, picture: Picture, image: Image.Image) -> bool:
        """Whether a picture may hold its pixels; they count until it is gone."""
        count = 3 * image.width * image.height
        with self._lock:
            if self._bytes + count > HELD_BYTES:
                return False
            self._bytes += count
        weakref.finalize(picture, self._released, count).atexit = False
        return True

    def _released(self, count: int) -> None:
        with self._lock:
            self._bytes -= count


_HOLDER = _Holder()


def _digest(image: Image.Image) -> str:
    digest = hashlib.sha256(b"tasm picture RGB\0")
    for side in image.size:
        digest.update(side.to_bytes(8, "little"))
    digest.update(image.tobytes())
    return digest.hexdigest()
