"""How the replay speaks with a shop."""

import threading

import httpx
import pytest

from retail.client import GaveUpError, Meter, Shop, UnexpectedAnswerError, read_object


def test_a_client_that_is_told_to_stop_while_it_waits_gives_up():
    stop = threading.Event()
    stop.set()
    shop = Shop("http://127.0.0.1:9", patience=60, timeout=1, stop=stop, meter=Meter())
    with pytest.raises(GaveUpError, match="until the replay was stopped"):
        shop.call("GET", "/", headers={})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"next": null}'], ids=repr)
def test_an_answer_that_is_not_what_was_asked_for_is_named(body):
    with pytest.raises(UnexpectedAnswerError):
        read_object(httpx.Response(200, content=body, request=httpx.Request("GET", "http://shop/")), "results")
