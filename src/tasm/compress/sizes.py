"""Budgets as people write them: `20%`, `512`, `64MB`, `auto`. Knows arithmetic, no tensors.

N tokens are per layer and KV head. 1 kB = 10^3, 1 MB = 10^6, 1 GB = 10^9 bytes.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from tasm.arguments import shown
from tasm.errors import BudgetError

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(%|b|kb|mb|gb)?", re.IGNORECASE)

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """A budget: `amount` of the demonstrations' tokens (a share, 0 to 1), of tokens, or of
    bytes."""

    amount: float
    unit: Literal["share", "tokens", "bytes"]
    written: str


@dataclass(frozen=True)
class Costs:
    """What tokens cost: `tokens` there are, `always` of them kept whatever happens, bytes that one
    token of every layer and head takes in the core and in the bank, bytes the core takes without
    any, and those of the full context's keys and values."""

    tokens: int
    always: int
    core_token_bytes: int
    bank_token_bytes: int
    fixed_bytes: int
    full_bytes: int

    def bytes_of(self, stored: Size) -> float:
        """Return what may be stored, in bytes; a share is one of the full context's keys and
        values.

        Raises BudgetError for a number of tokens, which says nothing of core and bank.
        """
        if stored.unit == "tokens":
            raise BudgetError(
                f"The stored budget is {stored.written} tokens; expected a share of the full "
                "context's bytes (20%), or bytes (64MB)."
            )
        return stored.amount * self.full_bytes if stored.unit == "share" else stored.amount

    def tokens_within(self, room: float, proportion: float) -> int:
        """Return the largest core, in tokens, that fits into `room` bytes with `proportion` tokens
        of the bank for each of its own; not more than there are."""
        return min(self.tokens, math.floor((room - self.fixed_bytes) / self._token(proportion)))

    def least_bytes(self, proportion: float) -> float:
        """Return the fewest bytes that such a core and bank can take."""
        return self.fixed_bytes + max(1, self.always) * self._token(proportion)

    def _token(self, proportion: float) -> float:
        return self.core_token_bytes + proportion * self.bank_token_bytes


def parse_size(written: str | float, what: str) -> Size:
    """Read a budget; `what` ("core", "bank") names it in errors.

    ```python
    >>> parse_size("64MB", "core").amount
    64000000.0
    >>> parse_size(0.2, "core").written
    '20%'
    ```

    A number between 0 and 1 is a share: 0.2 is 20%. Raises BudgetError for anything else, and for
    more than 100 %.
    """
    text = _as_written(written, what)
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise BudgetError(
            f"The {what} budget {shown(written)} cannot be read. Expected a share (20%), tokens "
            "per layer and KV head (512) or bytes (64MB)."
        )
    amount, unit = float(found[1]), (found[2] or "").lower()
    if not unit and 0 < amount < 1:
        return Size(amount, "share", f"{100 * amount:g}%")
    if unit == "%":
        if amount > 100:
            raise BudgetError(f"The {what} budget is {text}; there is nothing beyond 100 %.")
        return Size(amount / 100, "share", text)
    if unit:
        return Size(amount * _UNITS[unit], "bytes", text)
    if amount != int(amount):
        raise BudgetError(
            f"The {what} budget is {text} tokens; expected a whole number of tokens, or a share: "
            f"{text}%."
        )
    return Size(amount, "tokens", text)


def _as_written(size: Any, what: str) -> str:
    """A budget as text, whichever of the ways that people write it; "" for what is none."""
    if isinstance(size, bool) or not isinstance(size, str | Real):
        return ""
    if isinstance(size, float) and size == 1:
        raise BudgetError(
            f"The {what} budget is 1.0, which may be everything or a single token; write "
            "'100%' or 1."
        )
    return str(size).strip()


def core_tokens(written: str | float, costs: Costs, notice: Notice) -> int:
    """Return how many tokens a layer and head of the core keep, system prompt and BOS included.

    Raises BudgetError for a budget of zero, and for one too small for what is always kept; it names
    the smallest possible.
    """
    size = parse_size(written, "core")
    smallest = max(1, costs.always)
    if size.amount == 0:
        raise BudgetError(
            f"The core budget is {size.written}: a memory without a core answers nothing. The "
            f"smallest possible here is {_smallest(size, smallest, costs)}."
        )
    if size.unit == "share":
        wanted = math.floor(size.amount * costs.tokens + 1e-9)
    elif size.unit == "tokens":
        wanted = int(size.amount)
    else:
        wanted = math.floor((size.amount - costs.fixed_bytes) / costs.core_token_bytes)
    if wanted < smallest:
        kept = (
            f"the system prompt and BOS, always kept, are {costs.always} tokens"
            if costs.always
            else "it comes to no token at all"
        )
        raise BudgetError(
            f"The core budget {size.written} is too small: {kept}. The smallest possible here is "
            f"{_smallest(size, smallest, costs)}."
        )
    if wanted > costs.tokens:
        notice(
            f"The core budget {size.written} is more than the {costs.tokens} tokens there are: all "
            "are kept."
        )
    return min(wanted, costs.tokens)


def bank_tokens(written: str | float, core: int, costs: Costs, notice: Notice) -> int:
    """Return how many originals a layer and head of the bank hold, at most those outside the
    core."""
    size = parse_size(written, "bank")
    if size.unit == "share":
        wanted = math.floor(size.amount * costs.tokens + 1e-9)
    elif size.unit == "tokens":
        wanted = int(size.amount)
    else:
        wanted = math.floor(size.amount / costs.bank_token_bytes)
    room = costs.tokens - core
    if wanted > room:
        notice(
            f"Core and bank together are more than the {costs.tokens} tokens there are: the bank "
            f"({size.written}) is cut to {room} tokens."
        )
    return min(wanted, room)


def _smallest(size: Size, tokens: int, costs: Costs) -> str:
    if size.unit == "share":
        share = math.ceil(1000 * tokens / costs.tokens) / 10
        return f"{share:g}%"
    if size.unit == "tokens":
        return f"{tokens} tokens"
    return f"{costs.fixed_bytes + tokens * costs.core_token_bytes} bytes"
