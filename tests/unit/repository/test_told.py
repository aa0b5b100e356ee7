"""A page's table keeps one row of each run, and the words around it stay."""

import pytest

from tests.package.told import keep_row

HEADER = "| Project | Passed |\n| --- | --- |\n"


def test_a_row_takes_the_place_of_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Words\n\n{HEADER}| b | 1 |\n| a | 1 |\n\nMore words.\n")
    keep_row(page, HEADER, "| b |", "| b | 2 |")
    assert page.read_text() == f"# Words\n\n{HEADER}| a | 1 |\n| b | 2 |\n\nMore words.\n"


def test_a_table_that_ends_the_page_gets_no_line_more(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Words\n\n{HEADER}| a | 1 |\n")
    keep_row(page, HEADER, "| b |", "| b | 2 |")
    assert page.read_text() == f"# Words\n\n{HEADER}| a | 1 |\n| b | 2 |\n"


def test_a_page_without_the_table_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Words\n")
    with pytest.raises(ValueError, match="0 tables"):
        keep_row(page, HEADER, "| b |", "| b | 2 |")
    assert page.read_text() == "# Words\n"
