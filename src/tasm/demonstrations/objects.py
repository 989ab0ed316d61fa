"""Finds the rows in objects of Python: lists, generators, tables of other libraries.

Those libraries are recognised by what their objects can do; none of them is imported.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasm.demonstrations.conversation import Conversation
from tasm.demonstrations.problems import describe
from tasm.errors import DemonstrationError

_SEVERAL = ("question", "image", "file_name")
"""Fields that never hold a list in one row."""

_EXPECTED = "a path, a list of rows, a generator, a DataFrame or a Dataset of the datasets library"


def rows_of(given: Any) -> tuple[str, Iterable[Any], Path | None]:
    """Return a name for messages, the rows in `given`, and the one file they lie in, if they do.

    Raises `DemonstrationError` for what holds no rows at all.
    """
    name = "demonstrations"
    if isinstance(given, Conversation):
        return name, [given], None
    if isinstance(given, Mapping):
        return name, _of_mapping(given), None
    if hasattr(given, "to_pylist") and hasattr(given, "schema"):
        from tasm.demonstrations.arrow import rows_of_table

        return "table", rows_of_table(given), None
    if hasattr(given, "iterrows") and hasattr(given, "columns"):
        return "DataFrame", _of_data_frame(given), None
    if hasattr(given, "to_dicts") and hasattr(given, "columns"):
        return "DataFrame", given.to_dicts(), None
    if hasattr(given, "column_names"):
        return "dataset", _undecoded(given), _file_of(given)
    if isinstance(given, bytes | bytearray | memoryview) or _is_numbers(given):
        raise DemonstrationError(f"Demonstrations: found {describe(given)}; expected {_EXPECTED}.")
    if isinstance(given, Iterable) and not hasattr(given, "read"):
        return name, given, None
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return name, (given[place] for place in range(len(given))), None
    raise DemonstrationError(f"Demonstrations: found {describe(given)}; expected {_EXPECTED}.")


def _is_numbers(given: Any) -> bool:
    """An array or a tensor: a picture at best, and no list of rows."""
    is_array = hasattr(given, "dtype") and hasattr(given, "ndim") and not hasattr(given, "index")
    return is_array and getattr(given.dtype, "kind", "") != "O"


def _of_mapping(given: Mapping[Any, Any]) -> Iterable[Any]:
    if hasattr(given, "column_names"):
        raise DemonstrationError(
            f"Demonstrations: found {describe(given)}; expected a list of rows: choose one of its "
            "splits."
        )
    if _is_columns(given):
        columns = {name: list(column) for name, column in given.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            raise DemonstrationError(
                f"Demonstrations: found columns of different lengths ({shown}); expected one value "
                "a row in each."
            )
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if given and all(_holds_rows(value) for value in given.values()):
        shown = ", ".join(repr(name) for name in list(given)[:4])
        raise DemonstrationError(
            f"Demonstrations: found lists of rows under the names {shown}; expected one list of "
            "rows: choose one of them."
        )
    return [given]


def _is_columns(given: Mapping[Any, Any]) -> bool:
    """Whether a dict holds lists, one a column, instead of one row."""
    if not given or not all(_is_list(value) for value in given.values()):
        return False
    if any(name in given for name in _SEVERAL):
        return True
    inner = given.get("messages", given.get("images"))
    return _is_list(inner) and len(inner) > 0 and _is_list(next(iter(inner)))


def _is_list(value: Any) -> bool:
    """A list, an array or a column of a table: what is iterated and is neither text nor a row."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping)


def _holds_rows(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return hasattr(value, "column_names") or hasattr(value, "iterrows")
    return isinstance(value[0], Mapping) and "role" not in value[0] and "type" not in value[0]


def _of_data_frame(frame: Any) -> Iterator[Any]:
    columns = [str(name) for name in frame.columns]
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise DemonstrationError(f"DataFrame: column {repeated!r} appears twice; expected it once.")
    values = [frame[name].tolist() for name in frame.columns]
    for row in zip(*values, strict=True):
        # What is not there is NaN in a table, which is the one number that is not itself.
        kept = zip(columns, row, strict=True)
        yield {name: value for name, value in kept if not _is_nan(value)}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _file_of(dataset: Any) -> Path | None:
    """The file in the cache of the `datasets` library that all rows lie in, if it is one."""
    files = {file.get("filename") for file in getattr(dataset, "cache_files", None) or []}
    only = files.pop() if len(files) == 1 else None
    return Path(only) if isinstance(only, str) else None


def _undecoded(dataset: Any) -> Iterator[Any]:
    """Yield a dataset's rows, its pictures as the bytes they came in, its classes as names."""
    if hasattr(dataset, "with_format"):  # tensors and arrays are for training
        dataset = dataset.with_format(None)
    features: dict[str, Any] = getattr(dataset, "features", None) or {}
    names = {}
    for column, feature in features.items():
        kind = type(feature).__name__
        inner: Any = getattr(feature, "feature", None)
        # Decoded pictures would all be held at once; bytes are decoded one at a time.
        if kind == "Image":
            dataset = dataset.cast_column(column, type(feature)(decode=False))
        elif type(inner).__name__ == "Image":
            dataset = dataset.cast_column(column, type(feature)(type(inner)(decode=False)))
        elif kind == "ClassLabel":
            names[column] = feature.int2str
        elif type(inner).__name__ == "ClassLabel":
            names[column] = inner.int2str
    for row in dataset:
        for column, name_of in names.items():
            row[column] = _named(row[column], name_of)
        yield row


def _named(value: Any, name_of: Any) -> Any:
    if isinstance(value, list):
        return [_named(one, name_of) for one in value]
    if isinstance(value, int):
        return name_of(value) if value >= 0 else None
    return value
