"""SHA-256 of large files, remembered between runs by path, size and modification time.

What is remembered lies in the user's cache folder and is only a convenience: where it cannot be
read or written, files are hashed again.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from tasm.errors import TasmError
from tasm.files import write_text


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits, remembered while the file is unchanged."""
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    remembered = _remembered()
    if key in remembered:
        return remembered[key]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    _remember(key, digest)
    return digest


def _place() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tasm" / "fingerprints.json"


def _remembered() -> dict[str, str]:
    try:
        document = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {k: v for k, v in document.items() if isinstance(v, str) and len(v) == 64}


def _remember(key: str, digest: str) -> None:
    path, _, _ = key.rpartition("|")[0].rpartition("|")
    # One entry a file: what was known of its earlier content is of no use any more.
    entries = {k: v for k, v in _remembered().items() if not k.startswith(path + "|")}
    entries[key] = digest
    with suppress(TasmError, OSError, RuntimeError):
        write_text(_place(), json.dumps(entries))
