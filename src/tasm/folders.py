"""A folder that a command makes: put in place whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasm.errors import InputError


@contextmanager
def naming(out: Path, temporary: Path | str = "") -> Iterator[None]:
    """Let errors of a temporary file or folder name `out`, which is what the user gave.

    With `temporary`, errors that name another file stay as they are.

    ```python
    with naming(Path("page.html")):
        handle, temporary = tempfile.mkstemp(dir=".")
    ```

    Raises `InputError` where nothing can be written at that place, `OSError` for a full disk.
    """
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and not str(error.filename).startswith(
            str(temporary)
        )
        if error.errno is None or elsewhere:
            raise
        if isinstance(error, _NO_PLACE):
            raise InputError(
                f"{out} cannot be written: {error.strerror}. Choose another place for it."
            ) from error
        raise OSError(error.errno, error.strerror, str(out)) from error


_NO_PLACE = (
    FileExistsError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)


def check_replaceable(out: Path, mark: str, names: Collection[str]) -> None:
    """Raise `InputError` where `out` is there and holds anything but what a command makes.

    Such a folder has the file `mark`, and nothing whose name is not among `names`.

    ```python
    check_replaceable(Path("out/demo"), "report.html", ("report.html", "task"))
    ```
    """
    if not os.path.lexists(out):
        return
    if not (out / mark).is_file():
        raise InputError(
            f"{out} exists and has no {mark}, so it is none of these folders and is not replaced. "
            "Give another --out."
        )
    others = sorted(path.name for path in out.iterdir() if path.name not in names)
    if others:
        raise InputError(
            f"{out} also holds {others[0]}"
            f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}, which this command did "
            "not write, so it is not replaced. Give another --out."
        )


@contextmanager
def whole_folder(out: Path, mark: str, names: Collection[str] | None = None) -> Iterator[Path]:
    """Give an empty sibling of `out` to fill; when all went well it becomes `out`.

    A folder that is there is replaced only if `check_replaceable` lets it be; whether it may be
    replaced is for the caller to have asked. `names` is what the command makes, all that is there
    where it is None.

    ```python
    with whole_folder(Path("out/demo"), mark="report.html") as folder:
        (folder / "report.html").write_text(page)
    ```

    Raises `InputError` where `out` is something else.
    """
    if os.path.lexists(out):
        there = () if not out.is_dir() else tuple(path.name for path in out.iterdir())
        check_replaceable(out, mark, there if names is None else names)
    with naming(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name[:40]}-"))
        work.chmod(0o755)
    try:
        with naming(out, work):
            yield work
            if out.is_symlink():
                out.unlink()
            elif out.exists():
                shutil.rmtree(out)
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
