"""Decodes a picture file to upright 8-bit RGB, whatever it holds.

Orientation from EXIF is applied, palettes are resolved, transparency is laid on white, 16-bit grey
is scaled to 8 bits, of an animation the first frame is taken. Knows nothing of demonstrations; what
cannot be decoded raises `UnreadablePicture` with a phrase that says what was found.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasm.demonstrations.file_kinds import kind_of

MAX_PICTURE_PIXELS = 64_000_000
"""The largest picture that is decoded: a small file can hold a picture that fills the memory."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""The formats that are tried. Pillow's others include some that start programs."""

_ADDED_FORMATS = ("HEIF", "JXL")
"""Formats that are tried where a plugin of Pillow has registered them."""


class UnreadablePicture(Exception):
    """What was found where a picture was expected, as a phrase: `"an empty file"`."""


def decode(source: Path | bytes | Image.Image) -> Image.Image:
    """Return the picture in mode RGB, upright.

    ```python
    >>> decode(Path("photo.jpg")).mode
    'RGB'
    ```

    Raises `UnreadablePicture` for what is missing, empty, truncated, too large or no picture.
    """
    if isinstance(source, Image.Image):
        try:
            return _to_rgb(source)  # decodes now, where it was opened and never read
        except UnreadablePicture:
            raise
        except Exception as error:
            raise UnreadablePicture(f"a damaged picture ({_reason(error)})") from error
    data = _read(source) if isinstance(source, Path) else source
    if not data:
        raise UnreadablePicture("an empty file" if isinstance(source, Path) else "no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; its own limit is checked below
            with Image.open(io.BytesIO(data), formats=_known_formats()) as opened:
                return _to_rgb(opened)
    except UnreadablePicture:
        raise
    except UnidentifiedImageError:
        kind = kind_of(data)
        if kind is not None:
            raise UnreadablePicture(kind) from None
        raise UnreadablePicture(
            f"no picture that can be read: {', '.join(FORMATS)} (it begins with {data[:12]!r})"
        ) from None
    except Image.DecompressionBombError:
        raise UnreadablePicture(_too_large("far more")) from None
    except Exception as error:  # decoders raise anything on damaged data
        raise UnreadablePicture(f"a damaged picture ({_reason(error)})") from error


def is_picture(path: Path) -> bool:
    """Whether a file begins like a picture that can be read, whatever its name ends in."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_known_formats()):
            return True
    except Exception:  # as above; such a file is named elsewhere
        return False


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in (*FORMATS, *_ADDED_FORMATS) if name in Image.OPEN]


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UnreadablePicture("a folder")
        if not path.exists():
            raise UnreadablePicture(
                "a link that leads nowhere" if path.is_symlink() else "no such file"
            )
        if not path.is_file():  # a pipe would be waited for without end
            raise UnreadablePicture("something that is not a plain file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadablePicture(f"a file that cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _too_large(pixels: str) -> str:
    return f"a picture of {pixels} pixels, more than the {MAX_PICTURE_PIXELS:,} that are decoded"


def _to_rgb(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PICTURE_PIXELS:
        raise UnreadablePicture(_too_large(f"{width} × {height}"))
    if width * height == 0:
        raise UnreadablePicture(f"a picture of {width} × {height} pixels")
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image.load()
    # A new object in any case: a picture handed over in memory may be drawn on later.
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        return _from_16_bit(upright).convert("RGB")
    if upright.mode == "F":
        raise UnreadablePicture("a picture of floating-point numbers, whose white is not known")
    if upright.has_transparency_data:
        on_white = Image.new("RGBA", upright.size, "white")
        on_white.alpha_composite(upright.convert("RGBA"))
        return on_white.convert("RGB")
    return upright.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 0 … 65535 to 0 … 255; converting without it would clip everything above 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadablePicture("a picture of 32-bit numbers, whose white is not known")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
