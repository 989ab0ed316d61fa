"""Chat templates taken apart: where texts stand, and what templates may not do to them."""

from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasm.backbone.prompt.chat_template import ChatTemplate
from tasm.backbone.prompt.roles import Role
from tasm.backbone.prompt.turns import Turn
from tasm.errors import ModelError

CHATML = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}[I]{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}{% endif %}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TRIMMED = CHATML.replace("p.text }}", "p.text | trim }}").replace(
    "{{ m.content }}", "{{ m.content | trim }}"
)


class Tokenizer:
    """As much of a tokenizer as a chat template needs."""

    def apply_chat_template(
        self, messages: Any, *, chat_template: str, add_generation_prompt: bool, tokenize: bool
    ) -> str:
        assert not tokenize
        template = jinja2.Template(chat_template, trim_blocks=True, lstrip_blocks=True)
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt)


TURNS = [
    Turn("user", (None, " Which bird? ", None)),
    Turn("assistant", ("wren",)),
    Turn("user", ("Sure?",)),
]


@pytest.mark.parametrize("source", [CHATML, TRIMMED])
def test_every_text_and_image_is_found_in_its_place(source: str) -> None:
    template = ChatTemplate(Tokenizer(), source, ("<missing>", "[I]"))
    assert template.placeholder == "[I]"
    rendering = template.render(TURNS, system="Be brief.", answer_next=True)
    found = [(rendering.text[p.start : p.end], p.role, p.turn) for p in rendering.places]
    question = " Which bird? " if source is CHATML else "Which bird?"
    assert found == [
        ("Be brief.", Role.SYSTEM, -1),
        ("[I]", Role.IMAGE, 0),
        (question, Role.QUESTION, 0),
        ("[I]", Role.IMAGE, 0),
        ("wren", Role.ANSWER, 1),
        ("Sure?", Role.QUESTION, 2),
    ]
    assert rendering.text.endswith("<assistant>")


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6))
def test_any_text_is_found_as_it_was_given(texts: list[str]) -> None:
    template = ChatTemplate(Tokenizer(), CHATML, ())
    turns = [Turn("assistant" if i % 2 else "user", (text,)) for i, text in enumerate(texts)]
    rendering = template.render(turns, system=None, answer_next=False)
    assert [rendering.text[p.start : p.end] for p in rendering.places] == texts


def test_turns_end_and_start_as_the_template_says() -> None:
    template = ChatTemplate(Tokenizer(), CHATML, ("[I]",))
    assert template.end_of_turn(None) == "</>\n"
    assert template.start_of_turn(Turn("user", (None, "x")), None) == "<user>"


def test_messages_go_as_strings_where_parts_would_be_printed() -> None:
    source = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'user' and m.content is not string %}"
        + (
            "{% for p in m.content %}{% if p.type == 'image' %}[I]{% else %}{{ p.text }}{% endif %}"
            "{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        )
    )
    template = ChatTemplate(Tokenizer(), source, ("[I]",))
    rendering = template.render(TURNS[:2], system=None, answer_next=False)
    assert rendering.text == "<user>[I] Which bird? [I]<assistant>wren"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ messages[0].content }}", "taken apart"),
        (CHATML.replace("{{ p.text }}", "{{ p.text }}{{ p.text }}"), "taken apart"),
        ("{{ nothing.at.all }}", "refuses the conversation"),
        (CHATML.replace("[I]", ""), "for an image"),
    ],
)
def test_templates_that_lose_or_repeat_texts_are_refused(source: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        ChatTemplate(Tokenizer(), source, ("[I]",))


def test_a_template_that_rewrites_a_text_is_refused() -> None:
    # Reasoning models cut a thought out of earlier answers: the text is no longer what was given.
    source = CHATML.replace("{{ p.text }}", "{{ p.text.split('</think>')[-1] }}")
    template = ChatTemplate(Tokenizer(), source, ("[I]",))
    turns = [Turn("user", ("Which?",)), Turn("assistant", ("<think>hm</think>wren",))]
    with pytest.raises(ModelError, match="rewrites the text '<think>hm"):
        template.render(turns, system=None, answer_next=False)


def test_a_template_without_a_system_prompt_says_what_to_do() -> None:
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + CHATML
    )
    template = ChatTemplate(Tokenizer(), refusing, ())
    turns = [Turn("user", ("Which?",))]
    assert template.render(turns, system=None, answer_next=True).text
    with pytest.raises(ModelError, match=r"takes no system prompt.*--system"):
        template.render(turns, system="Be brief.", answer_next=True)
