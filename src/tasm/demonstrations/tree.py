"""Lists what lies in a folder and below it, each once, links followed.

Knows files and folders; knows nothing of pictures or classes.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tasm.errors import DemonstrationError

_OF_TOOLS = {"__MACOSX", "@eaDir", "__pycache__", "Thumbs.db", "desktop.ini"}


@dataclass
class Below:
    """What lies below a folder, sorted; `unreadable` are folders with the reason."""

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def listed(folder: Path) -> list[Path]:
    """Return what lies in `folder`, sorted; `DemonstrationError` where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DemonstrationError(
            f"{folder}: found a folder that cannot be read ({error.strerror or error}). Give "
            "yourself the right to read it."
        ) from None


def files_below(folder: Path) -> Below:
    """Return all files below `folder`; of hidden folders the folder only.

    ```python
    files_below(Path("birds/wren")).files      # [birds/wren/1.png, birds/wren/2021/2.png]
    ```
    """
    below = Below()
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
        visible = [child for child in children if not is_hidden(child)]
        folders = [child for child in visible if os.path.isdir(child)]
        below.hidden += [child for child in children if is_hidden(child)]
        below.files += [child for child in visible if child not in set(folders)]
        waiting += reversed(folders)
    return below


def is_hidden(path: Path) -> bool:
    """Whether a name is one that systems and tools give to what is not the user's."""
    return path.name.startswith(".") or path.name in _OF_TOOLS
