"""The guess at what the code of a task does outside the database."""

import abc
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import requests
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.utils.functional import SimpleLazyObject
from django.views import View

from celery_ledger.desk import effects
from celery_ledger.desk.effects import effects_of
from store.models import Collection


class Letter:
    def deliver_it(self):
        import smtplib

        smtplib.SMTP("nowhere")


class Sender(abc.ABC):
    """Its method is overridden more often than a name may be ambiguous."""

    @abc.abstractmethod
    def give_it_away(self): ...

    def give_all(self):
        self.give_it_away()


class Mute(Sender):
    def give_it_away(self):
        pass


class Deaf(Mute):
    def give_it_away(self):
        pass


class Blind(Mute):
    def give_it_away(self):
        pass


class Polite(Mute):
    def give_it_away(self):
        pass


class Telling(Sender):
    def give_it_away(self):
        requests.post("http://nowhere")


class Page(View):
    def delete(self, request):
        requests.post("http://nowhere")


class Service:
    @property
    def ask(self):
        return call_by_requests

    def update(self):
        requests.get("http://nowhere")


def call_by_requests():
    requests.get("http://nowhere")


def write_down(path):
    with open(path, "w") as file:
        file.write("it")


def hand_over(letter):
    letter.deliver_it()


def hand_over_any(sender):
    sender.give_it_away()


def hand_over_all(sender):
    sender.give_all()


def call_a_service():
    import a_library

    a_library.Client()


def go_by_another():
    from tests.integration.celery_ledger.desk.test_effects import call_a_service as call

    call()


def ask_a_service(service):
    service.ask("anything")


def make(title):
    Collection.objects.create(title=title)


def change(values, title):
    values.update(title=title)
    Collection.objects.update(**values)


def update_a_service():
    Service().update()


def update_a_named_service():
    service = Service()
    service.update()


def remember(title):
    cache.set("title", title)


def tidy(name):
    default_storage.delete(name)


def tidy_a_path(path):
    Path(path).unlink()


def tidy_by_os(path):
    os.remove(path)


def tidy_a_model(product):
    product.image.delete()


def delete_rows(title):
    Collection.objects.filter(title=title).delete()


def give_to_another(executor):
    executor.submit(call_by_requests)


def catch(connect):
    try:
        connect()
    except (ValueError, requests.ConnectionError):
        connect()


def far_away(depth=0):
    if depth:
        far_away_1()
    write_down("it")


def far_away_1():
    far_away_2()


def far_away_2():
    call_by_requests()


@pytest.fixture
def a_library(monkeypatch):
    """An unknown library, which makes its calls by requests."""
    package, client = ModuleType("a_library"), ModuleType("a_library.client")
    client.requests = requests
    package.Client = type("Client", (), {"__module__": "a_library.client"})
    monkeypatch.setitem(sys.modules, "a_library", package)
    monkeypatch.setitem(sys.modules, "a_library.client", client)


def forget():
    for known in (effects._uses_of, effects._speaks, effects._methods, effects._families, effects._module):
        known.cache_clear()


@pytest.fixture(autouse=True)
def only_these_classes(monkeypatch):
    """The project has the classes of this file, and file fields called image: the shop's code means others."""
    own = [thing for thing in globals().values() if isinstance(thing, type) and thing.__module__ == __name__]
    monkeypatch.setattr(effects, "_classes", lambda: iter([each for each in own if not issubclass(each, View)]))
    monkeypatch.setattr(effects, "_file_fields", lambda: frozenset({"image"}))
    forget()
    yield
    forget()


@pytest.mark.parametrize(
    ("function", "by"),
    [
        (write_down, {"open()"}),
        (hand_over, {"smtplib"}),
        (hand_over_any, {"requests.api"}),
        (hand_over_all, {"requests.api"}),
        (call_a_service, {"a_library.client"}),
        (go_by_another, {"a_library.client"}),
        (ask_a_service, {"requests.api"}),
        (make, set()),
        (change, set()),
        (update_a_service, {"requests.api"}),
        (update_a_named_service, {"requests.api"}),
        (remember, {"django.core.cache"}),
        (tidy, {"django.core.files.storage"}),
        (tidy_a_path, {"pathlib"}),
        (tidy_by_os, {"os"}),
        (tidy_a_model, {"the file field image"}),
        (delete_rows, set()),
        (give_to_another, {"requests.api"}),
        (catch, {"requests.exceptions"}),
        (far_away, {"open()", "requests.api"}),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_which_code_seems_to_have_external_effects(function, by, a_library):
    assert set(effects_of(function)) == by


def test_it_is_known_which_function_has_the_effect():
    assert effects_of(far_away)["requests.api"] == f"{__name__}.call_by_requests"


def test_no_lazy_object_is_made_by_looking_at_it(monkeypatch):
    def fail():
        raise AssertionError("It was made.")

    monkeypatch.setattr(sys.modules[__name__], "lazy", SimpleLazyObject(fail), raising=False)
    monkeypatch.setattr(Letter, "lazy", SimpleLazyObject(fail), raising=False)
    assert set(effects_of(hand_over)) == {"smtplib"}


def test_the_methods_of_views_are_not_meant(monkeypatch):
    monkeypatch.undo()
    assert Page not in set(effects._classes())
    assert Letter in set(effects._classes())


def test_a_module_of_the_project_s_is_imported_to_be_read(monkeypatch):
    monkeypatch.delitem(sys.modules, "store.money", raising=False)
    assert effects._module("store.money").__name__ == "store.money"
    assert effects._module("store.not_there") is None
