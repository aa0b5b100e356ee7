"""The documents: every link leads somewhere, and no page is out of reach."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
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
