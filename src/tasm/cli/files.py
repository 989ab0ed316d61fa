"""Where a command may write: never over something by accident, never over what is read, never
inside a memory; and said before the work, not after it. How it is written is `tasm.files`'
business."""

import os
from collections.abc import Iterable
from pathlib import Path

from tasm.errors import InputError
from tasm.files import check_writable

MANIFEST = "memory.json"  # of a memory; its own module takes torch to import
METADATA = ("metadata.jsonl", "metadata.csv")


def check_out(
    path: Path,
    overwrite: bool,
    *,
    option: str = "--out",
    inputs: Iterable[Path | None] = (),
    needed: int = 0,
) -> None:
    """Refuse, before any work is done, an output that exists or cannot be written.

    Raises `InputError` where `path` is one of `inputs` or holds one, exists without `--overwrite`,
    lies inside a memory, or cannot be made where it is wanted; `WorkError` where the disk has less
    than `needed` bytes free. Folders above it are made when it is written. `option` is what gave
    the path.
    """
    check_outside(path, option=option)
    check_no_input(path, inputs, option=option)
    if os.path.lexists(path):
        if not overwrite:
            raise InputError(
                f"{path} exists already. Give another {option}, or --overwrite to replace it."
            )
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise InputError(
                f"{path} is a device, a pipe or a socket, which is not replaced. Give another "
                f"{option}."
            )
    check_writable(path, needed, f"Give another {option}.")


def check_out_file(
    path: Path, overwrite: bool, *, option: str = "--out", inputs: Iterable[Path | None] = ()
) -> None:
    """Refuse what `check_out` refuses, and a folder where a file is to be written."""
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected the name of a file. Give another {option}.")
    check_out(path, overwrite, option=option, inputs=inputs)


def check_out_memory(
    path: Path, overwrite: bool, *, inputs: Iterable[Path | None] = (), needed: int = 0
) -> None:
    """Refuse what `check_out` refuses, and to overwrite what is no memory."""
    if overwrite and os.path.lexists(path):
        check_outside(path)
        from tasm.memory.disk.folder import check_replaceable  # takes torch to import

        check_replaceable(path, "Give another --out.")
    check_out(path, overwrite, inputs=inputs, needed=needed)


def check_out_folder(
    path: Path, names: Iterable[str], *, option: str = "--out", inputs: Iterable[Path | None] = ()
) -> None:
    """Refuse a folder to write `names` into that is something else or cannot be written.

    The folder may exist; what is there under `names` is replaced, so none of it may be an input.
    """
    check_outside(path / "file", option=option)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(f"{option} {path} is a file; expected a folder, or a name that is free.")
    known = list(inputs)
    for name in names:
        check_no_input(path / name, known, option=option)
    check_writable(path / "file", instead=f"Give another {option}.")


def check_outside(path: Path, *, option: str = "--out") -> None:
    """Raise `InputError` where `path` lies inside a memory's folder, at any depth."""
    above = Path(os.path.realpath(path.absolute().parent))
    for folder in (above, *above.parents):
        likely = folder.suffix == ".tasm" or os.path.isfile(folder / MANIFEST)
        if likely and any(folder.glob("core-*.safetensors")):
            raise InputError(
                f"{path} lies inside the task memory {folder}, which holds nothing but its own "
                f"files. Give another {option}, outside of it."
            )


def check_no_input(path: Path, inputs: Iterable[Path | None], *, option: str = "--out") -> None:
    """Raise `InputError` where writing `path` would replace what the command reads.

    Links, hard links and other ways to write the same path count as the same file.
    """
    real = Path(os.path.realpath(path))
    for given in inputs:
        if given is None or not os.path.lexists(given):
            continue
        read = Path(os.path.realpath(given))
        same = read == real or (os.path.exists(path) and os.path.samefile(path, read))
        if same or (real in read.parents and os.path.isdir(path)):
            raise InputError(
                f"{path} {'is' if same else 'holds'} what is read here ({given}), and writing it "
                f"would replace that. Give another {option}."
            )


def check_beside(
    path: Path,
    *,
    model: str | None = None,
    demonstrations: Path | None = None,
    vision_memory: Path | None = None,
    option: str = "--out",
) -> None:
    """Raise `InputError` where `path` lies inside a folder whose every file counts: a model's, a
    vision memory's, or that of demonstrations with a sub-folder a class."""
    real = Path(os.path.realpath(path))
    for folder, whose in (
        (Path(model) if model else None, "the model's"),  # "" where a memory does not say
        (demonstrations, "the demonstrations'"),
        (vision_memory, "the vision memory's"),
    ):
        if folder is None or not os.path.isdir(folder):
            continue
        if folder is demonstrations and any((folder / name).is_file() for name in METADATA):
            continue
        above = Path(os.path.realpath(folder))
        if above in real.parents or above == real:
            raise InputError(
                f"{path} lies inside {folder}, {whose} folder, which it would change. Give another "
                f"{option}."
            )
