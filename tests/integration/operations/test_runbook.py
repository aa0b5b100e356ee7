"""The runbook's links lead to existing pages of the desk and of the admin."""

import re
from urllib.parse import urlsplit

import pytest

from tests.processes import ROOT
from tests.shop import make_user

LINKS = sorted(set(re.findall(r"\]\(http://127\.0\.0\.1:8000(/[^)]*)\)", (ROOT / "docs/runbook.md").read_text())))
ROUTES = set(re.findall(r'<Route path="([^"]+)">', (ROOT / "frontend/src/Pages.tsx").read_text()))


def test_it_has_such_links():
    assert len(LINKS) >= 10


@pytest.mark.django_db
@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_to_a_page(client, link):
    client.force_login(make_user(is_staff=True, is_superuser=True))
    address = urlsplit(link)
    if address.path.startswith("/admin/"):
        assert client.get(link).status_code == 200
        return
    assert address.path in ROUTES
    if address.fragment:
        assert f'id="{address.fragment}"' in (ROOT / "frontend/src/pages/Operations.tsx").read_text()
    if address.query:
        assert client.get(f"/api/ops/tasks/?{address.query}").status_code == 200
