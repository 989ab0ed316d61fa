"""Files that are written whole or not at all, and what killed writers left behind.

What is unfinished is called `.NAME.XXXXXXXX.partial` and lies beside what it becomes; its writer
holds a lock (`flock`) on it, which the system drops with the process. So the next writer to the
same place knows what nobody will finish, and removes it. Knows files; nothing of memories.

```python
check_writable(Path("birds.tasm"), 40_000_000)        # before the work
with new_folder(Path("birds.tasm")) as folder:        # in place when all went well, or not at all
    write_bytes(folder / "notes.txt", b"...")
```
"""

from tasm.files.locks import writer_lock
from tasm.files.places import (
    PARTIAL,
    check_writable,
    free_bytes,
    naming_work,
    output_path,
    read_regular,
    regular_size,
)
from tasm.files.writing import (
    check_replaceable,
    new_folder,
    remove_leftovers,
    sync_folder,
    whole_folder,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    "PARTIAL",
    "check_replaceable",
    "check_writable",
    "free_bytes",
    "naming_work",
    "new_folder",
    "output_path",
    "read_regular",
    "regular_size",
    "remove_leftovers",
    "sync_folder",
    "whole_folder",
    "write_bytes",
    "write_json",
    "write_text",
    "writer_lock",
]
