"""Ids that sort by time (RFC 9562, 5.7)."""

from datetime import UTC, datetime

from celery_ledger.uuid7 import first_uuid7_at, uuid7


def test_it_is_a_version_7_of_the_rfc_s_variant():
    id = uuid7()
    assert id.version == 7
    assert id.variant == "specified in RFC 4122"


def test_it_carries_the_milliseconds_of_its_making():
    before = datetime.now(tz=UTC).timestamp()
    made_at = (uuid7().int >> 80) / 1000
    assert before - 0.002 <= made_at <= datetime.now(tz=UTC).timestamp()


def test_later_ones_sort_later():
    day = datetime(2010, 12, 1, tzinfo=UTC)
    assert first_uuid7_at(day) < first_uuid7_at(day.replace(day=2)) < uuid7()


def test_no_two_are_alike():
    assert len({uuid7() for _ in range(10_000)}) == 10_000
