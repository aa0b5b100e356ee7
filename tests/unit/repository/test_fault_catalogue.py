"""The page about faults names every fault, and only tests that are there and say so themselves."""

import ast
import os
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.mutants import MUTANTS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/faults.md").read_text()
ROWS = {row[1]: row[0] for row in re.finditer(r"^\| (F\d{2,3}) \|.*$", PAGE, re.MULTILINE)}
FAULTS = sorted(ROWS, key=lambda fault: int(fault[1:]))


@cache
def faults_by_test(file: str) -> dict[str, set[str]]:
    """Return, by ``Class::test``, the faults that the tests of a file are marked with, on them or their parameters."""
    found = {}

    def look(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}::")
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
                marks = re.findall(r"mark\.fault\(([^)]*)\)", text)
                found[prefix + node.name] = set(re.findall(r"F\d{2,3}", " ".join(marks)))

    look(ast.parse((ROOT / file).read_text()).body, "")
    return found


def shown_by(fault: str) -> list[str]:
    return re.findall(r"`([^`]+)`", ROWS[fault].split("|")[4])


def test_every_fault_has_one_row_and_they_are_in_order():
    assert list(ROWS) == FAULTS
    assert set(FAULTS) >= {f"F{number:02}" for number in range(1, 69)}
    assert len(re.findall(r"^\| F\d+ \|", PAGE, re.MULTILINE)) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_shown_by_tests_that_are_marked_with_it(fault):
    assert shown_by(fault)
    for reference in shown_by(fault):
        file, _, test = reference.partition("::")
        if file.startswith("docs/drills/"):
            assert os.access(ROOT / file, os.X_OK), f"{file} cannot be run"
        else:
            assert fault in faults_by_test(file).get(test, set()), f"{reference} is not marked with {fault}"


def test_every_test_that_is_marked_with_a_fault_is_in_its_row():
    marked = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        file = str(path.relative_to(ROOT))
        for test, faults in faults_by_test(file).items():
            for fault in faults:
                marked[fault].add(f"{file}::{test}")
    assert not marked.keys() - ROWS.keys(), "faults without a row"
    assert {fault: marked[fault] - set(shown_by(fault)) for fault in FAULTS} == {fault: set() for fault in FAULTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_its_file_and_is_in_the_page(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert f"(`{mutant.name}`) | `{mutant.test}` |" in PAGE
    file, _, test = mutant.test.partition("::")
    assert test in faults_by_test(file)


def test_the_page_has_one_row_for_each_mutant():
    rows = re.findall(r"^\| .*\(`([^`]+)`\) \| `tests/[^`]+` \|$", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(mutant.name for mutant in MUTANTS)
