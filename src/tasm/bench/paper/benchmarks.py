"""The published benchmarks, each a row of data: where it lies, what is asked, how it is judged.

The protocol is EMLoC's (arXiv 2505.19812, appendix), which TASM's tables share. Imports no torch.
"""

from dataclasses import dataclass

from tasm.errors import InputError, did_you_mean

POOL = 100
"""Test items set apart to draw demonstrations from."""

POOL_SEED = 42
DRAW_SEED = 1234


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    `dataset` and `split` name it on the Hugging Face hub; `demonstration_split` is where
    demonstrations come from (None: 100 items of `split`, which are then not tested). `image` is
    the image's column; `question` is a text whose `{column}`s are filled in, `{options}` with
    lettered choices. `answer` says how the right answer is made from `answer_column`:

    | answer | the column holds | the answer is |
    |---|---|---|
    | class | a class name or number | the name and a full stop |
    | box | `box` coordinates | `[x1, y1, x2, y2]` between 0 and 1, two decimals |
    | letter | a letter, or the text of one of `options_column` | the letter |
    | frequent | several people's answers | the most frequent |
    | text | the answer | the answer |

    `metric` is a name of `tasm.bench.paper.metrics`. Pictures are scaled to `side` x `side`
    pixels. `per_class` draws demonstrations evenly over classes. `haystack` marks pictures that
    surround the ones asked about.
    """

    name: str
    title: str
    url: str
    dataset: str
    split: str
    image: str
    question: str
    answer: str
    answer_column: str
    metric: str
    side: int
    max_new_tokens: int
    few: int = 5
    many: int = 20
    demonstration_split: str | None = None
    per_class: bool = False
    options_column: str = "options"
    box: str = "relative corners"
    haystack: bool = False


BENCHMARKS: dict[str, Benchmark] = {
    row.name: row
    for row in (
        Benchmark(
            name="imagenet-100",
            title="ImageNet-100",
            url="https://huggingface.co/datasets/clane9/imagenet-100",
            dataset="clane9/imagenet-100",
            split="validation",
            demonstration_split="train",
            image="image",
            question="Which category does the image show? Answer with the name of the category.",
            answer="class",
            answer_column="label",
            metric="contains",
            side=224,
            max_new_tokens=32,
            few=50,
            many=200,
            per_class=True,
        ),
        Benchmark(
            name="screenspot",
            title="ScreenSpot",
            url="https://huggingface.co/datasets/rootsautomation/ScreenSpot",
            dataset="rootsautomation/ScreenSpot",
            split="test",
            image="image",
            question="Where on this screen is the element for the instruction: {instruction}? "
            "Answer with its bounding box [x1, y1, x2, y2], each number between 0 and 1 with two "
            "decimals.",
            answer="box",
            answer_column="bbox",
            metric="iou@0.5",
            side=448,
            max_new_tokens=32,
        ),
        Benchmark(
            name="mme-realworld-lite",
            title="MME-RealWorld-lite",
            url="https://huggingface.co/datasets/yifanzhang114/MME-RealWorld-lite-lmms-eval",
            dataset="yifanzhang114/MME-RealWorld-lite-lmms-eval",
            split="train",
            image="bytes",
            question="{question}\n{options}\nAnswer with the letter of the best option only.",
            answer="letter",
            answer_column="answer",
            options_column="multi-choice options",
            metric="letter",
            side=448,
            max_new_tokens=16,
        ),
        Benchmark(
            name="illusionvqa",
            title="IllusionVQA (soft localisation)",
            url="https://huggingface.co/datasets/csebuetnlp/illusionVQA-Soft-Localization",
            dataset="csebuetnlp/illusionVQA-Soft-Localization",
            split="test",
            image="image",
            question="{question}\n{options}\nAnswer with the letter of the best option only.",
            answer="letter",
            answer_column="answer",
            metric="exact",
            side=448,
            max_new_tokens=16,
        ),
        Benchmark(
            name="ok-vqa",
            title="OK-VQA (val2014)",
            url="https://huggingface.co/datasets/lmms-lab/OK-VQA",
            dataset="lmms-lab/OK-VQA",
            split="val2014",
            image="image",
            question="{question}\nWhen the provided information is insufficient, answer "
            '"Unanswerable". Answer the question using a single word or phrase.',
            answer="frequent",
            answer_column="answers",
            metric="vqa",
            side=448,
            max_new_tokens=16,
        ),
        Benchmark(
            name="refcocog",
            title="RefCOCOg",
            url="https://huggingface.co/datasets/lmms-lab/RefCOCOg",
            dataset="lmms-lab/RefCOCOg",
            split="val",
            image="image",
            question="Where in this image is: {answer}? Answer with its bounding box "
            "[x1, y1, x2, y2], each number between 0 and 1 with two decimals.",
            answer="box",
            answer_column="bbox",
            box="pixel corner and size",
            metric="iou@0.5",
            side=448,
            max_new_tokens=32,
        ),
        Benchmark(
            name="v-niah",
            title="V-NIAH",
            url="https://huggingface.co/datasets/lmms-lab/v_niah_needles",
            dataset="lmms-lab/v_niah_needles",
            split="test",
            image="image",
            question="{question}",
            answer="text",
            answer_column="answer",
            metric="contains",
            side=448,
            max_new_tokens=16,
            few=10,
            many=50,
            haystack=True,
        ),
    )
}
"""All benchmarks by name."""


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of that name; raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(
            f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}."
            + did_you_mean(name, BENCHMARKS)
        )
    return BENCHMARKS[name]
