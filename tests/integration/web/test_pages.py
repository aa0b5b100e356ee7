"""The front end as the web process serves it, without a browser."""

import gzip
import re

import pytest
from django.test import Client

from tests.processes import ROOT
from tests.shop import browser_of, make_user

ASSETS = ROOT / "frontend/dist/assets"
ROUTES = [
    path.replace("tasks/:id", "tasks/01a1fcf6-bbe3-7db3-82b6-1ff496c63ade").replace(":id", "7")
    for path in re.findall(r'<Route path="([^"]+)">', (ROOT / "frontend/src/Pages.tsx").read_text())
]


@pytest.mark.parametrize("route", ROUTES)
def test_every_page_of_the_front_end_is_served(route):
    answer = Client().get(route)

    assert answer.status_code == 200
    assert '<div id="app">' in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "/"])
def test_a_page_is_found_with_a_slash_too_much(route):
    answer = Client().get(f"{route}/?page=2&q=a%20b")

    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{route}?page=2&q=a%20b"


@pytest.mark.django_db
def test_the_api_says_what_there_is():
    index = Client().get("/api/").json()

    assert {"documentation", "schema", "products", "orders"} <= index.keys()
    for address in index.values():
        assert Client().get(address).status_code in {200, 401, 405}, address


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/admin/django_celery_beat/periodictask/add/", "/admin/", "/admin/store/order/"])
def test_the_admin_has_no_script_that_its_policy_would_block(address):
    staff = browser_of(make_user(is_staff=True, is_superuser=True))
    page = staff.get(address).content.decode()

    scripts = page.split("<script")[1:]
    assert scripts
    for script in scripts:
        attributes = script.partition(">")[0]
        assert "src=" in attributes or "application/json" in attributes, attributes


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


def scripts_and_styles() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ASSETS.iterdir() if path.suffix in {".js", ".css"}}


def test_the_bundle_is_small():
    packed = {name: len(gzip.compress(content)) for name, content in scripts_and_styles().items()}

    assert sum(packed.values()) < 80_000, packed


@pytest.mark.fault("F111")
def test_f111_the_first_page_needs_little_and_nothing_of_the_operators():
    document = (ROOT / "frontend/dist/index.html").read_text()
    first = {name for name in scripts_and_styles() if name in document}

    assert sum((ASSETS / f"{name}.br").stat().st_size for name in first) < 45_000
    written = b"".join(content for name, content in scripts_and_styles().items() if name in first)
    later = b"".join(content for name, content in scripts_and_styles().items() if name not in first)
    assert b"/api/products/" in written
    for of_operators in (b"/api/ops/", b"No dead letters"):
        assert of_operators in later
        assert of_operators not in written


@pytest.mark.fault("F111")
@pytest.mark.django_db  # To close an answer ends its request, and Django then looks at its connections.
@pytest.mark.parametrize(("accepted", "packing"), [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("", None)])
def test_f111_scripts_and_styles_come_packed_to_whoever_takes_them(accepted, packing):
    for name, content in scripts_and_styles().items():
        answer = Client().get(f"/static/ui/assets/{name}", headers={"Accept-Encoding": accepted})
        body = b"".join(answer)
        answer.close()

        assert answer.headers.get("Content-Encoding") == packing, name
        assert "Accept-Encoding" in answer.headers["Vary"]
        assert "immutable" in answer.headers["Cache-Control"]
        if packing:
            assert len(body) < len(content)
        if packing != "br":  # What Brotli packed is unpacked by the browser's tests.
            assert (gzip.decompress(body) if packing else body) == content


@pytest.mark.fault("F111")
@pytest.mark.parametrize(("address", "names"), [("/", 2), ("/?search=tea", 0), ("/cart", 0)])
def test_f111_the_shops_door_names_what_its_page_asks_for_first(address, names):
    assert Client().get(address).headers.get("Link", "").count("rel=preload") == names
