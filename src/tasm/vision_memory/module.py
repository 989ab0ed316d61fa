"""Mema's equations: a recurrent memory through a vision tower's layers, fed back into its tokens.

arXiv 2603.00655. One set of weights serves all layers. Knows neither towers nor questions' words:
it is given tokens, which image each belongs to, and one question vector an image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasm.vision_memory.grouping import Grouping
from tasm.vision_memory.settings import AdapterSettings

LAYER_NORM_EPSILON = 1e-5
FORGET_BIAS = 1.0
GATE_BIAS = -2.2
"""The feedback's gate is about a tenth open at the start."""


def normalised(vectors: Tensor) -> Tensor:
    """LayerNorm without affine; of zeros it gives zeros."""
    return F.layer_norm(vectors, vectors.shape[-1:], eps=LAYER_NORM_EPSILON)


class UpdateUnit(nn.Module):
    """The memory's update, the paper's HME.

    ```
    u = ReLU(W_1 [LN(c); y; q])
    c ← σ(W_f u + b_f) ⊙ c + σ(W_i u + b_i) ⊙ tanh(W_c u + b_c)
    ```

    The biases b come on top of the linear layers' own; b_f begins at 1. Without a question (q)
    the first layer takes [LN(c); y].
    """

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__()
        width, hidden = settings.width, settings.width // settings.reduction
        self.reduce = nn.Linear((2 if settings.question_free else 3) * width, hidden)
        self.candidate = nn.Linear(hidden, width)
        self.input = nn.Linear(hidden, width)
        self.forget = nn.Linear(hidden, width)
        self.candidate_bias = nn.Parameter(torch.zeros(width))
        self.input_bias = nn.Parameter(torch.zeros(width))
        self.forget_bias = nn.Parameter(torch.full((width,), FORGET_BIAS))

    def forward(self, memory: Tensor, seen: Tensor, question: Tensor | None) -> Tensor:
        """Return the new memory (images, width) of the old one, the layer's `seen` (images,
        width) and the question (images, width)."""
        parts = [normalised(memory), seen]
        if question is not None:
            parts.append(question)
        u = F.relu(self.reduce(torch.cat(parts, -1)))
        candidate = torch.tanh(self.candidate(u) + self.candidate_bias)
        admitted = torch.sigmoid(self.input(u) + self.input_bias)
        kept = torch.sigmoid(self.forget(u) + self.forget_bias)
        return kept * memory + admitted * candidate


class Feedback(nn.Module):
    """What a token takes from a vector beside it, the paper's MVA.

    ```
    z = LN(x + c);   x ← x + σ(w·z + b) tanh(W_b GELU(W_a z))
    ```

    W_b and its bias begin at zero, so that at first nothing changes; W_a does not, so that W_b
    learns from the first step on.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)
        self.gate = nn.Linear(width, 1)
        with torch.no_grad():
            self.outer.weight.zero_()
            self.outer.bias.zero_()
            self.gate.bias.fill_(GATE_BIAS)

    def forward(self, tokens: Tensor, beside: Tensor) -> Tensor:
        """Return what is added to the tokens; `beside` broadcasts to their shape."""
        z = normalised(tokens + beside)
        delta = torch.tanh(self.outer(F.gelu(self.inner(z))))
        return torch.sigmoid(self.gate(z)) * delta


class VisionAdapter(nn.Module):
    """What changes a tower's tokens after every block; `Mema` and `PlainAdapter` are."""

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__()
        self.settings = settings
        self.text: nn.Linear | None = None
        if not settings.question_free:
            self.text = nn.Linear(settings.text_width, settings.width)

    def question(self, embeddings: Tensor) -> Tensor | None:
        """Return the question vectors (images, width) of mean embeddings (images, text_width);
        None where the adapter takes no question."""
        return None if self.text is None else self.text(embeddings)

    def start(self, images: int, device: Any = None) -> Tensor:
        """Return what the memory is before the first block: zeros (images, width)."""
        return torch.zeros(images, self.settings.width, device=device)

    def step(
        self, tokens: Tensor, memory: Tensor, question: Tensor | None, grouping: Grouping
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to a block's output, and the new memory."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())


class Mema(VisionAdapter):
    """The stateful memory across layers.

    ```python
    mema = Mema(AdapterSettings(width=1024, text_width=4096, has_class_token=True))
    mema.parameter_count      # 11021569, as published
    ```

    What a layer shows is `y = W_y [mean; max; class token]` of the block's output before feedback,
    over all of an image's tokens; towers without a class token have no third view.
    """

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__(settings)
        self.view = nn.Linear(settings.views * settings.width, settings.width)
        self.update = UpdateUnit(settings)
        self.feedback = Feedback(settings.width, settings.width)

    def step(
        self, tokens: Tensor, memory: Tensor, question: Tensor | None, grouping: Grouping
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to a block's output, and the new memory (images, width)."""
        views = [grouping.mean(tokens), grouping.maximum(tokens)]
        if self.settings.has_class_token:
            views.append(grouping.first(tokens))
        memory = self.update(memory, self.view(torch.cat(views, -1)), question)
        return self.feedback(tokens, grouping.spread(memory)), memory


class PlainAdapter(VisionAdapter):
    """The control: as many parameters and the same question, but nothing carried from layer to
    layer and nothing pooled. Its one feedback is as much wider as Mema's other parts weigh."""

    def __init__(self, settings: AdapterSettings) -> None:
        super().__init__(settings)
        self.feedback = Feedback(settings.width, plain_hidden_width(settings))

    def step(
        self, tokens: Tensor, memory: Tensor, question: Tensor | None, grouping: Grouping
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to a block's output, and the memory as it was."""
        beside = torch.zeros_like(memory) if question is None else question
        return self.feedback(tokens, grouping.spread(beside)), memory


def plain_hidden_width(settings: AdapterSettings) -> int:
    """Return the hidden width with which the control has as many parameters as Mema."""
    width, hidden = settings.width, settings.width // settings.reduction
    view = settings.views * width * width + width
    update = (2 if settings.question_free else 3) * width * hidden + hidden
    update += 3 * (hidden * width + width) + 3 * width
    feedback = 2 * width * width + width
    return round((view + update + feedback) / (2 * width + 1))


def make_adapter(settings: AdapterSettings) -> VisionAdapter:
    """Return an adapter of these settings with fresh weights."""
    return Mema(settings) if settings.kind == "mema" else PlainAdapter(settings)


def alignment_loss(memories: Tensor, answer: Tensor) -> Tensor:
    """Return 1 − cosine of the mean of an answer's images' memories, projected into the language
    model (images, text_width), and the answer's mean input embedding (text_width,)."""
    return 1 - F.cosine_similarity(memories.float().mean(0), answer.float(), dim=0)
