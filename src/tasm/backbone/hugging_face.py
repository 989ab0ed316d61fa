"""What transformers' objects are called in annotations. Imports nothing of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig as HfGenerationConfig
    from transformers import PretrainedConfig as HfConfig
    from transformers import PreTrainedModel as HfModel
    from transformers import PreTrainedTokenizerBase as HfTokenizer
    from transformers import ProcessorMixin as HfProcessor
    from transformers.image_processing_utils import BaseImageProcessor as HfImageProcessor
else:
    HfConfig = HfGenerationConfig = HfImageProcessor = HfModel = HfProcessor = HfTokenizer = Any

__all__ = [
    "HfConfig",
    "HfGenerationConfig",
    "HfImageProcessor",
    "HfModel",
    "HfProcessor",
    "HfTokenizer",
]
