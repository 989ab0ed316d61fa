"""A folder that a command makes: put in place whole, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasm.errors import InputError


@contextmanager
def whole_folder(out: Path, mark: str) -> Iterator[Path]:
    """Give an empty sibling of `out` to fill; when all went well it becomes `out`.

    A folder that is there is replaced only if it holds the file `mark`, that is, if it is one of
    these folders; whether it may be replaced is for the caller to have asked.

    ```python
    with whole_folder(Path("out/demo"), mark="report.html") as folder:
        (folder / "report.html").write_text(page)
    ```

    Raises `InputError` where `out` is something else.
    """
    if out.exists() and not (out / mark).is_file():
        raise InputError(
            f"{out} exists and has no {mark}, so it is none of these folders and is not replaced. "
            "Give another --out."
        )
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}-"))
    work.chmod(0o755)
    try:
        yield work
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
