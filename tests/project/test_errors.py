"""The tree of errors: exit codes, messages, hints."""

import inspect

import pytest

from tasm import errors

TREE = {
    "InputError": 2,
    "DemonstrationError": 2,
    "ModelError": 2,
    "RecipeError": 2,
    "BudgetError": 2,
    "MismatchError": 2,
    "FormatError": 2,
    "HubError": 2,
    "DamageError": 1,
    "WorkError": 1,
    "UnreadMemoryError": 1,
}


def test_every_error_has_its_exit_code() -> None:
    found = {
        name: one.exit_code
        for name, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.TasmError) and one is not errors.TasmError
    }
    assert found == TREE


@pytest.mark.parametrize("name", TREE)
def test_errors_are_their_message(name: str) -> None:
    error = getattr(errors, name)("A sentence.")
    assert str(error) == error.message == "A sentence."
    assert isinstance(error, errors.TasmError)
    # Bad input is what Python calls a ValueError, failed work is not.
    assert isinstance(error, ValueError) == (error.exit_code == 2)


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("tsam", ["tasm", "snapkv"], " Did you mean 'tasm'?"),
        ("TASM", ["tasm", "snapkv"], " Did you mean 'tasm'?"),
        ("snap-kv", ["tasm", "SnapKV"], " Did you mean 'SnapKV'?"),
        ("zebra", ["tasm", "snapkv"], ""),
        ("tasm", [], ""),
    ],
)
def test_did_you_mean(name: str, choices: list[str], hint: str) -> None:
    assert errors.did_you_mean(name, choices) == hint
