"""Pixtral's image layout, for the versions of transformers whose Pixtral processor needs
torchvision.

Images become rows of image tokens with a break token after each row and an end token after the
last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasm.backbone.hugging_face import HfImageProcessor, HfTokenizer


@dataclass(eq=False)
class PixtralRows:
    """An image processor, a tokenizer and a chat template, laid out as `PixtralProcessor` does.

    Source: transformers, `PixtralProcessor.replace_image_token` (Mistral Small 3.1, Pixtral 12B).

    ```python
    processor = PixtralRows(image_processor, tokenizer, patch_size=14, spatial_merge_size=2)
    inputs = processor(images=[[image]], text=["[IMG]What is it?"], return_tensors="pt")
    ```
    """

    image_processor: HfImageProcessor
    tokenizer: HfTokenizer
    patch_size: int = 16
    spatial_merge_size: int = 1
    image_token: str = "[IMG]"
    image_break_token: str = "[IMG_BREAK]"
    image_end_token: str = "[IMG_END]"
    chat_template: str | None = None

    def apply_chat_template(self, conversation: list[dict[str, Any]], **settings: Any) -> str:
        """Render a conversation as text, images as one image token each."""
        text = self.tokenizer.apply_chat_template(
            conversation, **{**settings, "chat_template": self.chat_template, "tokenize": False}
        )
        return str(text)

    def __call__(
        self,
        *,
        images: Sequence[Sequence[Any]],
        text: Sequence[str],
        return_tensors: str = "pt",
        **settings: Any,
    ) -> dict[str, Any]:
        """Return the image tensors and the tokens of `text` with its images expanded."""
        step = self.patch_size * self.spatial_merge_size
        flat = [image for sample in images for image in sample]
        image_inputs = self.image_processor(flat, patch_size=step, return_tensors=return_tensors)
        expansions = [
            self._rows(int(height) // step, int(width) // step)
            for height, width in image_inputs["image_sizes"]
        ]
        expanded = []
        remaining = iter(expansions)
        for sample in text:
            pieces = sample.split(self.image_token)
            joined = pieces[0] + "".join(next(remaining) + piece for piece in pieces[1:])
            expanded.append(joined)
        tokens = self.tokenizer(expanded, return_tensors=return_tensors, **settings)
        return {**tokens, **image_inputs}

    def _rows(self, height: int, width: int) -> str:
        row = self.image_token * width
        return (row + self.image_break_token) * (height - 1) + row + self.image_end_token
