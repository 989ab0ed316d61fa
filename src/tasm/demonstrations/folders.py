"""Reads rows from a folder of pictures, in the layouts of Hugging Face's ImageFolder.

Either `metadata.jsonl` or `metadata.csv` names each picture in `file_name`, or every sub-folder is
a class and its name the answer. Whatever is passed over is counted in a notice. Knows nothing of
what rows mean.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasm.demonstrations.file_kinds import SUFFIXES
from tasm.demonstrations.files import READERS, Rows
from tasm.demonstrations.pixels import is_picture
from tasm.demonstrations.problems import RowProblem
from tasm.errors import DemonstrationError

_METADATA = ("metadata.jsonl", "metadata.csv")
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
_SHOWN = 5
_OF_TOOLS = {"__MACOSX", "@eaDir", "__pycache__", "Thumbs.db", "desktop.ini"}


@dataclass
class Folder:
    """Rows of a folder, where their relative paths start, a name, and what the user should know.

    `notices` is complete once the rows were read.
    """

    name: str
    folder: Path
    rows: Rows
    notices: list[str] = field(default_factory=list)


def open_folder(folder: Path, question: str | None) -> Folder:
    """Return the rows of a folder.

    Raises `DemonstrationError` for a folder in neither layout, and for classes without a question.
    """
    children = _listed(folder)
    present = [folder / name for name in _METADATA if os.path.isfile(folder / name)]
    if len(present) > 1:
        raise DemonstrationError(
            f"{folder}: found {' and '.join(_METADATA)}; expected one of them."
        )
    if present:
        notices: list[str] = []
        return Folder(str(present[0]), folder, _with_file_names(present[0], notices), notices)
    if os.path.isfile(folder / "memory.json"):
        raise DemonstrationError(
            f"{folder} is a task memory already; expected demonstrations to build one from."
        )
    classes = [child for child in children if os.path.isdir(child) and not _is_hidden(child)]
    if not classes:
        raise DemonstrationError(
            f"{folder}: found neither {' nor '.join(_METADATA)} nor sub-folders; expected a "
            "metadata file that names each picture in 'file_name', or one sub-folder a class."
            + _pictures_in(children)
            + _rows_in(children)
        )
    _refuse_splits(folder, classes)
    if question is None:
        raise DemonstrationError(
            f"{folder}: found one sub-folder a class ({classes[0].name}, …) and no question; "
            'expected --question, such as --question "Which class is this?".' + _rows_in(children)
        )
    found = Folder(str(folder), Path(), iter(()))
    others = [child for child in children if child not in classes]
    found.rows = _classes(folder, classes, others, question, found.notices)
    return found


def _rows_in(children: Iterable[Path]) -> str:
    """Return a hint at a file of rows, where the folder holds one: it may have been meant."""
    files = [child for child in children if child.suffix.lower() in READERS]
    return f" Did you mean the file {files[0]}?" if files else ""


def _pictures_in(children: Iterable[Path]) -> str:
    count = sum(child.suffix.lower() in SUFFIXES for child in children)
    pictures = "1 picture lies" if count == 1 else f"{count} pictures lie"
    return f" {pictures} in the folder itself, where nothing says the answer." if count else ""


def _refuse_splits(folder: Path, classes: list[Path]) -> None:
    """`train/wren` would make demonstrations whose answer is 'train', in silence."""
    inner = {one: [child for child in _listed(one) if os.path.isdir(child)] for one in classes}
    nested = [one for one in classes if len(inner[one]) > 1]
    if all(one.name.casefold() in _SPLITS for one in classes) and any(inner.values()):
        raise DemonstrationError(
            f"{folder}: found splits ({', '.join(one.name for one in classes)}) with sub-folders; "
            f"expected one sub-folder a class. Choose a split, such as {classes[0]}."
        )
    if len(classes) == 1 and nested and not any(_looks_like(one) for one in _listed(classes[0])):
        names = ", ".join(child.name for child in inner[classes[0]][:3])
        raise DemonstrationError(
            f"{folder}: found one sub-folder only, {classes[0].name}, with pictures in its own "
            f"sub-folders ({names}, …); expected one sub-folder a class. If those are the "
            f"classes, give {classes[0]}."
        )


def _looks_like(path: Path) -> bool:
    """Whether a file is a picture: by its name, or else by how it begins."""
    return path.suffix.lower() in SUFFIXES or (os.path.isfile(path) and is_picture(path))


def _with_file_names(metadata: Path, notices: list[str]) -> Rows:
    named: set[str] = set()
    for origin, row in READERS[metadata.suffix](metadata):
        if isinstance(row, dict):
            name = row.get("file_name")
            if isinstance(name, str) and name:
                named.add(_in_one_form(name))
            elif not row.get("file_name"):
                row = RowProblem("file_name", "no such field", "the picture's path in this folder")
        yield origin, row
    folder = metadata.parent
    unnamed = [
        path.relative_to(folder).as_posix()
        for path in _files_below(folder).files
        if path.suffix.lower() in SUFFIXES
    ]
    unnamed = [path for path in unnamed if path not in named]
    _notice(notices, unnamed, f"not named in {metadata}, and passed over", "picture")


def _in_one_form(name: str) -> str:
    """`./a/../wren.png` is `wren.png`; computed, not looked up."""
    parts: list[str] = []
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _classes(
    root: Path, classes: list[Path], others: list[Path], question: str, notices: list[str]
) -> Iterator[tuple[str, Any]]:
    hidden = [child for child in others if _is_hidden(child)]
    beside = [child for child in others if not _is_hidden(child)]
    no_pictures: list[Path] = []
    deeper: list[Path] = []
    for folder in classes:
        below = _files_below(folder)
        hidden += below.hidden
        pictures = [path for path in below.files if _looks_like(path)]
        no_pictures += [path for path in below.files if path not in set(pictures)]
        deeper += [path for path in pictures if path.parent != folder]
        for path, reason in below.unreadable:
            yield str(path), RowProblem("", f"a folder that cannot be read ({reason})", "pictures")
        if not pictures and not below.unreadable:
            yield str(folder), RowProblem("", "no picture in this class", "at least one picture")
        for path in pictures:
            yield str(path), {"image": path, "question": question, "answer": folder.name.strip()}
    for paths, why, what in (
        (deeper, "in a sub-folder of a class, and read as that class", "picture"),
        (no_pictures, "no picture, and passed over", "file"),
        (hidden, "hidden, and passed over", "file"),
        (beside, "beside the sub-folders, without a class, and passed over", "file"),
    ):
        _notice(notices, [str(path.relative_to(root)) for path in paths], why, what)


def _notice(notices: list[str], names: list[str], why: str, what: str) -> None:
    if names:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        count = f"{len(names)} {what}{'' if len(names) == 1 else 's'}"
        notices.append(f"{count} {'is' if len(names) == 1 else 'are'} {why}: {shown}.")


@dataclass
class _Below:
    """What lies below a folder, sorted; `unreadable` are folders with the reason."""

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def _listed(folder: Path) -> list[Path]:
    """Return what lies in `folder`, sorted; `DemonstrationError` where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DemonstrationError(
            f"{folder}: found a folder that cannot be read ({error.strerror or error}). Give "
            "yourself the right to read it."
        ) from None


def _files_below(folder: Path) -> _Below:
    """Return all files below `folder`, each once, links followed; of hidden folders the folder
    only."""
    below = _Below()
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            found = os.stat(current)
            children = sorted(current.iterdir())
        except OSError as error:
            below.unreadable.append((current, error.strerror or str(error)))
            continue
        place = (found.st_dev, found.st_ino)
        if place in seen:  # a link back to a folder above
            continue
        seen.add(place)
        visible = [child for child in children if not _is_hidden(child)]
        folders = [child for child in visible if os.path.isdir(child)]
        below.hidden += [child for child in children if _is_hidden(child)]
        below.files += [child for child in visible if child not in set(folders)]
        waiting += reversed(folders)
    return below


def _is_hidden(path: Path) -> bool:
    """Whether a name is one that systems and tools give to what is not the user's."""
    return path.name.startswith(".") or path.name in _OF_TOOLS
