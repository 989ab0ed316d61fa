"""The model families that are known, and the models that come with tasm, as facts. Imports neither
torch nor transformers.

A family that is not listed works where its processor names an image token and its chat template
can be taken apart; what is missing is then said in a `ModelError`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tasm.backbone.checkpoint.random_models import RANDOM_MODELS

Places = Literal["text", "grid", "square", "anyres", "tiles", "rows"]


@dataclass(frozen=True)
class Family:
    """One row of the table.

    `name` is the `model_type` of config.json. `places` says how an image's tokens lie on the image:

    | places | an image's tokens are |
    |---|---|
    | `grid` | a (t, h, w) grid that the processor reports, merged |
    | `square` | one square (or several, one after another: crops) |
    | `anyres` | a square of the whole image, then a finer grid, each row with a newline token |
    | `tiles` | squares with a tag before each: row by row, then one of the whole image |
    | `rows` | rows with a break token after each |
    | `text` | there are no images |

    `lone_image_differs`: a lone image is laid out otherwise than the images of a conversation of
    several.
    """

    name: str
    title: str
    places: Places
    example: str
    lone_image_differs: bool = False

    @property
    def kind(self) -> str:
        """`"image-text"` or `"text"`."""
        return "text" if self.places == "text" else "image-text"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("qwen2_vl", "Qwen2-VL", "grid", "Qwen/Qwen2-VL-2B-Instruct"),
        Family("qwen2_5_vl", "Qwen2.5-VL", "grid", "Qwen/Qwen2.5-VL-7B-Instruct"),
        Family("qwen3_vl", "Qwen3-VL", "grid", "Qwen/Qwen3-VL-4B-Instruct"),
        Family("llava", "LLaVA 1.5", "square", "llava-hf/llava-1.5-7b-hf"),
        Family("llava_next", "LLaVA-NeXT", "anyres", "llava-hf/llava-v1.6-mistral-7b-hf"),
        Family("llava_next_video", "LLaVA-NeXT-Video", "anyres", "llava-hf/LLaVA-NeXT-Video-7B-hf"),
        Family(
            "llava_onevision",
            "LLaVA-OneVision",
            "anyres",
            "llava-hf/llava-onevision-qwen2-7b-ov-hf",
            lone_image_differs=True,
        ),
        Family("idefics3", "Idefics3", "tiles", "HuggingFaceM4/Idefics3-8B-Llama3"),
        Family("smolvlm", "SmolVLM", "tiles", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"),
        Family("internvl", "InternVL", "square", "OpenGVLab/InternVL3-8B-hf"),
        Family("gemma3", "Gemma 3", "square", "google/gemma-3-4b-it"),
        Family(
            "mistral3", "Mistral Small 3", "rows", "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
        ),
        Family("glm4v", "GLM-4V", "grid", "zai-org/GLM-4.1V-9B-Thinking"),
        Family("llama", "Llama", "text", "meta-llama/Llama-3.1-8B-Instruct"),
        Family("qwen2", "Qwen2", "text", "Qwen/Qwen2.5-7B-Instruct"),
        Family("qwen3", "Qwen3", "text", "Qwen/Qwen3-4B"),
        Family("gemma2", "Gemma 2", "text", "google/gemma-2-2b-it"),
    )
}


def family_of(model_type: str, *, has_images: bool) -> Family:
    """Return the family of a `model_type`; an unlisted one gets generic facts.

    ```python
    >>> family_of("qwen2_vl", has_images=True).places
    'grid'
    >>> family_of("unheard_of", has_images=False).kind
    'text'
    ```
    """
    listed = FAMILIES.get(model_type)
    if listed is not None and (listed.kind == "image-text") == has_images:
        return listed
    return Family(model_type, model_type, "square" if has_images else "text", "")


_REFERENCE = "The small vision-language model that comes with tasm; it learns in context"


def models() -> dict[str, list[dict[str, Any]]]:
    """Return the models that come with tasm (`bundled`) and the known `families`.

    ```python
    [family["name"] for family in tasm.models()["families"]]
    ```

    Other families are tried, and what is missing is then said.
    """
    families = [
        {"name": one.name, "title": one.title, "kind": one.kind, "example": one.example}
        for one in FAMILIES.values()
    ]
    bundled = [{"name": "reference", "title": _REFERENCE}]
    bundled += [{"name": f"random:{name}", "title": m.title} for name, m in RANDOM_MODELS.items()]
    return {"bundled": bundled, "families": families}
