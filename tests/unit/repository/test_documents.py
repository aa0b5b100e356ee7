"""The documents: every link leads somewhere, and no page is out of reach."""

import re
from argparse import _SubParsersAction
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import resolve

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not re.search(r"(^|/)(\.|node_modules/|var/|bench/results/)", str(path.relative_to(ROOT)))
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page):
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def links_of(page):
    """Yield the path and the anchor of each link that stays within the project."""
    for target in LINK.findall(text_of(page)):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = unquote(target).partition("#")
            yield target, (page.parent / path).resolve() if path else page, anchor


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    broken = [
        target
        for target, path, anchor in links_of(page)
        if not path.exists() or (anchor and anchor not in anchors_of(path))
    ]
    assert broken == []


#: What is written as code: blocks, and words between backticks.
CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"manage\.py ([a-z_]+)([^\n|;&#`]*)")
TARGET = re.compile(r"(?:^|[\s(])make ([a-z][a-z-]*[a-z])(?![a-z-])")


def code_of(page):
    return "\n".join(block or words for block, words in CODE.findall(page.read_text()))


@cache
def parsers_of(command):
    """Return the parser of a command and of each of its verbs; none if there is no such command."""
    app = get_commands().get(command)
    if app is None:
        return {}
    parser = load_command_class(app, command).create_parser("manage.py", command)
    verbs = [action.choices for action in parser._actions if isinstance(action, _SubParsersAction)]
    return {"": parser, **(verbs[0] if verbs else {})}


def wrong_in(command, rest):
    """Return what is wrong with a command line: an unknown command, verb or option."""
    parsers = parsers_of(command)
    if not parsers:
        return [command]
    verb = next((word for word in rest.split() if word in parsers), "")
    if len(parsers) > 1 and rest.split() and not verb and rest.split()[0].isalpha() and rest.split()[0].islower():
        return [f"{command} {rest.split()[0]}"]
    known = {**parsers[""]._option_string_actions, **parsers[verb]._option_string_actions}
    return [f"{command} {verb} {option}" for option in re.findall(r"--[a-z-]+", rest) if option not in known]


def test_every_command_that_a_page_names_is_there_with_its_verbs_and_options():
    named = {(page.name, *found) for page in PAGES for found in COMMAND.findall(code_of(page))}
    assert len(named) > 40
    assert sorted((page, wrong) for page, command, rest in named for wrong in wrong_in(command, rest)) == []


def test_every_target_that_a_page_names_is_in_the_makefile():
    named = {(page.name, target) for page in PAGES for target in TARGET.findall(code_of(page))}
    assert len(named) > 20
    makefile = (ROOT / "Makefile").read_text()
    wrong = [f"{page}: {target}" for page, target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
    assert sorted(wrong) == []


def test_every_address_of_the_admin_has_a_page():
    named = {address for page in PAGES for address in re.findall(r"/admin/[a-z_/]*", page.read_text())}
    assert named
    # What the admin has no page for goes to its last route, which has no name.
    assert sorted(address for address in named if resolve(address).url_name is None) == []


def test_every_page_can_be_reached_from_the_readme():
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        for _, path, _ in links_of(page):
            ahead += sorted(path.glob("*.md")) if path.is_dir() else [path] if path.suffix == ".md" else []
    assert sorted(str(page.relative_to(ROOT)) for page in PAGES if page not in seen) == []


def test_the_tests_that_are_named_of_celerys_habits_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "reference" / "celery.md").read_text())
    assert len(named) > 20
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not (ROOT / path).exists() or f"def {test}" not in (ROOT / path).read_text()
    ]
    assert missing == []
