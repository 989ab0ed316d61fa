"""Pictures of all kinds become the RGB pixels that a person would see."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasm.demonstrations import Picture
from tasm.demonstrations import pixels as pixels_module
from tasm.errors import DemonstrationError


def rgb(path: Path) -> np.ndarray:
    image = Picture(path).load()
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # What each orientation does to the stored rows and columns, from the EXIF standard.
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }[orientation]
    stored = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(rgb(tmp_path / "a.png"), upright(stored))


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png")
    assert rgb(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_palette_with_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    assert rgb(tmp_path / "a.png").tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_transparent_colour_of_an_rgb_picture_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 8, 7))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert rgb(tmp_path / "a.png").tolist() == [[[255, 255, 255], [9, 8, 7]]]


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(0, 0, 0, 255), (0, 0, 0, 0), (100, 0, 0, 51)])
    image.save(tmp_path / "a.png")
    black, clear, faint = rgb(tmp_path / "a.png")[0].tolist()
    assert black == [0, 0, 0]
    assert clear == [255, 255, 255]
    # a fifth of (100, 0, 0) and four fifths of white
    assert np.abs(np.subtract(faint, [224, 204, 204])).max() <= 1


def test_grey_with_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(7, 255), (7, 0)])
    image.save(tmp_path / "a.png")
    assert rgb(tmp_path / "a.png").tolist() == [[[7, 7, 7], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert rgb(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_big_endian_16_bit_grey(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 257, 65535))
    assert rgb(tmp_path / "a.pgm")[0, :, 0].tolist() == [1, 255]


def test_16_bit_rgb(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + struct.pack(">3H", 0, 128 * 257, 65535)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    assert rgb(tmp_path / "a.png").tolist() == [[[0, 128, 255]]]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = rgb(tmp_path / "a.jpg")[4, 4].tolist()
    assert red > 245 and green < 10 and blue < 10


def test_one_bit(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert rgb(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert rgb(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_the_format_counts_not_the_name(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), "red").save(tmp_path / "a.png", format="BMP")
    assert rgb(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def png(tmp_path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    return (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "an empty file"),
        (lambda data: b"hello there, this is text", "b'hello there,'"),
        (lambda data: data[: len(data) // 2], "a damaged picture"),
        (lambda data: data[:20], "picture"),
        (lambda data: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path: Path, damage, said: str) -> None:
    (tmp_path / "a.png").write_bytes(damage(png(tmp_path)))
    with pytest.raises(DemonstrationError) as raised:
        Picture(tmp_path / "a.png").load()
    assert "a.png" in str(raised.value)
    assert said in str(raised.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"gone\.png: found no such file"):
        Picture(tmp_path / "gone.png").load()
    with pytest.raises(DemonstrationError, match="found a folder"):
        Picture(tmp_path).load()


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    """A PNG of a few bytes that promises 100 000 × 100 000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        data += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(DemonstrationError, match="more than the 64,000,000"):
        Picture(tmp_path / "bomb.png").load()


def test_the_limit_is_on_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_module, "MAX_PICTURE_PIXELS", 48)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    Image.new("RGB", (7, 7)).save(tmp_path / "b.png")
    assert Picture(tmp_path / "a.png").load().size == (8, 6)
    with pytest.raises(DemonstrationError, match="7 × 7 pixels, more than the 48"):
        Picture(tmp_path / "b.png").load()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_white_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2), 1_000_000).save(tmp_path / "a.tif")
    with pytest.raises(DemonstrationError, match="whose white is not known"):
        Picture(tmp_path / "a.tif").load()
