"""What wraps a transformers model: which model is inside, what its forward pass takes, where it is.

Knows PEFT, torch.compile, accelerate and modules of one's own by what they look like; imports none
of them.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.hugging_face import HfModel
from tasm.errors import ModelError


def unwrap(hf: Any) -> HfModel:
    """Return the transformers model inside whatever wraps it; the model itself where nothing does.

    ```python
    unwrap(get_peft_model(model, config)) is model        # True
    unwrap(torch.compile(model)) is model                 # True
    ```

    Raises ModelError for anything without exactly one transformers model that can generate.
    """
    from transformers import PreTrainedModel

    if not isinstance(hf, nn.Module):
        raise ModelError(
            f"hf is {_kind(hf)}; expected a transformers model, such as "
            f"AutoModelForImageTextToText.from_pretrained(…) gives.{_swapped(hf)}"
        )
    found = list(_outermost(hf, PreTrainedModel))
    if len(found) != 1:
        names = ", ".join(type(model).__name__ for model in found) or "none"
        raise ModelError(
            f"hf, a {type(hf).__name__}, holds {len(found)} transformers models ({names}); "
            "expected one. Give the transformers model itself."
        )
    core: HfModel = found[0]
    if not core.can_generate():
        raise ModelError(
            f"{type(core).__name__} has no language head to generate with; open the checkpoint "
            "with AutoModelForImageTextToText or AutoModelForCausalLM."
        )
    _refuse_prompts(hf)
    return core


def runner(hf: Any, core: HfModel) -> Any:
    """Return what to call and to generate with: the wrapper, or the model where it cannot generate.

    Raises ModelError where such a wrapper computes something else than the model inside.
    """
    if hf is core or (callable(getattr(hf, "generate", None)) and hasattr(hf, "config")):
        return hf
    if all(parameter.device.type != "meta" for parameter in core.parameters()):
        _refuse_another_function(hf.eval(), core.eval())
    return core


def forward_arguments(core: HfModel) -> frozenset[str]:
    """Return the names of the arguments of a transformers model's forward pass.

    Read from its class: a forward that was replaced on the model, or a subclass's that takes
    `(*args, **kwargs)`, says nothing about them.
    """
    for kind in type(core).__mro__:
        if "forward" in vars(kind) and kind is not nn.Module:
            names = inspect.signature(vars(kind)["forward"]).parameters
            if "input_ids" in names:
                return frozenset(names)
    raise ModelError(
        f"What {type(core).__name__}.forward takes cannot be told: it names no `input_ids`. "
        "Expected a transformers model's own forward."
    )


def show_arguments(core: HfModel) -> None:
    """Give a forward that was replaced on the model the signature it stands for.

    transformers' `generate` reads it, and refuses images where it says `(*args, **kwargs)`;
    functools.wraps would have done the same.
    """
    replaced = vars(core).get("forward")
    if replaced is None or "input_ids" in inspect.signature(replaced).parameters:
        return
    own = inspect.signature(type(core).forward)
    without_self = own.replace(parameters=list(own.parameters.values())[1:])
    try:
        replaced.__signature__ = without_self
    except AttributeError as error:
        raise ModelError(
            f"The forward that replaces {type(core).__name__}'s own does not say what it takes. "
            "Put functools.wraps(model.forward) on it."
        ) from error


def running_device(core: HfModel) -> torch.device:
    """Return where a model takes its tokens, also where its weights are kept elsewhere."""
    for module in (core.get_input_embeddings(), core):
        place = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if place is not None:
            return torch.device(place)
    for parameter in core.parameters():
        if parameter.device.type != "meta":
            return parameter.device
    raise ModelError(
        f"The weights of {type(core).__name__} are on the device 'meta', where tensors have no "
        "values. Load the checkpoint onto 'cpu' or an accelerator."
    )


def kept_tensor(module: Any, name: str, tensor: Tensor) -> Tensor:
    """Return a module's tensor, from where accelerate keeps it if the module holds none.

    Raises ModelError for a tensor without values.
    """
    if tensor.device.type != "meta":
        return tensor
    hooks = [getattr(module, "_hf_hook", None)]
    hooks += getattr(hooks[0], "hooks", ())
    for hook in hooks:
        kept = getattr(hook, "weights_map", None)
        if kept is not None:
            return kept[name]  # type: ignore[no-any-return]
    raise ModelError(
        f"{name!r} of a {type(module).__name__} is on the device 'meta', where tensors have no "
        "values. Load the checkpoint onto 'cpu' or an accelerator."
    )


def _outermost(module: nn.Module, kind: type) -> Any:
    if isinstance(module, kind):
        yield module
        return
    seen: set[int] = set()
    for child in module.children():
        for model in _outermost(child, kind):
            if id(model) not in seen:
                seen.add(id(model))
                yield model


@torch.inference_mode()
def _refuse_another_function(hf: Any, core: HfModel) -> None:
    tokens = torch.arange(1, 5, device=running_device(core))[None]
    arguments = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    expected = core(**arguments).logits
    try:
        output = hf(**arguments)
    except Exception as error:
        raise ModelError(
            f"{type(hf).__name__} cannot be called like the {type(core).__name__} in it "
            f"({type(error).__name__}). Give the transformers model itself."
        ) from error
    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) else output)
    if not isinstance(logits, Tensor) or not torch.equal(logits.to(expected), expected):
        raise ModelError(
            f"{type(hf).__name__} computes something else than the {type(core).__name__} in it, "
            "and has no generate() of its own. Give a model whose generate() does what its "
            "forward pass does, or the transformers model itself."
        )


def _refuse_prompts(hf: Any) -> None:
    for module in hf.modules():
        configs = getattr(module, "peft_config", None)
        for name, config in configs.items() if isinstance(configs, dict) else ():
            if getattr(config, "is_prompt_learning", False) or getattr(
                config, "alora_invocation_tokens", None
            ):
                raise ModelError(
                    f"The adapter {name!r} ({type(config).__name__}) puts tokens of its own before "
                    "each prompt or depends on where a prompt begins, which a memory cannot "
                    "stand behind. Use an adapter of the weights, such as LoRA."
                )
        if not hasattr(module, "peft_config"):
            return  # adapters are known to the wrappers alone and to the model in them


def _kind(thing: Any) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"


def _swapped(hf: Any) -> str:
    is_processor = hasattr(hf, "tokenizer") or hasattr(hf, "convert_ids_to_tokens")
    return " Model and processor are swapped: tasm.wrap(model, processor)." if is_processor else ""


def check_processor(processor: Any) -> None:
    """Refuse what is neither a processor nor a tokenizer, in a sentence."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise ModelError(
            f"The processor is {_kind(processor)}; expected the model's processor (or, of a text "
            "model, its tokenizer), such as AutoProcessor.from_pretrained(…) gives."
        )
