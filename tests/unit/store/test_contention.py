"""A transaction that lost against another one is run again, three times at the most."""

import pytest
from django.db import OperationalError

from store.contention import LostRace, persist


class SQLError(Exception):
    def __init__(self, sqlstate):
        self.sqlstate = sqlstate


def lost(sqlstate):
    error = OperationalError("lost")
    error.__cause__ = SQLError(sqlstate)
    return error


class Transaction:
    def __init__(self, *errors):
        self.errors, self.runs = list(errors), 0

    def __call__(self):
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize("error", [lost("40P01"), lost("40001"), LostRace()])
def test_two_losses_are_forgiven(error):
    transaction = Transaction(error, error)

    assert (persist(transaction), transaction.runs) == ("done", 3)


@pytest.mark.parametrize("error", [lost("40P01"), LostRace()])
def test_a_third_loss_is_told(error):
    transaction = Transaction(error, error, error)
    with pytest.raises(type(error)):
        persist(transaction)
    assert transaction.runs == 3


@pytest.mark.parametrize("error", [lost("55P03"), lost("57014"), OperationalError("gone"), ValueError()])
def test_other_errors_are_told_at_once(error):
    transaction = Transaction(error)
    with pytest.raises(type(error)):
        persist(transaction)
    assert transaction.runs == 1
