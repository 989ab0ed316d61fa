"""What a repository of the hub is called, and when a path means one. Knows text and local folders;
nothing of the network."""

import re
from dataclasses import dataclass
from pathlib import Path

from tasm.arguments import shown
from tasm.errors import InputError

_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[^\s@]+))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """`owner/name`, and which branch, tag or commit of it; None for the newest."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def parsed(text: str) -> HubName | None:
    """`owner/name` or `owner/name@revision`; None for anything else.

    ```python
    >>> parsed("me/birds@v1")
    HubName(repository='me/birds', revision='v1')
    >>> parsed("birds.tasm") is None
    True
    ```
    """
    match = _NAME.fullmatch(text)
    if match is None or any(two in text for two in ("..", "--")):  # the hub has no such names
        return None
    return HubName(f"{match['owner']}/{match['name']}", match["revision"])


def named(path: Path) -> HubName | None:
    """The repository that a path means: it looks like one, and neither it nor a folder `owner` is
    here. What lies here always wins."""
    name = parsed(path.as_posix())
    if name is None or path.exists() or path.is_symlink() or Path(path.parts[0]).is_dir():
        return None
    return name


def repository(text: object) -> str:
    """Return `owner/name` where to push; raises InputError for anything else."""
    name = parsed(text) if isinstance(text, str) else None
    if name is None or name.revision is not None:
        raise InputError(
            f"repo_id is {shown(text)}; expected the name of a repository on the hub, such as "
            "'me/birds': an owner and a name, of letters, digits, '-', '_' and '.'."
        )
    return name.repository
