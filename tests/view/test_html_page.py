"""Pages: what a user wrote stays text, and bars are as long as their figures."""

import re

import pytest

from tasm.errors import InputError
from tasm.files import whole_folder
from tasm.view.html_page import Bar, bar_chart, facts, html_table, page

NASTY = "<img src=x onerror=alert(1)>\"'&"


def test_text_is_escaped_everywhere() -> None:
    bars = [Bar(NASTY, ((1.0, "red"),), NASTY)]
    made = [
        page(NASTY, ""),
        facts([(NASTY, NASTY)]),
        html_table([NASTY], [[NASTY]]),
        bar_chart(NASTY, bars),
    ]
    for text in made:
        assert "<img" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;" in text


def test_bars_are_in_proportion() -> None:
    bars = [Bar("a", ((1.0, "red"), (2.0, "blue")), "3"), Bar("b", ((6.0, "red"),), "6")]
    widths = [
        float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', bar_chart("c", bars))
    ]
    assert widths == pytest.approx([190 / 6, 190 / 3, 190], abs=0.1)
    (half,) = re.findall(r'<rect[^>]* width="([\d.]+)"', bar_chart("c", bars[1:], largest=12))
    assert float(half) == pytest.approx(95)


def test_a_chart_of_nothing_is_a_chart() -> None:
    assert "<svg" in bar_chart("c", [Bar("a", ((0.0, "red"),), "0")])


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), whole_folder(out, mark="page") as folder:
        (folder / "page").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with whole_folder(out, mark="page") as folder:
            (folder / "page").write_text(text)
    assert (out / "page").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not replaced"), whole_folder(tmp_path / "mine", "page"):
        pass
    assert (tmp_path / "mine" / "thesis.txt").exists()
