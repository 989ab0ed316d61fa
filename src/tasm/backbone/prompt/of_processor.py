"""What a model's processor and configuration say of its prompts: template, image token, layout."""

from tasm.backbone.checkpoint.families import Family
from tasm.backbone.checkpoint.processors import template_of, tokenizer_of
from tasm.backbone.geometry import image_token
from tasm.backbone.hugging_face import HfConfig, HfProcessor
from tasm.backbone.prompt.chat_template import ChatTemplate
from tasm.backbone.prompt.image_layout import ImageLayout
from tasm.backbone.prompt.laying_out import Conversations
from tasm.errors import ModelError


def conversations_of(
    processor: HfProcessor, family: Family, config: HfConfig, arguments: frozenset[str]
) -> Conversations:
    """Return what lays conversations out for a model; `arguments` are its forward pass's names.

    Raises ModelError where there is no chat template, or no telling which token is an image's.
    """
    tokenizer = tokenizer_of(processor)
    source = template_of(processor)
    if not source:
        raise ModelError(
            "The processor has no chat template; set processor.chat_template to the model's own."
        )
    if family.kind == "text":
        template = ChatTemplate(tokenizer, source, ())
        return Conversations(tokenizer, template, None, image_token_id=None, special_tokens=False)
    token_id = image_token(config)
    token_id = getattr(processor, "image_token_id", None) if token_id is None else token_id
    if token_id is None:
        raise ModelError(
            f"Which token stands for an image cannot be told: looked for image_token_id and "
            f"image_token_index in the configuration of {config.model_type!r} and for "
            f"image_token_id in {type(processor).__name__}."
        )
    written = tokenizer.convert_ids_to_tokens(token_id)
    named = (getattr(processor, "image_token", None), getattr(processor, "boi_token", None))
    candidates = tuple(dict.fromkeys(c for c in (*named, written) if isinstance(c, str)))
    template = ChatTemplate(tokenizer, source, candidates)
    images = ImageLayout(
        processor,
        family,
        config,
        image_token=written,
        placeholder=template.placeholder or written,
        arguments=arguments,
    )
    return Conversations(tokenizer, template, images, image_token_id=token_id, special_tokens=True)
