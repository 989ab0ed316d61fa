"""A memory goes to the hub: one commit that holds it whole and takes away what it replaces.

What says where something lay on this machine stays here. Knows a memory's entries, its folder and
huggingface_hub; how a memory becomes files is `save`'s business.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasm.errors import InputError
from tasm.memory.disk.folder import MANIFEST, PICTURES
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.hub.card import MARK
from tasm.memory.hub.failures import endpoint, naming_failures
from tasm.memory.hub.names import parsed
from tasm.version import __version__

_CARD = "README.md"


def without_places(entries: Sequence[DemonstrationEntry], model_name: str) -> dict[str, Any]:
    """What a memory is replaced with, so that it records no paths of this machine as hints."""
    bare = tuple(
        replace(
            entry,
            origin=None,
            pictures=tuple(replace(picture, path=None) for picture in entry.pictures),
        )
        for entry in entries
    )
    is_name = not os.path.isdir(model_name) and (
        os.path.basename(model_name) == model_name or parsed(model_name)
    )
    return {
        "demonstrations": bare,
        "model_name": model_name if is_name else "",
        "vision_memory": "",
    }


def push_folder(
    folder: Path,
    page: str,
    name: str,
    *,
    private: bool | None,
    commit_message: str | None,
    token: str | bool | None,
    revision: str | None,
) -> Any:
    """Push the folder of a saved memory, and a card where there is none of a user's; see
    `TaskMemory.push_to_hub`."""
    with naming_failures(name, "pushed to"):
        return _commit(folder, page, name, private, commit_message, token, revision)


def _commit(
    folder: Path,
    page: str,
    name: str,
    private: bool | None,
    message: str | None,
    token: str | bool | None,
    revision: str | None,
) -> Any:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=endpoint(), token=token, library_name="tasm", library_version=__version__)
    api.create_repo(name, private=private, exist_ok=True)
    if revision is not None:
        api.create_branch(name, branch=revision, exist_ok=True)
    found = api.model_info(name, revision=revision)
    if private and found.private is False:
        raise InputError(
            f"{name} exists and is public, so nothing was pushed to it. Make it private on its "
            "page, choose another name, or leave private out."
        )
    there = {one.rfilename for one in found.siblings or []}
    written = (path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in written}
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(file))
        for path, file in sorted(files.items())
    ]
    if _CARD not in there or MARK in _page_there(api, name, found.sha):
        operations.append(CommitOperationAdd(path_in_repo=_CARD, path_or_fileobj=page.encode()))
    operations += [
        CommitOperationDelete(path_in_repo=path)
        for path in sorted(there - files.keys())
        if _is_of_a_memory(path)
    ]
    return api.create_commit(
        name,
        operations,
        commit_message=message or "Push a task memory",
        revision=revision,
        parent_commit=found.sha,
    )


def _is_of_a_memory(path: str) -> bool:
    """Whether a file's path in a repository is one that memories have."""
    here = Path(path)
    if path == MANIFEST:
        return True
    if here.parent == Path("."):
        return here.suffix == ".safetensors" and here.name.startswith(("core-", "bank-", "index-"))
    return here.parent == Path(PICTURES) and here.suffix in (".jpg", ".png")


def _page_there(api: Any, name: str, commit: str | None) -> str:
    place = api.hf_hub_download(name, _CARD, revision=commit)
    return Path(place).read_text(encoding="utf-8", errors="replace")
