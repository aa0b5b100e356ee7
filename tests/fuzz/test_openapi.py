"""
The running web process is checked against its OpenAPI document: all checks of schemathesis, signed in.

Each operation alone, with data that fits the document and data that does not, and then operations one after
another along the document's links. The seed is fixed; ``make fuzz`` chooses how many cases each operation
gets (``FUZZ_CASES``), its own seed (``FUZZ_SEED``), and one path to fuzz alone (``FUZZ_PATH``).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rest_framework_simplejwt.tokens import AccessToken

from store.models import Collection
from tests.processes import ROOT, Machine
from tests.shop import api, check_out, make_cart, make_customer, make_product

CASES = os.environ.get("FUZZ_CASES", "12")
SEED = os.environ.get("FUZZ_SEED", "20261121")
PATH = os.environ.get("FUZZ_PATH", "")

pytestmark = [pytest.mark.processes, pytest.mark.timeout(4 * 3600 if "FUZZ_CASES" in os.environ else 1200)]


@pytest.fixture
def web(transactional_db, tmp_path):
    machine = Machine(tmp_path)
    limits = (
        "LOGIN",
        "REGISTRATION",
        "CHECKOUT",
        "MESSAGES",
        "PASSWORDS",
        "MAILED_LINKS",
        "CARTS",
        "CARTS_A_DAY",
        "CART_LINES",
    )
    for scope in limits:
        machine.environment[f"THROTTLE_{scope}"] = "off"
    machine.environment |= {"LOGIN_FAILURE_LIMIT": "1000000", "LOG_LEVEL": "ERROR", "ACCESS_TOKEN_MINUTES": "600"}
    try:
        machine.start_web()
        yield machine
    finally:
        machine.__exit__(None, None, None)


@pytest.mark.fault("F63")
@pytest.mark.once
def test_the_web_process_does_as_its_openapi_document_says(web, tmp_path):
    shelf = Collection.objects.create(title="Shelf")
    products = [make_product(collection=shelf, stock=10**9) for _ in range(3)]
    client = make_customer(username="fuzzer", is_staff=True, is_superuser=True)
    check_out(api(client), make_cart({products[0]: 1}, client))
    token = AccessToken.for_user(client.user)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={ROOT / 'schemathesis.toml'}",
        "run",
        f"http://127.0.0.1:{web.web_port}/api/schema/?format=json",
        f"--header=Authorization: Bearer {token}",
        "--continue-on-failure",
        f"--max-examples={CASES}",
        f"--seed={SEED}",
        "--no-color",
        *([f"--include-path={PATH}", "--phases=examples,coverage,fuzzing"] if PATH else []),
    ]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    counted = re.search(r"Test cases:\s+(\d+) generated", run.stdout)
    assert counted, run.stdout[-2_000:]
    assert PATH or int(counted[1]) > 500
    print(run.stdout[-1_500:])
