"""A task memory: what is kept of a set of demonstrations, ready for a frozen model to read.

Immutable and shared: caches made from it, on any device, share its segments and never write to
them. Its tensors are `Contents`, in memory or on disk. Knows nothing of how it was chosen.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tasm.arguments import GateKind
from tasm.arguments import path as a_path
from tasm.backbone.attention.cache import MemoryCache
from tasm.errors import InputError
from tasm.files import output_path
from tasm.memory.disk.stored import open_stored
from tasm.memory.disk.writing import write_memory
from tasm.memory.hub.card import card
from tasm.memory.hub.names import HubName, named, repository
from tasm.memory.made import MadeMemory
from tasm.memory.placement import Devices, Unpack
from tasm.memory.sessions import BankOn, Epsilon, open_cache


class TaskMemory(MadeMemory):
    """Core memory, latent bank and what is known about them.

    ```python
    memory = tasm.load("birds.tasm")
    output = model.hf.generate(**inputs, past_key_values=memory.cache())
    ```

    The arguments are what the properties of the same names say, and: `core` has None for a layer
    that keeps nothing; `gate` is "js" by default where there is a bank, else "never"; of `report` a
    file leaves out what differs from run to run.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """A memory on disk travels to other processes as its path and its digest."""
        if self.place is None or self.digest is None:
            raise InputError(
                "This task memory is held in memory only, so it cannot be pickled for another "
                "process. Save it and send what lies on disk: memory.save('birds.tasm'), then "
                "tasm.load('birds.tasm'), which travels as its path."
            )
        return _reopened, (str(self.place.absolute()), self.digest)

    # ------------------------------------------------------------------ reading it

    def cache(
        self,
        device: Devices = None,
        dtype: torch.dtype | None = None,
        gate: GateKind | None = None,
        epsilon: Epsilon | None = None,
        bank_on: BankOn = "auto",
        live_tokens: int | None = None,
        unpack: Unpack = "once",
    ) -> MemoryCache:
        """A fresh cache for one `generate` call or session; all share the memory's segments.

        ```python
        model.hf.generate(**inputs, past_key_values=memory.cache(gate="never"))
        ```

        Args:
            device: where the layers are: one device, one a layer, or None for where the memory is.
            dtype: what the model runs in; None for the memory's own. Where that is another than
                the model's (or on another device), each layer is converted when it is first read,
                once for all caches.
            gate: "missing", "js", "entropy", "always" or "never" instead of the memory's own; it
                is asked at every step.
            epsilon: threshold in nats, or "calibrated", instead of the memory's own.
            bank_on: "device" puts a copy of the bank beside each layer, so that nothing waits for
                the host and nothing breaks a graph; "host" searches it in host memory or on disk,
                and only where the gate opens. "auto" is "device" where the layers are on an
                accelerator and the bank takes at most a quarter of its free memory, else "host".
            live_tokens: a fixed buffer for query and answer, for torch.compile; None grows.
            unpack: of a packed memory, "once" for all caches, or "each step": the core stays packed
                and a layer is unpacked each time it is read, which takes less room and longer.

        Raises:
            InputError: a gate or a place that there is not, a threshold that is not a number of
                nats, a device or dtype that there is not, or a buffer without a place.
            DamageError: a memory on disk is not what was written.
        """
        return open_cache(
            self, self._placement, device, dtype, gate, epsilon, bank_on, live_tokens, unpack
        )

    # ------------------------------------------------------------------ on disk

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        pictures: Mapping[str, bytes] | None = None,
        replacing: str | None = None,
    ) -> int:
        """Write the memory to a folder; returns the folder's bytes.

        ```python
        memory.save("birds.tasm")
        ```

        Args:
            path: the folder, `NAME.tasm` by custom.
            overwrite: replace a memory that is there; readers of the old one are not disturbed.
            pictures: thumbnails (JPEG or PNG) by the SHA-256 of their pictures.
            replacing: with `overwrite`, the `digest` of the memory that may be replaced, so that a
                change made meanwhile is not lost.

        Raises:
            InputError: the path exists and is not to be overwritten, is no memory, or cannot be
                written to.
            WorkError: the disk is full, another process is writing, or the memory there is not
                `replacing` any more; nothing half-written stays.
        """
        place = output_path(path, "path")
        return write_memory(
            self, place, overwrite=overwrite, pictures=pictures, replacing=replacing
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        pictures: Mapping[str, bytes] | None = None,
    ) -> Any:
        """Push the memory to a repository of the Hugging Face hub, in one commit; returns what
        `huggingface_hub.HfApi.create_commit` does (`commit_url`, `oid`).

        ```python
        memory.push_to_hub("me/birds", private=True)
        tasm.load("me/birds")
        ```

        A card (README.md) is written with it. The memory that was there is replaced, other files
        stay. Paths of this machine are left out, so the `digest` is another one.

        Args:
            repo_id: `owner/name`; it is made where it is not there.
            private: who may see a repository that is made here; None for the hub's own rule.
            commit_message: of the commit.
            token: for the hub; None for the one of `hf auth login`.
            revision: a branch; it is made where it is not there.
            pictures: thumbnails as `save` takes them; None for those of a memory on disk.

        Raises:
            InputError: no such name, or a public repository where `private` is asked for.
            HubError: the hub refuses, or cannot be reached; nothing was changed there.
            DamageError: a memory on disk is not what was written.
        """
        from tasm.memory.hub.pushing import push_folder, without_places

        name = repository(repo_id)
        thumbnails = self.thumbnails() if pictures is None else pictures
        bare = self.replaced(**without_places(self.demonstrations, self.model_name))
        with tempfile.TemporaryDirectory(prefix="tasm-push-") as work:
            folder = Path(work) / "memory.tasm"
            bare.save(folder, pictures=thumbnails)
            return push_folder(
                folder,
                card(bare, name, len(thumbnails)),
                name,
                private=private,
                commit_message=commit_message,
                token=token,
                revision=revision,
            )

    @classmethod
    def load(
        cls, path: str | Path, *, revision: str | None = None, token: str | bool | None = None
    ) -> "TaskMemory":
        """Open a memory: its manifest and its files' headers are checked, nothing else is read.

        Blocks are checked before they are used: the core's before the first answer, the bank's when
        a search touches them, everything by `check_all`.

        ```python
        memory = tasm.load("birds.tasm")
        memory = tasm.load("me/birds", revision="v1")  # of the hub, fetched once
        ```

        Args:
            path: the folder, or `owner/name` (`owner/name@revision`) of a repository on the Hugging
                Face hub. What lies here wins; the hub is asked where neither the folder nor one
                called `owner` is here.
            revision: a branch, tag or commit of the repository.
            token: for the hub; None for the one of `hf auth login`.

        Raises:
            InputError: there is no memory.
            HubError: it cannot be fetched, or is damaged there.
            DamageError: the manifest is not what was written, or a file is missing or truncated.
            FormatError: it was written by a newer tasm.
        """
        folder = a_path(path, "path", "the folder of a task memory")
        if (name := named(folder)) is not None:
            folder = _fetched(name, revision, token)
        elif revision is not None:
            raise InputError(
                f"revision is {revision!r}, and {folder} is a folder or none of the hub's names. "
                "Leave the revision out, or give owner/name."
            )
        memory = object.__new__(cls)
        memory._take(*open_stored(folder))
        return memory


def _fetched(name: HubName, revision: str | None, token: str | bool | None) -> Path:
    from tasm.memory.hub.fetching import fetched

    if revision is not None and name.revision is not None:
        raise InputError(f"{name} names a revision, and revision is {revision!r}. Give one.")
    return fetched(replace(name, revision=revision or name.revision), token)


def _reopened(place: str, digest: str) -> TaskMemory:
    """What unpickling a memory on disk does; raises InputError where it is not there any more, or
    another one is."""
    try:
        memory, problem = TaskMemory.load(place), ""
    except InputError as error:
        memory, problem = None, f"cannot be opened: {error}"
    if memory is None or memory.digest != digest:
        raise InputError(
            f"A task memory came from another process as its path, {place}, and "
            f"{problem or 'another memory lies there now: its digest differs.'} Let this process "
            "see the same folder, unchanged, or open a memory by its path here: tasm.load(…)."
        )
    return memory
