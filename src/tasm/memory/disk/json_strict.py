"""JSON read strictly: no key twice, no NaN, nothing after the end, no depth without end.

Knows JSON; nothing of memories.
"""

import json
from typing import Any


def read_json(data: bytes) -> Any:
    """The value that `data` holds.

    ```python
    read_json(b'{"a": 1}')      # {'a': 1}
    ```

    Raises:
        ValueError: it is not JSON, or holds what other readers would understand differently.
    """
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError("lists or objects nest too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!a} stands twice in one object")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON has")
