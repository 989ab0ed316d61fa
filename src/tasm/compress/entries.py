"""What a memory records of its demonstrations: names, hashes, texts, where the files were."""

from collections.abc import Sequence
from pathlib import Path

from tasm.backbone.prompt.transcript import Transcript
from tasm.demonstrations import Demonstration, Picture
from tasm.memory import DemonstrationEntry, PictureEntry


def entries_of(
    demonstrations: Sequence[Demonstration], transcript: Transcript
) -> list[DemonstrationEntry]:
    """Return one entry a demonstration, paths absolute."""
    text_ends = transcript.text_ends or ((),) * len(demonstrations)
    return [
        DemonstrationEntry(
            id=demonstration.id,
            spans=(span,),
            content_hash=demonstration.content_hash,
            pictures=tuple(_picture(picture) for picture in demonstration.pictures),
            origin=_file_of(demonstration.origin),
            question=demonstration.question,
            answer=demonstration.answer,
            earlier=tuple(message.text for message in demonstration.turns[:-2]),
            text_ends=ends,
        )
        for demonstration, span, ends in zip(
            demonstrations, transcript.spans, text_ends, strict=True
        )
    ]


def _picture(picture: Picture) -> PictureEntry:
    path = None if picture.path is None else str(Path(picture.path).resolve())
    return PictureEntry(sha256=picture.sha256, path=path)


def _file_of(origin: str) -> str | None:
    """The file in "birds.jsonl, line 3"; None for demonstrations that came from no file."""
    path = Path(origin.rpartition(", line ")[0] or origin)
    return str(path.resolve()) if origin and path.exists() else None
