"""How a model and an answer look in a notebook: small self-contained tables, all escaped."""

from typing import TYPE_CHECKING

from tasm.memory.showing import bytes_text, html_table

if TYPE_CHECKING:
    from tasm.answer.model import Model
    from tasm.answer.result import Answer


def model_facts(model: "Model") -> list[tuple[str, str]]:
    """Return names and values of what a person wants to know of a model; hashes no weights."""
    backbone = model.backbone
    parameters = sum(parameter.numel() for parameter in backbone.hf.parameters())
    size = sum(parameter.nbytes for parameter in backbone.hf.parameters())
    longest = backbone.geometry.max_positions
    return [
        ("Name", model.name),
        ("Class", type(backbone.hf).__name__),
        ("Parameters", f"{parameters:,}, {bytes_text(size)}"),
        ("Runs in", f"{str(backbone.dtype).removeprefix('torch.')} on {backbone.device}"),
        ("Positions", "not said" if longest is None else f"{longest:,}"),
    ]


def model_html(model: "Model") -> str:
    """Return a model as a small table."""
    return html_table("Model", model_facts(model))


def answer_html(answer: "Answer") -> str:
    """Return an answer with what it cost and what it drew on most."""
    rows: list[tuple[str, ...]] = [
        ("Tokens", f"{answer.tokens.get('query', 0)} read, {answer.tokens.get('answer', 0)} said"),
        ("Time", f"{sum(answer.seconds.values()):.2f} s"),
        ("Retrieved", f"{100 * answer.triggered:.0f} % of layers and steps"),
    ]
    if answer.expected:
        rows.append(("Expected", " · ".join(answer.expected)))
        rows.append(("Right", "yes" if answer.correct else "no"))
    for one in answer.nearest():
        pictures = ", ".join(str(path) for path in one.pictures if path is not None)
        said = (one.question or "", one.answer or "", pictures)
        rows.append((f"{100 * one.weight:.1f} %", one.id, *said))
    return html_table(answer.text or "(an empty answer)", rows)
