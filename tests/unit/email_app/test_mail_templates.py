"""What every mail template is held to."""

import re
from pathlib import Path

import pytest
from django.apps import apps

from email_app.models import EmailDelivery
from tests import mail_pictures

TEMPLATES = Path(apps.get_app_config("email_app").path) / "templates" / "email_app"


@pytest.mark.parametrize("kind", EmailDelivery.Kind.values)
def test_every_kind_has_its_subject_text_and_html(kind):
    assert {path.suffix for path in TEMPLATES.glob(f"{kind}.*")} == {".subject", ".txt", ".html"}


def test_html_escapes_everything():
    for path in TEMPLATES.glob("*.html"):
        source = path.read_text()
        assert "autoescape" not in source, path.name
        assert "|safe" not in source, path.name


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.iterdir()))
def test_amounts_are_written_as_on_the_pages(name):
    amounts = re.findall(
        r"{{ *(\S*\.(?:total|revenue|unit_price|amount|currency|highest)\b\S*)", (TEMPLATES / name).read_text()
    )
    assert [amount for amount in amounts if not re.search(r"\|money:\w+\.currency$", amount)] == []


def test_text_escapes_nothing():
    for path in [*TEMPLATES.glob("*.txt"), *TEMPLATES.glob("*.subject")]:
        source = path.read_text()
        assert "{{" not in source or source.startswith("{% autoescape off %}"), path.name


@pytest.mark.parametrize("kind", EmailDelivery.Kind.values)
def test_every_mail_is_shown_in_the_documentation_as_its_templates_are_now(kind):
    page = mail_pictures.PAGE.read_text()
    drawn = dict(re.findall(r"<!-- drawn from (\w+): ([0-9a-f]{64}) -->", page))

    assert drawn.get(kind) == mail_pictures.hash_of_sources(kind), "Run `python -m tests.mail_pictures`."
    assert f"(mails/{kind}.png)" in page
    assert (mail_pictures.PAGE.parent / "mails" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
