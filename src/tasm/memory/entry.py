"""What a memory records of each demonstration it was built from.

Names, hashes and texts only, so that a person can see what is inside and the original files can be
found and checked. Recorded paths are hints: nothing here opens them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureEntry:
    """One picture of a demonstration.

    Attributes:
        sha256: hash of the decoded pixels, `tasm.demonstrations.Picture.sha256`.
        path: where the file was: absolute here, relative to the memory's folder on disk; or None.
        thumbnail: file name below `pictures/`, or None.
    """

    sha256: str
    path: str | None = None
    thumbnail: str | None = None


@dataclass(frozen=True)
class DemonstrationEntry:
    """One demonstration: what it is called, where its tokens lie, how it is found again.

    Attributes:
        id: the demonstration's name.
        spans: (start, end) pairs of token indices in the transcript.
        content_hash: SHA-256 over decoded pixels and text.
        pictures: its pictures, in order.
        origin: the file it was read from (as `PictureEntry.path`), or None.
        question: text with `<image>` marks, or None where texts were left out.
        answer: text, or None where texts were left out.
    """

    id: str
    spans: tuple[tuple[int, int], ...]
    content_hash: str
    pictures: tuple[PictureEntry, ...] = ()
    origin: str | None = None
    question: str | None = None
    answer: str | None = None
