"""What a memory records of each demonstration it was built from.

Names, hashes and texts only, so that a person can see what is inside and the original files can be
found and checked. Recorded paths are hints: nothing here opens them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
        earlier: texts of the messages before the last question, the user's and the assistant's in
            turn.
        text_ends: for each message (`earlier`, the question, the answer), where each of its text
            tokens ends in its text; empty where it was not recorded. A page colours texts by it.
    """

    id: str
    spans: tuple[tuple[int, int], ...]
    content_hash: str
    pictures: tuple[PictureEntry, ...] = ()
    origin: str | None = None
    question: str | None = None
    answer: str | None = None
    earlier: tuple[str, ...] = ()
    text_ends: tuple[tuple[int, ...], ...] = ()

    def without_content(self) -> "DemonstrationEntry":
        """Id, spans and content hash alone."""
        return DemonstrationEntry(self.id, self.spans, self.content_hash)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """JSON values, paths relative to the memory's `folder`."""
        return {
            "id": self.id,
            "spans": [list(span) for span in self.spans],
            "content_hash": self.content_hash,
            "origin": relative_hint(self.origin, folder),
            "question": self.question,
            "answer": self.answer,
            "earlier": list(self.earlier),
            "text_ends": [list(ends) for ends in self.text_ends],
            "pictures": [
                {
                    "sha256": picture.sha256,
                    "path": relative_hint(picture.path, folder),
                    "thumbnail": picture.thumbnail,
                }
                for picture in self.pictures
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], folder: Path) -> "DemonstrationEntry":
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            id=str(document["id"]),
            spans=tuple((int(start), int(end)) for start, end in document["spans"]),
            content_hash=str(document["content_hash"]),
            pictures=tuple(
                PictureEntry(
                    sha256=str(picture["sha256"]),
                    path=absolute_hint(picture.get("path"), folder),
                    thumbnail=picture.get("thumbnail"),
                )
                for picture in document["pictures"]
            ),
            origin=absolute_hint(document.get("origin"), folder),
            question=document.get("question"),
            answer=document.get("answer"),
            earlier=tuple(str(text) for text in document.get("earlier") or ()),
            text_ends=tuple(
                tuple(int(end) for end in ends) for ends in document.get("text_ends") or ()
            ),
        )


def relative_hint(path: str | None, folder: Path) -> str | None:
    """A path as it is recorded: relative to the memory's folder, with forward slashes."""
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive on Windows
        return Path(path).as_posix()


def absolute_hint(path: str | None, folder: Path) -> str | None:
    """A recorded path seen from here; computed, not looked up."""
    if path is None:
        return None
    return os.path.normpath(os.path.join(os.path.abspath(folder), path))
