"""How a command line is read: what no command should have to check for itself.

An option that is given twice, of which only the last would count, an empty value and a character
that no file name can hold are refused. An option that may stand alone gets its usual value.
Knows no command.
"""

from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from tasm.errors import InputError

MAY_BE_EMPTY = ("system",)
"""Options of which an empty text means something: no system prompt, not the template's own."""

MAY_STAND_ALONE = {"explain": ("attention", "ablation")}
"""Options whose value may be left out, and the values that they know, the usual one first. A word
after such an option that is none of them is no value of it."""


def listed(text: str, option: str) -> list[str]:
    """Return names that stand between commas; raises `InputError` for an empty place."""
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise InputError(f"{option} {text!r} has an empty place; expected names between commas.")
    return items


def group(name: str, *commands: Callable[..., None], **settings: Any) -> typer.Typer:
    """Return a group of commands; `settings` are typer's."""
    made = typer.Typer(name=name, rich_markup_mode=None, no_args_is_help=True, **settings)
    for one in commands:
        made.command(cls=Command)(one)
    return made


class Command(TyperCommand):
    """A command whose options are given once each, and not empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the command's name."""
        for one in self.params:
            if one.name in MAY_STAND_ALONE and not getattr(one, "is_flag", False):
                args = _with_values(args, one.opts[0], MAY_STAND_ALONE[one.name])
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if not ctx.resilient_parsing:
            wrong = _given_twice(order) or next(
                filter(None, (_wrong_text(one, values.get(one.name or "")) for one in self.params)),
                None,
            )
            if wrong is not None:
                ctx.fail(wrong)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            wrong_value: Any = error  # typer's; newer ones put this word of a library before it
            if isinstance(getattr(error, "message", None), str):
                wrong_value.message = wrong_value.message.removeprefix("Value error, ")
            raise


def _with_values(args: list[str], option: str, known: Sequence[str]) -> list[str]:
    """The words with the option's usual value where it stands alone; all after `--` as they are."""
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        if word == option:
            word = f"{option}={rest.pop(0) if rest and rest[0] in known else known[0]}"
        words.append(word)
    return words


def _given_twice(order: list[Any]) -> str | None:
    given: set[str] = set()
    for parameter in order:
        several = getattr(parameter, "multiple", False) or getattr(parameter, "is_flag", False)
        if parameter.name in given and not several and parameter.nargs == 1:
            return f"{_name(parameter)} is given twice. Give it once: only one could count."
        given.add(parameter.name)
    return None


def _wrong_text(parameter: Any, value: Any) -> str | None:
    for text in value if isinstance(value, (list, tuple)) else [value]:
        if not isinstance(text, str):
            continue
        if not text.strip() and parameter.name not in MAY_BE_EMPTY:
            return f"{_name(parameter)} is empty. Give it a value, or leave it out."
        if "\0" in text:
            return f"{_name(parameter)} holds a character of code 0, which nothing can be called."
    return None


def _name(parameter: Any) -> str:
    options = [name for name in parameter.opts if name.startswith("--")]
    return options[0] if options else str(parameter.metavar or parameter.name)
