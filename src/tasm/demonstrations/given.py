"""Turns what stands for a picture in a row, or in a call, into a `Picture`.

A path, a `file:` or `data:` address, the bytes of a file, a `PIL.Image.Image`, or the mapping with
`bytes` and `path` that the `datasets` library writes. Nothing is ever fetched from a network.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import RowProblem, check_text, describe, shorten
from tasm.errors import DemonstrationError

_EXPECTED = "a path to a picture"


def picture_from(value: Any, field: str, folder: Path) -> Picture:
    """Return the picture that `value` stands for, decoded once; relative paths start at `folder`.

    Raises `RowProblem`, which names `field`, for what stands for no picture or cannot be decoded.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, Image.Image):
        return _decodable(value, field)
    if isinstance(value, bytes | bytearray):
        return _decodable(bytes(value), field)
    if isinstance(value, Path):
        return _decodable(folder / value, field)
    if isinstance(value, str):
        return _from_text(value, field, folder)
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            return _decodable(value["bytes"], field, value.get("path"))
        if value.get("path") is not None:
            return picture_from(value["path"], field, folder)
    raise RowProblem(field, describe(value), _EXPECTED)


def _from_text(text: str, field: str, folder: Path) -> Picture:
    check_text(text, field)
    if not text.strip():
        raise RowProblem(field, "an empty string", _EXPECTED)
    scheme = text.partition(":")[0].lower()
    if scheme == "data":
        return _decodable(_data(text, field), field, "picture in a data: address")
    if scheme == "file":
        return _decodable(Path(unquote(urlsplit(text).path)), field)
    if "://" in text:
        raise RowProblem(
            field,
            f"the address {shorten(text)!r}",
            f"{_EXPECTED}; nothing is fetched from a network: download it and give its path",
        )
    return _decodable(folder / text, field)


def picture_in_base64(text: Any, field: str) -> Picture:
    """Return the picture that `text` holds in base64; `RowProblem` as in `picture_from`."""
    if not isinstance(text, str):
        raise RowProblem(field, describe(text), "a picture in base64")
    return _decodable(_from_base64(text, field), field, "picture in base64")


def _decodable(source: Path | bytes | Image.Image, field: str, name: str | None = None) -> Picture:
    try:
        picture = Picture(source, name=name)
        _ = picture.sha256  # decodes, and keeps the identity
    except DemonstrationError as error:
        shown = name or (str(source) if isinstance(source, Path) else "a picture in memory")
        raise RowProblem(field, f"{shown}: {error.__cause__}", "a picture") from None
    return picture


def _data(address: str, field: str) -> bytes:
    head, comma, data = address.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RowProblem(field, f"the address {shorten(address)!r}", "data:image/…;base64,…")
    return _from_base64(data, field)


def _from_base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(field, f"damaged base64 ({error})", "a picture in base64") from None
