import pytest

from experiments import pages


def test_sections_are_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n")
    assert pages.write_page(page, ["one"], str.upper) == {"one": "ONE"}
    pages.write_page(page, ["one"], lambda _: r"new \1")
    expected = "a\n<!-- one -->\nnew \\1\n<!-- end of one -->\nb\n"
    assert page.read_text() == expected


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- one -->\n<!-- end of one -->")
    with pytest.raises(SystemExit, match="has no <!-- two -->"):
        pages.write_page(page, ["one", "two"], lambda _: pytest.fail("too early"))
    assert page.read_text() == "<!-- one -->\n<!-- end of one -->"
    with pytest.raises(SystemExit, match="Can't read"):
        pages.read_page(tmp_path / "other.md", [])


def test_the_mean_of_three_values_or_more():
    assert pages.spread([]) == ""
    assert pages.spread([1.234, 2.0]) == "1.23, 2.00"
    assert pages.spread([1.0, 2.0, 3.0]) == "1.00, 2.00, 3.00 (2.00 ± 1.00)"


def test_a_table():
    assert pages.head("error", "ours") == ["| error | ours |", "| --- | ---: |"]
    assert pages.line(["CNN", "1.0"]) == "| CNN | 1.0 |"


def test_where_a_section_is_from():
    assert pages.origin("make x", "abacus", ["a", "b"]) == [
        *("", "`make x` (abacus) runs", "", "```", "a", "b", "```")
    ]
    assert pages.origin("make x", "", [])[1] == "`make x` runs"
