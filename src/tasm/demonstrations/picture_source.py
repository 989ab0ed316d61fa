"""Turns what stands for a picture in a row, or in a call, into a `Picture`.

A path, a `file:` or `data:` address, the bytes of a file or a file opened to read bytes, a
`PIL.Image.Image`, an array, or the mapping with `bytes` and `path` that the `datasets` library
writes. Nothing is ever fetched from a network.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from tasm.demonstrations.arrays import as_array, picture_of_array
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import RowProblem, check_text, describe, shorten
from tasm.errors import DemonstrationError

_EXPECTED = "a path to a picture"
_LONGEST_SHOWN = 300


def picture_from(value: Any, field: str, folder: Path) -> Picture:
    """Return the picture that `value` stands for, decoded once; relative paths start at `folder`.

    Raises `RowProblem`, which names `field`, for what stands for no picture or cannot be decoded.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, Image.Image):
        return _decodable(value, field)
    if isinstance(value, bytes | bytearray | memoryview):
        return _decodable(bytes(value), field)
    if isinstance(value, str):
        return _from_text(value, field, folder)
    if isinstance(value, os.PathLike):
        return _from_path(value, field, folder)
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            name = value.get("path")
            return _decodable(value["bytes"], field, name if isinstance(name, str) else None)
        if isinstance(value.get("path"), str | Path):
            return picture_from(value["path"], field, folder)
    array = as_array(value)
    if array is not None:
        return _decodable(picture_of_array(array, field), field)
    if callable(getattr(value, "read", None)):
        return _decodable(_content(value, field), field)
    raise RowProblem(field, describe(value), _EXPECTED)


def is_one(images: Any) -> bool:
    """Whether what was given for pictures is one picture and not several."""
    if isinstance(images, list | tuple):
        return False
    is_content = isinstance(images, str | bytes | bytearray | memoryview | Mapping)
    is_object = as_array(images) is not None or hasattr(images, "read")
    return is_content or is_object or not isinstance(images, Iterable)


def _from_text(text: str, field: str, folder: Path) -> Picture:
    check_text(text, field)
    if not text.strip():
        raise RowProblem(field, "an empty string", _EXPECTED)
    scheme = text.partition(":")[0].lower()
    if scheme == "data":
        return _decodable(_data(text, field), field, "picture in a data: address")
    if scheme == "file":
        return _from_path(path_in_address(text, field), field, folder)
    if "://" in text or is_on_network(text):
        raise _not_fetched(text, field)
    return _from_path(text, field, folder)


def _from_path(given: str | os.PathLike[Any], field: str, folder: Path) -> Picture:
    path = os.fsdecode(given)
    if "\0" in path:
        raise RowProblem(field, "a NUL character", "text without control characters")
    if not path.strip():
        raise RowProblem(field, "an empty path", _EXPECTED)
    return _decodable(folder / path, field)


def is_on_network(text: str) -> bool:
    r"""Whether a path is one of Windows' to another machine: `\\server\share\wren.png`."""
    return text.startswith("\\\\") or (os.name == "nt" and text.startswith("//"))


def path_in_address(address: str, field: str) -> Path:
    """Return the path in a `file:` address; `RowProblem` where it names another machine."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise RowProblem(field, f"the address {shorten(address)!r}", _EXPECTED) from None
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or path.startswith("//") or is_on_network(path):
        raise _not_fetched(address, field)
    return Path(path)


def _not_fetched(text: str, field: str) -> RowProblem:
    return RowProblem(
        field,
        f"the address {shorten(text)!r}",
        f"{_EXPECTED}; nothing is fetched from a network: download it and give its path",
    )


def _content(file: Any, field: str) -> bytes:
    try:
        content = file.read()
    except Exception as error:  # a closed file, or anything that a class of the user's raises
        raise RowProblem(field, f"a file that cannot be read ({error})", _EXPECTED) from None
    if not isinstance(content, bytes):
        raise RowProblem(field, "a file opened as text", 'a file opened with mode "rb"')
    return content


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
        if len(shown) > _LONGEST_SHOWN:  # base64 taken for a path
            shown = shown[:_LONGEST_SHOWN] + "…"
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
