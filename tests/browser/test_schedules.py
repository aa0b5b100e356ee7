"""The admin's page of a schedule: its script runs, and the browser blocks none."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.processes


def test_the_page_of_a_schedule_runs_no_script_that_the_browser_refuses(shop, visitor):
    visitor.expect_complaints("favicon")
    visitor.sign_in("admin")
    found = shop.run_command(
        "shell",
        "--no-imports",
        "-c",
        "from django_celery_beat.models import PeriodicTask; "
        "print(PeriodicTask.objects.exclude(crontab=None).earliest('id').pk)",
    )
    assert found.returncode == 0, found.stderr
    page = visitor.page
    page.goto(f"/admin/django_celery_beat/periodictask/{found.stdout.split()[-1]}/change/")

    expect(page.locator("#id_crontab")).to_be_visible()
    expect(page.locator(".field-crontab_translation")).to_be_hidden()
