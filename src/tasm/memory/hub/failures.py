"""What the hub says when it refuses, or cannot be reached, as one sentence. Knows
huggingface_hub's errors; nothing of memories."""

import contextlib
import errno
import os
from collections.abc import Iterator

from tasm.errors import HubError, TasmError, first_line

_FULL = (errno.ENOSPC, errno.EDQUOT)


def endpoint() -> str | None:
    """The hub's address where the environment gives one, read now; None for the usual one."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextlib.contextmanager
def naming_failures(what: str, doing: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `HubError`: `what` is a repository, `doing` what was
    tried ("fetched", "pushed to")."""
    try:
        yield
    except TasmError:
        raise
    except Exception as error:  # of the transport: other classes in each version
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        raise _named(error, what, doing) from error


def _named(error: Exception, what: str, doing: str) -> HubError:
    from huggingface_hub import errors

    said = first_line(error)[:200].rstrip(". ")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        text = (
            "its owner lets in only who asked for it. Ask on its page, then log in: hf auth login."
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        text = (
            "the hub has no such repository, or it is private and not yours. Check the name, and "
            "log in (hf auth login) or give a token; a folder of that name is not here either."
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        text = (
            "the repository has no such branch, tag or commit. Leave the revision out, or check it."
        )
    elif isinstance(error, errors.HFValidationError):
        text = f"the hub takes no such name ({said})."
    elif status in (401, 403):
        text = (
            f"the hub did not let you ({status}: {said}). Log in (hf auth login) or give a token "
            "that may do this."
        )
    elif status in (409, 412):
        text = (
            "somebody else changed the repository meanwhile; it stays as they left it. Try again."
        )
    elif status is not None:
        text = f"the hub answered {status} ({said}). Try again later."
    else:
        text = (
            f"the hub could not be reached, or the connection broke ({said}). Check it and try "
            "again; a folder of the memory works without the hub."
        )
    return HubError(f"{what} cannot be {doing}: {text}")
