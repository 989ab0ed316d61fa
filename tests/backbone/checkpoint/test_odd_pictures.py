"""Tiny, narrow and huge pictures in every family: read right, or refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from tasm.backbone import Backbone, Layout
from tasm.backbone.prompt.image_shapes import usable
from tasm.demonstrations import make_query, read_demonstrations
from tasm.errors import DemonstrationError
from tests.backbone.conftest import PICTURES, picture
from tests.tiny_folders import IMAGE_FAMILIES

pytestmark = pytest.mark.matrix

SIZES = [(1, 1), (2, 1), (3, 3), (4, 4), (1, 100), (100, 3), (3, 1200), (20_000, 3), (1, 3000)]
OLDER = hasattr(transformers.GenerationMixin, "_get_initial_cache_position")
REFUSED_BY_OLDER = {
    "idefics3": [(20_000, 3)],
    "smolvlm": [(20_000, 3)],
    "glm4v": [size for size in SIZES if size != (20_000, 3)],
}
"""What the processors of transformers 4.57 and 5.0 refuse; the refusal names the picture."""


def two_colours(size: tuple[int, int]) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_pictures_of_any_shape_are_read(
    backbone_of: Callable[[str], Backbone], family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = backbone_of(family)
    refused = REFUSED_BY_OLDER.get(family, []) if OLDER else []
    for size in refused:
        with pytest.raises(DemonstrationError, match=r"picture.*cannot be used with this model"):
            query = make_query("Which colour?", [two_colours(size)])
            backbone.query_inputs([query], layout=Layout())
    sizes = [size for size in SIZES if size not in refused]
    for size in sizes:
        query = make_query("Which colour?", [two_colours(size)])
        for several in (False, True):
            inputs = backbone.query_inputs([query], layout=Layout(multi_image=several))
            with torch.inference_mode():
                assert backbone.hf(**inputs).logits.isfinite().all(), size
    together = [make_query("Which?", [two_colours(size)]) for size in sizes]
    assert backbone.query_inputs(together, layout=Layout(multi_image=True))
    assert "ambiguous" not in capsys.readouterr().err


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_a_side_of_three_pixels_is_no_row_of_colours(
    backbone_of: Callable[[str], Backbone], family: str
) -> None:
    """Nothing but blue and red: whatever is scaled, the green channel stays dark."""
    if OLDER and (100, 3) in REFUSED_BY_OLDER.get(family, []):
        pytest.skip("this transformers refuses so narrow a picture")
    backbone = backbone_of(family)
    query = make_query("Which colour?", [two_colours((100, 3))])
    pixels = backbone.query_inputs([query], layout=Layout(multi_image=True))["pixel_values"]
    if pixels.ndim == 2:  # rows of patches: (colour, time, height, width)
        values = pixels.reshape(len(pixels), 3, -1)[:, 1]
    else:
        values = pixels.movedim(-3, 0)[1]
    assert float(values.max()) < 0.2, "the picture was read across its colours"


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_ordinary_pictures_are_not_touched(
    backbone_of: Callable[[str], Backbone], family: str
) -> None:
    from tasm.backbone.prompt.image_shapes import largest_ratio, least_length

    processor = backbone_of(family).processor
    ratio, length = largest_ratio(processor.image_processor), least_length(processor)
    for image in (*PICTURES, picture(15, 17), picture(4, 110)):
        assert usable(image, ratio, length) is image


def test_the_refusal_names_row_picture_and_sizes(
    backbone_of: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of("gemma3")
    processor: Any = backbone.processor.image_processor
    real = type(processor).preprocess

    def fussy(self: Any, images: Any, *arguments: Any, **settings: Any) -> Any:
        flat = [image for row in images for image in (row if isinstance(row, list) else [row])]
        if any(image.width == 90 for image in flat):
            raise KeyError("ninety")
        return real(self, images, *arguments, **settings)

    monkeypatch.setattr(type(processor), "preprocess", fussy)
    rows = read_demonstrations(
        [{"question": f"{n}?", "answer": "a", "image": image} for n, image in enumerate(PICTURES)]
    )
    with pytest.raises(
        DemonstrationError, match=r"\(90 × 60 pixels\) cannot be used .*ninety"
    ) as no:
        backbone.transcript(rows)
    assert str(no.value).startswith("demonstrations[2]: The picture in memory")
    with pytest.raises(DemonstrationError, match="90 × 60"):
        backbone.query_inputs([make_query("Which?", [PICTURES[2]])], layout=Layout())
