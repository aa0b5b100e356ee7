"""A user's notifications over HTTP: the list, its state, reading, and preferences."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.announce import notify
from notifications.models import Channel, Kind, Notification, QuietHours
from notifications.preferences import end_of_quiet
from tests.shop import api, browser_of, make_manager, make_user

pytestmark = pytest.mark.django_db

LIST = "/api/notifications/"
PREFERENCES = "/api/notifications/preferences/"


@pytest.fixture
def reader():
    return make_user()


def tell(*users, count=1, kind=Kind.ANNOUNCEMENT):
    for number in range(count):
        notify([user.pk for user in users], kind=kind, message=f"News {number}.", data={"number": number})


def ids(response):
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def test_unread_ones_are_listed_newest_first_and_all_on_demand(reader):
    tell(reader, make_user(), count=3)
    mine = list(reader.notifications.order_by("-id"))
    assert ids(api(reader).get(LIST)) == [row.pk for row in mine]
    first = api(reader).get(LIST).json()["results"][0]
    assert set(first) == {"id", "kind", "message", "data", "created", "read"}
    assert (first["kind"], first["message"], first["data"], first["read"]) == (
        "announcement",
        "News 2.",
        {"number": 2},
        False,
    )

    assert api(reader).post(f"{LIST}{mine[1].pk}/read/").json()["read"] is True

    assert ids(api(reader).get(LIST)) == [mine[0].pk, mine[2].pk]
    assert ids(api(reader).get(LIST, {"all": "1"})) == [row.pk for row in mine]
    assert api(reader).get(LIST, {"all": "yes"}).status_code == 400


def test_all_are_marked_as_read_at_once_and_nobody_elses(reader):
    other = make_user()
    tell(reader, other, count=3)
    assert api(reader).post(f"{LIST}read-all/").json() == {"read": 3}
    assert api(reader).post(f"{LIST}read-all/").json() == {"read": 0}
    assert ids(api(reader).get(LIST)) == []
    assert len(ids(api(other).get(LIST))) == 3


# --- Polling ----------------------------------------------------------------------------


def poll(reader, tag, **query):
    return api(reader).get(LIST, query, headers={"If-None-Match": tag} if tag else {})


def test_polling_an_unchanged_list_is_a_304_without_a_body_for_one_query(reader):
    tell(reader, count=30)
    tag = poll(reader, None).headers["ETag"]
    with CaptureQueriesContext(connection) as queries:
        again = poll(reader, tag)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert len(queries) == 1
    assert poll(reader, f'"other", W/{tag}').status_code == 200  # A weak tag is another one.
    assert poll(reader, f'"other", {tag}').status_code == 304


@pytest.mark.parametrize("everything", ["0", "1"])
def test_every_change_of_the_list_is_another_state(reader, everything):
    seen = {}

    def changed():
        response = poll(reader, None, all=everything)
        state = response.headers["ETag"]
        assert poll(reader, state, all=everything).status_code == 304
        # An empty list is an empty list again; any other tag stands for one state alone.
        assert seen.setdefault(state, response.content) == response.content
        seen[state] = response.content

    changed()
    tell(reader, count=4)
    changed()
    [_, second, third, _] = reader.notifications.order_by("id")
    second.mark_as_read()
    changed()
    Notification.objects.filter(pk__in=[second.pk]).update(read=False)
    Notification.objects.filter(pk__in=[third.pk]).update(read=True)  # As many unread as before, but others.
    changed()
    tell(reader)
    changed()
    api(reader).post(f"{LIST}read-all/")
    changed()
    assert len(seen) == (6 if everything == "1" else 5), "The list changed and its tag did not."


def test_another_users_notifications_change_nothing_and_tags_differ(reader):
    other = make_user()
    tag = poll(reader, None).headers["ETag"]
    tell(other)
    assert poll(reader, tag).status_code == 304
    assert poll(make_user(), tag).status_code == 200


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_state_of_a_long_list_is_read_from_its_index_alone(reader):
    """Whether a table of a few pages is not quicker to read whole is not the question."""
    tell(reader, *(make_user() for _ in range(3)), count=200)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE notifications_notification")
        cursor.execute("SET enable_seqscan TO off")
        cursor.execute("SET enable_bitmapscan TO off")
        shown = Notification.objects.shown_to(reader).unread()
        plan = shown.order_by("-id").values_list("pk").explain()
        cursor.execute("RESET enable_seqscan")
        cursor.execute("RESET enable_bitmapscan")
    assert "Index Only Scan" in plan
    assert "unread_shown" in plan


# --- Preferences ------------------------------------------------------------------------


def test_preferences_begin_with_what_the_shop_has_and_keep_what_is_said(reader):
    client = api(reader)
    begin = client.get(PREFERENCES).json()
    assert set(begin["kinds"]) == set(Kind.values)
    assert begin["kinds"]["message"] == {"in_app": True, "email": False, "push": True, "sms": False}
    assert begin["quiet_hours"] is None

    said = client.put(
        PREFERENCES,
        {
            "kinds": {"message": {"email": True, "push": False}},
            "quiet_hours": {"start": "22:00", "end": "07:30", "time_zone": "Europe/London"},
        },
    )

    assert said.status_code == 200, said.content
    assert said.json()["kinds"]["message"] == {"in_app": True, "email": True, "push": False, "sms": False}
    assert said.json()["quiet_hours"] == {"start": "22:00", "end": "07:30", "time_zone": "Europe/London"}
    assert client.put(PREFERENCES, {"kinds": {"message": {"push": True}}}).json()["kinds"]["message"] == {
        "in_app": True,
        "email": True,
        "push": True,
        "sms": False,
    }
    assert client.get(PREFERENCES).json()["quiet_hours"] is not None
    assert client.put(PREFERENCES, {"quiet_hours": None}).json()["quiet_hours"] is None
    assert api(make_user()).get(PREFERENCES).json() == begin


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"kinds": {"no such kind": {}}}, "/kinds/no such kind"),
        ({"kinds": {"message": {"pigeon": True}}}, "/kinds/message/pigeon"),
        ({"kinds": {"message": {"email": "yes"}}}, "/kinds/message/email"),
        ({"kinds": {"message": {"email": 1}}}, "/kinds/message/email"),
        ({"kinds": {"message": None}}, "/kinds/message"),
        ({"kinds": []}, "/kinds"),
        ({"quiet_hours": {"start": "22:00"}}, "/quiet_hours/end"),
        ({"quiet_hours": {"start": "22:00", "end": "22:00"}}, "/quiet_hours/end"),
        ({"quiet_hours": {"start": "25:00", "end": "22:00"}}, "/quiet_hours/start"),
        ({"quiet_hours": {"start": "1:00", "end": "2:00", "time_zone": "Atlantis"}}, "/quiet_hours/time_zone"),
        ({"unknown": 1}, "/unknown"),
    ],
)
def test_preferences_that_are_none_are_refused_by_name(reader, wish, pointer):
    answer = api(reader).put(PREFERENCES, wish)
    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert not reader.notification_preferences.exists()


def test_what_somebody_does_not_want_in_the_shop_is_kept_and_not_shown(reader):
    api(reader).put(PREFERENCES, {"kinds": {"announcement": {"in_app": False}}})
    tell(reader)
    tell(reader, kind=Kind.MESSAGE)
    [hidden, shown] = reader.notifications.order_by("id")
    assert (hidden.in_app, shown.in_app) == (False, True)
    assert ids(api(reader).get(LIST, {"all": "1"})) == [shown.pk]
    assert api(reader).post(f"{LIST}{hidden.pk}/read/").status_code == 404


def test_every_channel_has_a_default_and_every_kind_fits_its_column():
    from notifications.preferences import DEFAULTS

    assert set(DEFAULTS) == set(Channel.values)
    assert max(map(len, Kind.values)) <= 32


@pytest.mark.parametrize(
    ("start", "end", "now", "over"),
    [
        ("22:00", "07:00", "2026-01-10 23:00", "2026-01-11 07:00"),
        ("22:00", "07:00", "2026-01-11 06:59", "2026-01-11 07:00"),
        ("22:00", "07:00", "2026-01-11 07:00", None),
        ("22:00", "07:00", "2026-01-11 12:00", None),
        ("12:00", "13:00", "2026-01-11 12:00", "2026-01-11 13:00"),
        ("12:00", "13:00", "2026-01-11 13:00", None),
        # The clocks of London are an hour ahead of UTC in July.
        ("22:00", "07:00", "2026-07-10 21:30", "2026-07-11 06:00"),
        ("22:00", "07:00", "2026-07-11 06:30", None),
    ],
)
def test_quiet_hours_end_by_the_clock_of_their_place(start, end, now, over):
    def at(text):
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    def clock(text):
        return datetime.fromisoformat(f"2000-01-01 {text}").time()

    hours = QuietHours(start=clock(start), end=clock(end), time_zone="Europe/London")
    assert end_of_quiet(hours, at(now)) == (at(over) if over else None)


# --- The admin, and how long they are kept ----------------------------------------------------


def test_the_admin_filters_shows_the_sender_and_marks_in_bulk(reader):
    staff = browser_of(make_manager())
    sender = make_user(username="the-sender")
    notify([reader.pk], kind=Kind.MESSAGE, message="One.", sender_id=sender.pk)
    notify([reader.pk], kind=Kind.MESSAGE, message="Two.")
    pages = "/admin/notifications/notification/"
    chosen = list(reader.notifications.values_list("pk", flat=True))

    assert b"the-sender" in staff.get(pages).content
    staff.post(pages, {"action": "mark_read", "_selected_action": chosen})
    assert set(reader.notifications.values_list("read", flat=True)) == {True}
    assert b"One." not in staff.get(pages, {"read__exact": "0"}).content
    staff.post(pages, {"action": "mark_unread", "_selected_action": chosen[:1]})
    assert reader.notifications.filter(read=False).count() == 1


def test_old_ones_are_pruned_sooner_if_they_were_read(reader, settings):
    settings.NOTIFICATION_RETENTION_DAYS, settings.NOTIFICATION_UNREAD_RETENTION_DAYS = 10, 20
    from notifications.tasks import prune_notifications

    tell(reader, count=4)
    for row, (days, read) in zip(
        reader.notifications.order_by("id"), [(9, True), (11, True), (11, False), (21, False)], strict=True
    ):
        Notification.objects.filter(pk=row.pk).update(read=read, created=timezone.now() - timedelta(days=days))
    assert prune_notifications() == 2
    assert sorted(reader.notifications.values_list("message", flat=True)) == ["News 0.", "News 2."]


def test_a_sender_who_is_gone_leaves_what_was_told(reader):
    sender = make_user()
    notify([reader.pk], kind=Kind.MESSAGE, message="One.", sender_id=sender.pk)
    sender.delete()
    assert reader.notifications.get().sender is None


def test_migrations_are_complete():
    call_command("makemigrations", "notifications", "messaging", "--check", "--dry-run", verbosity=0)
