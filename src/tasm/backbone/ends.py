"""Which tokens end an answer, and whether the template and the configurations agree on them.

An answer ends at every token that the chat template writes after one, at every end token that the
model's configurations name, and at the tokenizer's own. A merged fine-tune often keeps the end
token of its base model in its configurations, and the template tells the truth; a plain template
(`USER: … ASSISTANT: …`) has no token for the end of a turn, and the configurations tell it.
Ordinary characters never end an answer.
"""

from typing import Any

from tasm.backbone.hugging_face import HfModel
from tasm.backbone.model import Backbone


def answer_ends(backbone: Backbone) -> tuple[int, ...]:
    """Return the ids of all tokens that end an answer of this model, the template's first.

    ```python
    answer_ends(model.backbone)      # (151645, 151644, 151643) for Qwen2-VL
    ```
    """
    own = backbone.tokenizer.eos_token_id
    ends = (*backbone.template_ends, *end_tokens(backbone.hf), *_ids(own))
    return tuple(dict.fromkeys(ends))


def end_tokens(hf: HfModel) -> tuple[int, ...]:
    """Return the ids of the end tokens that the model's configurations name, each once."""
    config = hf.config
    holders = (getattr(hf, "generation_config", None), config, config.get_text_config())
    ends = [token for one in holders for token in _ids(getattr(one, "eos_token_id", None))]
    return tuple(dict.fromkeys(ends))


def end_disagreement(backbone: Backbone) -> str | None:
    """Return a sentence where template and configurations name different ends, None where not.

    ```python
    print(end_disagreement(model.backbone) or "They agree.")
    ```
    """
    template, configured = backbone.template_ends, end_tokens(backbone.hf)
    if template and template[0] not in configured:
        named = _named(backbone, configured) if configured else "none"
        return (
            f"The chat template ends an answer with {_named(backbone, template[:1])}, but the "
            f"configurations name {named} as end tokens. tasm stops at all of them; other programs "
            f"may run on: set 'eos_token_id' in generation_config.json to "
            f"{[*template[:1], *configured]}."
        )
    if not answer_ends(backbone):
        return (
            "Neither the chat template nor the configurations name a token that ends an answer, so "
            "every answer is as long as --max-new-tokens allows. Set 'eos_token_id' in "
            "generation_config.json."
        )
    return None


def _ids(value: Any) -> tuple[int, ...]:
    given = value if isinstance(value, list | tuple) else (value,)
    return tuple(int(token) for token in given if token is not None)


def _named(backbone: Backbone, tokens: tuple[int, ...]) -> str:
    names = backbone.tokenizer.convert_ids_to_tokens(list(tokens))
    shown = [
        f"token {token}" if name is None else f"{name!r} ({token})"
        for token, name in zip(tokens, names, strict=True)
    ]
    return ", ".join(shown)
