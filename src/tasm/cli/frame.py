"""What every command shares: one result on standard output, one sentence for a failure.

A command is a function that returns a `Result`. The frame prints its JSON document or its text and
leaves with its exit code. Errors become a sentence on standard error and an exit code:
0 done, 1 the work failed or a check did not hold, 2 bad usage or bad input, 130 interrupted,
143 told to stop. It knows nothing about any command.
"""

import contextlib
import errno
import functools
import inspect
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TextIO

import typer

from tasm.cli.process import Stopped
from tasm.errors import TasmError

INTERRUPTED = 130
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
DEBUG_VARIABLE = "TASM_DEBUG"
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; everything else goes to stderr.")
]


@dataclass(frozen=True)
class Result:
    """What a command found: the JSON document, the same for people, and the exit code.

    `text` is a string, something rich can print, a list of both, or a function that returns one of
    these; it is asked for only when there is no `--json`. `complaint` is the sentence of a check
    that did not hold.
    """

    document: Any
    text: Any = None
    exit_code: int = 0
    complaint: str | None = None


def command(function: Callable[..., Result]) -> Callable[..., None]:
    """Wrap a command: give it `--json`, print what it returns, say what it raises, leave with the
    right code. Only a command that wants to know takes `json` itself."""
    signature = inspect.signature(function)
    takes_json = "json" in signature.parameters

    @functools.wraps(function)
    def run(*arguments: Any, json: bool = False, **options: Any) -> None:
        output = sys.stdout
        if takes_json:
            options["json"] = json
        # With --json, standard output is for the one document, whatever a library prints.
        aside = contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext()
        try:
            with _quiet_libraries(), aside:
                result = function(*arguments, **options)
            with _output_that_may_fail():
                _print(result, json, output)
        except (typer.Exit, SystemExit):  # rich leaves this way when its reader has left
            raise
        except BaseException as error:  # the one place where errors become exit codes
            raise typer.Exit(_report(error)) from None
        if result.complaint:
            say(result.complaint)
        if result.exit_code:
            raise typer.Exit(result.exit_code)

    if not takes_json:
        option = inspect.Parameter(
            "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json
        )
        signature = signature.replace(parameters=[*signature.parameters.values(), option])
    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {**function.__annotations__, "json": Json, "return": None}
    return run


def say(sentence: str) -> None:
    """Write a line to standard error, where logs, notices and errors go."""
    with contextlib.suppress(OSError):  # its reader has left, or its disk is full
        print(sentence, file=sys.stderr, flush=True)


def warn(sentence: str) -> None:
    """Write a warning to standard error."""
    say(f"Warning: {sentence}")


def to_json(document: Any, *, letters: bool = True) -> str:
    """Return the document as JSON; what is not a finite number becomes null.

    Without `letters` everything beyond ASCII is written as `\\uXXXX`.

    ```python
    >>> to_json({"accuracy": float("nan")})
    '{"accuracy": null}'
    ```
    """
    import json

    return json.dumps(_finite(document), ensure_ascii=not letters, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _print(result: Result, as_json: bool, output: TextIO) -> None:
    if as_json:
        _write(output, to_json(result.document), to_json(result.document, letters=False))
        return
    text = result.text() if callable(result.text) else result.text
    if text is None:
        return
    if not isinstance(text, str):
        from tasm.cli.text import rendered

        text = rendered(text, output)
    encoding = getattr(output, "encoding", None) or "utf-8"
    _write(output, text, text.encode(encoding, "backslashreplace").decode(encoding))


def _write(output: TextIO, text: str, plainer: str) -> None:
    """Write a text and a line's end; `plainer` where the output cannot take its letters."""
    try:
        text.encode(getattr(output, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = plainer
    output.write(text.removesuffix("\n") + "\n")
    output.flush()


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError):  # whoever read our output has left
        return 1
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    sentence, exit_code = _sentence(error)
    say(sentence)
    return exit_code


def _sentence(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, Stopped):
        return "Stopped.", error.exit_code
    if isinstance(error, TasmError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"Error: The disk is full{_at(error)}. Make room, or give another --out.", 1
    if isinstance(error, OSError) and error.filename is not None:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError))
        return f"Error: {error.filename}: {error.strerror}.", 2 if missing else 1
    if isinstance(error, OSError) and error.strerror is not None:
        return f"Error: The system refused ({error.strerror}).", 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "Error: There is not enough memory for this. Fewer demonstrations, smaller images "
            "(--max-pixels) or --mode streaming need less; --plan tells how much a build takes."
        ), 1
    first_line = (str(error).strip() or "no message").splitlines()[0]
    return (
        f"Error: Something went wrong inside tasm: {type(error).__name__}: {first_line}\n"
        f"Set {DEBUG_VARIABLE}=1 and run the command again to see where."
    ), 1


def _at(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


@contextlib.contextmanager
def _output_that_may_fail() -> Any:
    """Let Python's own flush at exit go nowhere once standard output has failed."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextlib.contextmanager
def _quiet_libraries() -> Any:
    """Keep the libraries' advice to programmers from people who use a command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    if os.environ.get(DEBUG_VARIABLE):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = functools.cache(warn)  # each sentence once a command
        warnings.showwarning = lambda message, *_, **__: shown(str(message))
        warnings.filterwarnings("default", module=r"tasm(\.|$)")
        yield
