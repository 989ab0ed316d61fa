"""The errors of tasm: one small tree.

Every message names the thing, what was seen, what was expected and the way out. The command line
prints the message and leaves with `exit_code`; it knows nothing else about an error.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class TasmError(Exception):
    """Something tasm refuses or could not do; `str(error)` is a sentence for the user.

    ```python
    try:
        memory = tasm.load("birds.tasm")
    except tasm.TasmError as error:
        sys.exit(f"{error}")
    ```
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(TasmError, ValueError):
    """What the user gave cannot be used: a wrong value, a missing file, an impossible wish."""

    exit_code = 2


class DemonstrationError(InputError):
    """Demonstrations or queries that cannot be read."""


class ModelError(InputError):
    """A model folder, a processor or a family that cannot be used."""


class RecipeError(InputError):
    """An unknown recipe, or settings that a recipe does not take."""


class BudgetError(InputError):
    """A core or bank budget that is impossible for these demonstrations."""


class MismatchError(InputError):
    """A memory made for another model, processor or chat template."""


class FormatError(InputError):
    """A memory written in a newer or unknown format."""


class HubError(InputError):
    """A memory that cannot be fetched from the hub, or pushed to it."""


class DamageError(TasmError):
    """A memory whose files are damaged, truncated or missing."""


class WorkError(TasmError):
    """Work that failed on the way, such as a full disk."""


class UnreadMemoryError(TasmError):
    """The running attention cannot see the memory it was given."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `" Did you mean 'tasm'?"` for the choice nearest to `name`, or an empty string.

    ```python
    >>> did_you_mean("tsam", ["tasm", "snapkv"])
    " Did you mean 'tasm'?"
    >>> did_you_mean("zebra", ["tasm", "snapkv"])
    ''
    ```
    """
    by_folded_name = {choice.casefold(): choice for choice in choices}
    nearest = get_close_matches(name.casefold(), by_folded_name, n=1, cutoff=0.6)
    return f" Did you mean {by_folded_name[nearest[0]]!r}?" if nearest else ""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says as a sentence; its kind where it says nothing.

    ```python
    >>> first_line(OSError("no such file\\nand more"))
    'no such file.'
    ```
    """
    line = str(error).strip().partition("\n")[0].strip() or type(error).__name__
    return line if line.endswith((".", "!", "?")) else f"{line}."
