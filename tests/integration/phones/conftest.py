"""What every test of phones has: SMS that are written to files."""

import pytest


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.SMS_URL = f"file://{tmp_path}/sms"
    return tmp_path / "sms"
