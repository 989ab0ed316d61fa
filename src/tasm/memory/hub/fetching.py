"""A memory's folder in the hub's cache on this machine, fetched where it is not there yet.

`memory.json` first; it names the files, and they are fetched from the same commit and held against
the hashes in it. So nothing of a repository is fetched but a memory, and never half of two. Knows
manifests and huggingface_hub; nothing of tensors.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from tasm.errors import DamageError, HubError
from tasm.memory.disk.folder import MANIFEST, PICTURES, read_manifest
from tasm.memory.disk.manifest import Manifest
from tasm.memory.hub.failures import endpoint, naming_failures
from tasm.memory.hub.names import HubName
from tasm.version import __version__


def fetched(name: HubName, token: str | bool | None = None) -> Path:
    """The folder that holds the memory `name`, complete; without a connection, the one fetched
    before.

    Raises:
        HubError: there is no such repository or revision, it holds no memory or a damaged one, or
            the hub cannot be reached.
        FormatError: it was written by a newer tasm.
    """
    from huggingface_hub import snapshot_download

    with naming_failures(str(name), "fetched"):
        folder = _manifest_folder(name, token)
        try:
            manifest = read_manifest(folder)
        except DamageError as error:
            _forget(folder / MANIFEST)
            raise HubError(
                f"{name} holds a damaged memory: {MANIFEST} is not what was written. Fetch it "
                "again, or ask its owner to push it again."
            ) from error
        files = _files(manifest)
        missing = [path for path, (size, _) in files.items() if not _is_there(folder / path, size)]
        if missing:
            for path in missing:
                _forget(folder / path)
            snapshot_download(
                name.repository, revision=folder.name, allow_patterns=missing, token=token, **_hub()
            )
            for path in missing:
                _judge(name, folder, path, *files[path], token)
    return folder


def _manifest_folder(name: HubName, token: str | bool | None) -> Path:
    missing = (
        f"{name} holds no task memory: the repository has no {MANIFEST}. Push one: tasm push "
        f"MEMORY {name.repository}."
    )
    path = _download(name.repository, MANIFEST, name.revision, token, missing)
    return Path(path).parent  # snapshots/COMMIT/, where all files of one commit lie


def _download(
    repository: str, path: str, revision: str | None, token: str | bool | None, missing: str
) -> str:
    """Fetch one file; `missing` is the sentence where the repository has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hf_hub_download(repository, path, revision=revision, token=token, **_hub())
    except LocalEntryNotFoundError:  # not here, and no connection
        raise
    except EntryNotFoundError as error:
        raise HubError(missing) from error


def _files(manifest: Manifest) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file that a manifest names."""
    files = {one.name: (one.size, one.sha256) for one in manifest.tensor_files}
    return files | {f"{PICTURES}/{one.name}": (one.size, one.sha256) for one in manifest.pictures}


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _judge(
    name: HubName, folder: Path, path: str, size: int, sha256: str, token: str | bool | None
) -> None:
    """Hold what was fetched against the manifest; what is not right is not kept."""
    if not (folder / path).is_file():  # old versions leave out what a snapshot lacks
        missing = (
            f"{name} holds a damaged memory: {path} is missing, which its {MANIFEST} names. Ask "
            "its owner to push it again."
        )
        _download(name.repository, path, folder.name, token, missing)
    if not _is_there(folder / path, size) or _sha256(folder / path) != sha256:
        _forget(folder / path)
        raise HubError(
            f"{name} holds a damaged memory, or it was damaged on the way: {path} is not what its "
            f"{MANIFEST} says. Fetch it again, or ask its owner to push it again."
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forget(path: Path) -> None:
    """Take a file out of the cache, so that the next try fetches it."""
    if os.path.lexists(path):
        path.resolve().unlink(missing_ok=True)  # the content; the snapshot has a link to it
        path.unlink(missing_ok=True)


def _hub() -> dict[str, Any]:
    return {"endpoint": endpoint(), "library_name": "tasm", "library_version": __version__}
