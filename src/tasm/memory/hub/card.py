"""`README.md` of a memory on the hub: what it is, its figures, how to open it. Knows what is known
of a memory; nothing of the network."""

import re

from tasm.memory.described import DescribedMemory
from tasm.memory.hub.names import parsed

MARK = "<!-- Written by tasm. Without this line, a push leaves this page as it is. -->"


def card(memory: DescribedMemory, repository: str, thumbnails: int) -> str:
    """The page, its YAML head included; `thumbnails` is how many pictures are pushed with it."""
    return f"{_head(memory)}{MARK}\n\n{_body(memory, repository, thumbnails)}"


def base_model(memory: DescribedMemory) -> str | None:
    """The hub's name of the model that the memory was made for; None where it has none."""
    name = parsed(memory.model_name)
    return None if name is None else name.repository


def _head(memory: DescribedMemory) -> str:
    lines = ["---", "library_name: tasm"]
    if (base := base_model(memory)) is not None:
        lines.append(f"base_model: {base}")
    if any(entry.pictures for entry in memory.demonstrations):
        lines.append("pipeline_tag: image-text-to-text")
    lines += ["tags:", "- tasm", "- task-memory", "- in-context-learning", "---", ""]
    return "\n".join(lines)


def _body(memory: DescribedMemory, repository: str, thumbnails: int) -> str:
    held = memory.core_bytes + memory.bank_bytes
    texts = sum(entry.question is not None for entry in memory.demonstrations)
    identity = memory.identity.to_json().get("weights", "")
    rows = {
        "model": f"{_code(memory.model_name or 'not said')}, weights {_code(identity[:16])}…",
        "demonstrations": f"{len(memory.demonstrations)}, {memory.logical_length:,} tokens",
        "recipe": _code(str(memory.recipe.get("name", "of its own"))),
        "core": f"{memory.core_bytes:,} bytes",
        "bank": f"{memory.bank_bytes:,} bytes" if memory.bank is not None else "none",
        "of the full context": f"{100 * held / max(memory.full_bytes, 1):.1f} %",
        "numbers": memory.packing or memory.dtype,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# {repository}

A task memory: what a frozen vision-language model keeps of {len(memory.demonstrations)} solved
examples, so that it answers new questions of the same kind. It works with the model below and no
other; its weights are not in here. Made with tasm.

| | |
|---|---|
{table}

```console
$ tasm ask {repository} --question "…" --image new.png
$ tasm verify {repository}
```

```python
import tasm

memory = tasm.load("{repository}")
model = tasm.load_model("{base_model(memory) or "the folder of the model"}")
answer = model.ask(memory, question="…", images=["new.png"])
```

Questions and answers of {texts or "no"} demonstrations and {thumbnails or "no"} thumbnails of
their pictures are in it. Its keys and values encode the demonstrations in any case: treat a memory
as you treat the data it was built from.
"""


def _code(text: str) -> str:
    """A text as code, whatever it holds."""
    plain = re.sub(r"[`|<>\s]", " ", text)[:200]
    return f"`{plain}`"
