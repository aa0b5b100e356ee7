"""Bodies as the ASGI server hands them over."""

import asyncio
import json

import pytest
from django.db import connections

from web.handler import ThreadedASGIHandler

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def post(settings):
    """Send chunks as an ASGI server does and return status and JSON."""
    settings.WEB_THREADS = 1
    application = ThreadedASGIHandler()
    yield lambda path, *chunks, read=None: send_chunks(application, path, chunks, read)
    application.threads.submit(connections.close_all).result()
    application.threads.shutdown()
    application.probe_threads.shutdown()


def send_chunks(application, path, chunks, read=None):
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
    }
    incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    incoming.append({"type": "http.request", "body": b"", "more_body": False})
    sent = []

    async def run():
        gone = asyncio.Event()

        async def receive():
            if not incoming:
                await gone.wait()
            message = incoming.pop(0)
            if read is not None:
                read.append(len(message["body"]))
            return message

        async def send(message):
            sent.append(message)

        await application(scope, receive, send)

    asyncio.run(run())
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body)


def test_a_body_in_chunks_of_no_declared_length_is_read(post):
    status, cart = post("/api/carts/", b"{", b"}")
    assert status == 201

    status, problem = post(f"/api/carts/{cart['id']}/items/", b'{"product_id": 999', b'999, "quan', b'tity": 1}')

    assert (status, problem["detail"]) == (404, "Product not found.")


def test_no_body_at_all_is_an_empty_request(post):
    assert post("/api/carts/")[0] == 201


def test_a_body_in_chunks_is_bounded_too(settings, post):
    chunk = b" " * 65_536
    count = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // len(chunk) + 1

    assert post("/api/carts/", *[chunk] * count, b"{}")[0] == 413


@pytest.mark.fault("F106")
@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("/api/carts/", "DATA_UPLOAD_MAX_MEMORY_SIZE"),
        ("/admin/login/", "MAX_BODY_BYTES"),
        ("/nowhere", "MAX_BODY_BYTES"),
    ],
)
def test_f106_a_body_of_no_declared_length_is_read_to_its_bound_and_no_further(settings, post, path, setting):
    limit, chunk, read = getattr(settings, setting), b" " * 65_536, []

    status, problem = post(path, *[chunk] * 400, read=read)

    assert (status, problem["status"]) == (413, 413)
    assert sum(read) <= limit + len(chunk)


def test_a_body_of_exactly_its_bound_is_read(settings, post):
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE

    assert post("/api/carts/", b"{" + b" " * (limit - 2), b"}")[0] == 201
    assert post("/api/carts/", b"{" + b" " * (limit - 1), b"}")[0] == 413
