"""The front end as the web process serves it, without a browser."""

import gzip
import re

import pytest
from django.test import Client

from tests.processes import ROOT

ROUTES = re.findall(r'<Route path="([^"]+)">', (ROOT / "frontend/src/Pages.tsx").read_text())


@pytest.mark.parametrize("route", ROUTES)
def test_every_page_of_the_front_end_is_served(route):
    answer = Client().get(route.replace(":id", "7"))

    assert answer.status_code == 200
    assert '<div id="app">' in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


def test_the_front_end_has_pages():
    assert len(ROUTES) > 5


@pytest.mark.django_db  # To close an answer ends its request, and Django then looks at its connections.
def test_what_the_document_names_is_there_and_kept_for_ever():
    document = Client().get("/").content.decode()
    names = re.findall(r'(?:src|href)="(/static/ui/assets/[^"]+)"', document)

    assert {name.rpartition(".")[2] for name in names} == {"js", "css"}
    for name in names:
        answer = Client().get(name)
        answer.close()
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]


def test_the_document_has_no_script_or_style_written_into_it():
    document = Client().get("/").content.decode()

    for script in document.split("<script")[1:]:
        assert "src=" in script.partition(">")[0]
    assert "<style" not in document
    assert " style=" not in document


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (ROOT / "frontend/package-lock.json").read_text()


def test_the_bundle_is_small():
    files = (ROOT / "frontend/dist/assets").glob("*.[jc]s*")
    packed = {path.name: len(gzip.compress(path.read_bytes())) for path in files}

    assert sum(packed.values()) < 120_000, packed
