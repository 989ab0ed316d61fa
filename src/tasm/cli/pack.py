"""`tasm pack`: the same memory in fewer bytes."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from tasm.cli.files import check_out_memory
from tasm.cli.frame import Result, command
from tasm.cli.opening import open_memory, open_model
from tasm.cli.options import MemoryPath, ModelPlace, NewMemory, Overwrite

if TYPE_CHECKING:
    from tasm.memory import TaskMemory


@command
def pack(
    memory: MemoryPath,
    out: NewMemory,
    store: Annotated[
        Literal["int8", "int4"], Option(help="How many bits a number of a key or value takes.")
    ] = "int4",
    model: ModelPlace = None,
    overwrite: Overwrite = False,
) -> Result:
    """Pack a memory's keys and values into 8 or 4 bits a number.

    The model is opened, because keys are packed as they were before its rotation; reading the
    packed memory does not need that. What is packed is not undone: keep the memory it came from.

    \b
    Examples:
      tasm pack birds.tasm --out small.tasm
      tasm pack birds.tasm --store int8 --out half.tasm
    """
    check_out_memory(out, overwrite, inputs=[memory])
    plain = open_memory(memory)
    opened = open_model(plain, model)
    started = time.perf_counter()
    packed = plain.packed(store, opened)
    packed_at = time.perf_counter()
    file_bytes = packed.save(out, overwrite=overwrite, pictures=plain.thumbnails())
    document = {
        "memory": str(out),
        "packing": store,
        "full_bytes": plain.full_bytes,
        "core_bytes": packed.core_bytes,
        "bank_bytes": packed.bank_bytes,
        "core_bytes_before": plain.core_bytes,
        "bank_bytes_before": plain.bank_bytes,
        "file_bytes": file_bytes,
        "seconds": {"pack": packed_at - started, "unpack": _unpacking(out)},
    }
    return Result(document, lambda: _for_people(document, plain))


def _unpacking(place: Any) -> float:
    """Seconds from opening the folder to keys and values that attention can read."""
    started = time.perf_counter()
    open_memory(place).cache(gate="never")
    return time.perf_counter() - started


def _for_people(document: Mapping[str, Any], plain: "TaskMemory") -> str:
    from tasm.cli.text import bytes_text, seconds_text

    before = document["core_bytes_before"] + document["bank_bytes_before"]
    after = document["core_bytes"] + document["bank_bytes"]
    return (
        f"{document['memory']}: {bytes_text(after)} in {document['packing']}, "
        f"{100 * after / before:.1f} % of {bytes_text(before)} in {plain.packing or plain.dtype}.\n"
        f"Checked and unpacked again in {seconds_text(document['seconds']['unpack'])}."
    )
