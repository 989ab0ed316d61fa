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
            origin=_recordable(demonstration.file),
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
    return PictureEntry(sha256=picture.sha256, path=_recordable(picture.path))


def _recordable(path: Path | None) -> str | None:
    """The whole path; None where there is none, or one that no text file can hold."""
    if path is None:
        return None
    whole = str(Path(path).resolve())
    try:
        whole.encode()
    except UnicodeEncodeError:  # a name in another encoding than the system's
        return None
    return whole
