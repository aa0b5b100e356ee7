"""What DATABASE_URL asks for reaches the wire."""

import socket
import threading

import pytest

from tests.unit.core.test_settings import WORTHY, start

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


@pytest.mark.fault("F90")
def test_f90_a_server_without_tls_is_told_nothing_where_the_url_asks_for_it():
    heard = []

    def refuse_tls(listener):
        link, _ = listener.accept()
        link.settimeout(20)
        with link:
            heard.append(link.recv(1024))
            link.sendall(b"N")  # I have no TLS.
            heard.append(link.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        server = threading.Thread(target=refuse_tls, args=(listener,))
        server.start()
        url = f"postgres://shop:secret@127.0.0.1:{listener.getsockname()[1]}/shop?sslmode=require&gssencmode=disable"
        run = start("outbox", "stats", **{**WORTHY, "DATABASE_URL": url})
        server.join(30)
    assert heard == [SSL_REQUEST, b""]
    assert run.returncode == 1
    assert "SSL" in run.stderr


@pytest.mark.fault("F160")
@pytest.mark.parametrize(("pooled", "told"), [("0", True), ("1", False)])
def test_f160_nothing_is_said_to_a_session_that_a_pooler_lends(pooled, told):
    url = "postgres://shop@127.0.0.1:1/shop"
    code = "from django.conf import settings; print(settings.DATABASES)"
    run = start("shell", "-v0", "-c", code, **{**WORTHY, "DATABASE_URL": url, "DATABASE_POOLED": pooled})
    assert run.returncode == 0, run.stderr
    assert ("'options'" in run.stdout) is told
    assert ("'prepare_threshold'" in run.stdout) is told
    assert ("'DISABLE_SERVER_SIDE_CURSORS': True" in run.stdout) is not told
