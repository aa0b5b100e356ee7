"""Chains, groups and chords of durable tasks: successors are written in the completing transaction."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import GroupResult
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu import Connection
from kombu.pools import ProducerPool

from celery_ledger import collecting
from celery_ledger.context import working_on
from celery_ledger.desk import cancelling, dead_letters, pruner
from celery_ledger.models import Chord, DurableTask, LargeResult, Part, Step
from celery_ledger.relay import expiring
from celery_ledger.retries import BRISK
from celery_ledger.rows.inserts import write
from celery_ledger.testing import drain, enqueued
from celery_ledger.work import consumer
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)


class Tasks:
    """Tasks for canvases, and what they saw."""

    def __init__(self, *, transactional):
        self.failing = set()
        self.requests = []
        self.told = []
        options = {"base": Task, "transactional": transactional, "retries": None}

        @app.task(name="tests.add", bind=True, **options)
        def add(task, x, y):
            self.requests.append(task.request.__dict__.copy())
            if (x, y) in self.failing:
                raise ZeroDivisionError(f"{x} and {y}")
            return x + y

        @app.task(name="tests.total", bind=True, **options)
        def total(task, numbers):
            self.requests.append(task.request.__dict__.copy())
            return sum(numbers)

        @app.task(name="tests.note", **options)
        def note(failed_id):
            self.told.append(failed_id)

        @app.task(name="tests.note_all", **options)
        def note_all(request, error, traceback):
            self.told.append((request.id, error, traceback))

        self.add, self.total, self.note, self.note_all = add, total, note, note_all

    def forget(self):
        for task in (self.add, self.total, self.note, self.note_all):
            app.tasks.pop(task.name)


@pytest.fixture(params=[True, False], ids=["inside", "outside"])
def tasks(request):
    tasks = Tasks(transactional=request.param)
    yield tasks
    tasks.forget()


def rows(name):
    return DurableTask.objects.filter(name=name).order_by("id")


def statuses(name):
    return list(rows(name).values_list("status", flat=True))


def deliver(row):
    """Bring a row's message once more, as a broker that doubles it does."""
    DurableTask.objects.filter(id=row.id, status="pending").update(status="published")
    consumer.consume(app.tasks[row.name], [str(row.id)])


class TestChains:
    def test_each_step_is_given_what_the_one_before_it_returned(self, tasks):
        result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()
        drain()
        assert result.get(timeout=1) == 10
        assert result.parent.get(timeout=1) == 6
        assert statuses("tests.add") == ["succeeded"] * 3

    def test_a_row_carries_no_step_and_the_request_has_them_all(self, tasks):
        result = chain(*[tasks.add.s(1, 1), *[tasks.add.s(1)] * 20])()
        assert len(rows("tests.add").get().options["canvas"]["chain"]) == 1
        drain()
        assert result.get(timeout=1) == 22
        parents = [UUID(request["parent_id"]) for request in tasks.requests[1:]]
        assert parents == [UUID(request["id"]) for request in tasks.requests[:-1]]
        assert {request["root_id"] for request in tasks.requests} == {tasks.requests[0]["id"]}
        assert [len(request.get("chain") or ()) for request in tasks.requests] == list(range(20, -1, -1))

    def test_it_is_there_if_and_only_if_its_transaction_is(self, tasks):
        with transaction.atomic():
            chain(tasks.add.s(1, 2), tasks.add.s(3))()
            transaction.set_rollback(True)
        assert not DurableTask.objects.exists()
        assert not Step.objects.exists()

    def test_links_are_called_beside_the_next_step(self, tasks):
        tasks.add.apply_async((1, 2), link=[tasks.add.s(10), tasks.total.si([5])])
        drain()
        assert statuses("tests.add") == ["succeeded"] * 2
        assert statuses("tests.total") == ["succeeded"]
        assert rows("tests.add").last().args == [3, 10]

    def test_what_cannot_be_given_on_fails_the_task_that_returned_it(self, tasks):
        @app.task(name="tests.give", base=Task, transactional=tasks.add.transactional, retries=None)
        def give():
            return object()

        try:
            chain(give.s(), tasks.add.s(1))()
            drain()
        finally:
            app.tasks.pop("tests.give")
        assert statuses("tests.give") == ["dead"]
        assert not enqueued("tests.add")

    def test_an_effect_outside_is_not_repeated_because_its_result_cannot_be_given_on(self, tasks):
        effects = []

        @app.task(name="tests.give", base=Task, transactional=False, retries=BRISK)
        def give():
            effects.append("sent")
            return object()

        try:
            chain(give.s(), tasks.add.s(1))()
            drain()
        finally:
            app.tasks.pop("tests.give")
        assert effects == ["sent"]
        assert statuses("tests.give") == ["dead"]
        assert "It ran, but what follows from it cannot be written" in rows("tests.give").get().last_error

    def test_a_second_delivery_finds_it_all_done(self, tasks):
        chain(tasks.add.s(1, 2), tasks.add.s(3))()
        drain()
        first = rows("tests.add").first()
        deliver(first)
        assert len(tasks.requests) == 2


class TestFailure:
    def test_errbacks_are_called_once_and_what_can_no_longer_run_says_so(self, tasks):
        tasks.failing = {(1, 2)}
        last = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4)).apply_async(link_error=tasks.note.s())
        drain()
        [dead] = rows("tests.add")
        assert dead.status == "dead"
        assert tasks.told == [str(dead.id)]
        assert [last.state, last.parent.state] == ["FAILURE", "FAILURE"]
        with pytest.raises(ZeroDivisionError):
            last.get(timeout=1)

    def test_a_replay_resumes_the_chain_and_calls_no_errback_again(self, tasks):
        tasks.failing = {(1, 2)}
        last = chain(tasks.add.s(1, 2), tasks.add.s(3)).apply_async(link_error=tasks.note.s())
        drain()
        dead_letters.replay([rows("tests.add").get().id])
        drain()
        assert len(tasks.told) == 1
        tasks.failing = set()
        dead_letters.replay([rows("tests.add").get().id])
        drain()
        assert last.get(timeout=1) == 6

    def test_an_errback_that_takes_it_all_is_called_with_the_error(self, tasks):
        tasks.failing = {(1, 2)}
        result = tasks.add.apply_async((1, 2), link_error=tasks.note_all.s())
        drain()
        [(id, error, traceback)] = tasks.told
        assert id == result.id
        assert isinstance(error, ZeroDivisionError)
        assert "ZeroDivisionError: 1 and 2" in traceback


class TestGroups:
    def test_members_become_rows_of_one_statement_and_their_results_one(self, tasks):
        with CaptureQueriesContext(connection) as queries:
            result = group(tasks.add.s(n, 1) for n in range(20))()
        assert sum("INSERT" in query["sql"] for query in queries) == 1
        drain()
        assert result.get(timeout=5) == list(range(1, 21))
        assert {request["group"] for request in tasks.requests} == {result.id}

    def test_a_rolled_back_transaction_leaves_nothing(self, tasks):
        with transaction.atomic():
            group(tasks.add.s(1, 1), chain(tasks.add.s(1, 1), tasks.add.s(1)))()
            chord([tasks.add.s(1, 1)], tasks.total.s())()
            transaction.set_rollback(True)
        assert not any(model.objects.exists() for model in (DurableTask, Step, Chord, Part))

    def test_its_saved_result_is_restored(self, tasks):
        result = group(tasks.add.s(n, 1) for n in range(3))()
        result.save()
        drain()
        assert GroupResult.restore(result.id).join(timeout=5) == [1, 2, 3]
        result.delete()
        assert GroupResult.restore(result.id) is None

    def test_map_starmap_and_chunks_are_tasks_like_others(self, tasks):
        mapped, starred = tasks.add.starmap([(1, 2), (3, 4)]).delay(), tasks.total.map([[1], [2, 3]]).delay()
        chunked = tasks.add.chunks([(n, n) for n in range(4)], 2)()
        drain()
        assert [mapped.get(timeout=5), starred.get(timeout=5)] == [[3, 7], [1, 5]]
        assert chunked.get(timeout=5) == [[0, 2], [4, 6]]


class TestChords:
    def test_the_body_is_given_the_results_in_order(self, tasks):
        result = chord([tasks.add.s(n, 0) for n in range(10)], tasks.total.s())()
        body = []
        for row in reversed(rows("tests.add")):
            assert not enqueued("tests.total")
            deliver(row)
        body = rows("tests.total").get()
        assert body.args == [list(range(10))]
        drain()
        assert result.get(timeout=5) == 45
        assert result.parent.get(timeout=5) == list(range(10))

    def test_a_member_counts_once_and_the_body_is_there_once(self, tasks):
        chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s())()
        first, second = rows("tests.add")
        for _ in range(3):
            deliver(first)
            assert DurableTask.objects.get(id=first.id).status == "succeeded"
            DurableTask.objects.filter(id=first.id).update(status="published")
        assert not enqueued("tests.total")
        deliver(second)
        assert len(rows("tests.total")) == 1

    def test_a_member_whose_transaction_is_rolled_back_does_not_count(self, tasks, monkeypatch):
        def fail_to_commit(place):
            if place == "canvas.before_body":
                raise ConnectionAbortedError(place)

        chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s())()
        first, second = rows("tests.add")
        deliver(first)
        with monkeypatch.context() as patch:
            patch.setattr("celery_ledger.rows.following.crash_point", fail_to_commit)
            deliver(second)
        assert Chord.objects.get().missing == 1
        assert Part.objects.count() == 1
        DurableTask.objects.filter(id=second.id).update(status="published")
        deliver(second)
        assert rows("tests.total").get().args == [[2, 4]]

    def test_members_of_one_message_lower_the_counter_by_one_statement(self, tasks):
        chord([tasks.add.s(n, 0) for n in range(6)], tasks.total.s())()
        if not tasks.add.transactional:
            pytest.skip("each of them has a transaction of its own")
        ids = [str(row.id) for row in rows("tests.add")]
        DurableTask.objects.update(status="published")
        with CaptureQueriesContext(connection) as queries:
            consumer.consume(tasks.add, ids)
        counted = [
            query for query in queries if "celery_ledger_chord" in query["sql"] and "SET missing" in query["sql"]
        ]
        assert len(counted) == 1
        assert rows("tests.total").get().args == [list(range(6))]

    def test_they_are_nested_in_one_another_five_deep(self, tasks):
        canvas = tasks.add.s(1, 0)
        for _ in range(5):
            canvas = chord([canvas, chain(tasks.add.s(1, 0), tasks.add.s(1))], tasks.total.s())
        result = canvas.apply_async()
        drain()
        assert result.get(timeout=5) == 11

    def test_a_chain_of_groups_is_a_chain_of_chords(self, tasks):
        canvas = group(tasks.add.s(1, 1), tasks.add.s(2, 2)) | tasks.total.s() | group(tasks.add.s(1), tasks.add.s(2))
        result = (canvas | tasks.total.s() | tasks.add.s(100)).apply_async()
        drain()
        assert result.get(timeout=5) == 7 + 8 + 100

    def test_results_of_a_header_with_a_group_within_are_nested_as_it_is(self, tasks):
        inner = chain(tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2)))
        chord([tasks.add.s(0, 0), inner], tasks.note.s())()
        drain()
        assert tasks.told == [[0, [3, 4]]]

    def test_a_body_may_be_a_group_a_chain_or_a_chord(self, tasks):
        header = [tasks.add.s(1, 1), tasks.add.s(2, 2)]
        results = [
            chord(header, group(tasks.total.s(), tasks.total.s()))(),
            chord(header, chain(tasks.total.s(), tasks.add.s(1)))(),
            chord(header, chord([tasks.total.s(), tasks.total.s()], tasks.total.s()))(),
        ]
        drain()
        assert [result.get(timeout=5) for result in results] == [[6, 6], 7, 12]

    def test_a_large_header_is_written_in_portions_of_one_transaction(self, tasks, monkeypatch):
        monkeypatch.setattr("celery_ledger.rows.outbox.MOST_ROWS", 4)
        written = []
        monkeypatch.setattr(
            "celery_ledger.rows.outbox.write", lambda calls, chords: written.append(len(calls)) or write(calls, chords)
        )
        header = [tasks.add.s(n, 0) for n in range(9)]
        with pytest.raises(TypeError):  # The last member is refused when the first ones are written.
            chord([*header, tasks.add.s(object(), 0)], tasks.total.s())()
        assert written == [4, 4]
        assert not DurableTask.objects.exists()
        assert not Chord.objects.exists()
        result = chord(header, tasks.total.s())()
        assert written == [4, 4, 4, 4, 1]
        drain()
        assert result.get(timeout=5) == sum(range(9))

    def test_the_body_knows_from_which_member_it_follows(self, tasks):
        body = chain(tasks.total.s(), tasks.add.s(1))
        result = (tasks.add.s(0, 0) | group(tasks.add.s(n) for n in range(3)) | body).apply_async()
        drain()
        body = tasks.requests[-2]
        assert body["parent_id"] in [member.id for member in result.parent.parent]
        assert body["root_id"] == tasks.requests[0]["id"]

    @pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer")
    def test_who_fails_waits_for_no_chord_while_holding_another(self, tasks):
        tasks.failing = {(1, 1)}
        outer = inner = None
        while outer is None or outer.id > inner.id:
            DurableTask.objects.all().delete()
            result = chord([chord([tasks.add.s(1, 1)], tasks.total.s()), tasks.add.s(0, 0)], tasks.total.s())()
            outer = Chord.objects.get(id=result.parent.id)
            inner = Chord.objects.exclude(id=outer.id).order_by("canvas").last()
        [member] = [row for row in rows("tests.add") if row.args == [1, 1]]
        with transaction.atomic():
            Chord.objects.select_for_update().get(id=outer.id)
            thread = threading.Thread(target=lambda: (deliver(member), connection.close()))
            thread.start()
            wait_until("it waits for the outer one", _is_somebody_waiting)
            Chord.objects.select_for_update(nowait=True).get(id=inner.id)
        thread.join()
        assert not Chord.objects.filter(id__in=[outer.id, inner.id], failed_at=None).exists()

    def test_a_member_that_is_not_durable_is_sent_when_the_chord_is_there_to_count_it(self, tasks, monkeypatch):
        seen = []

        def send(producer, name, message, **options):
            seen.append((message.headers["group"], Chord.objects.count(), connection.in_atomic_block))

        monkeypatch.setattr(app.amqp, "send_task_message", send)
        plain = tasks.add.s(3, 4)
        monkeypatch.setattr(tasks.add, "durable", False)
        with transaction.atomic():
            chord([plain, chain(plain, tasks.note.si(1))], tasks.total.s())()
            transaction.set_rollback(True)
        assert seen == []
        with transaction.atomic():
            result = chord([plain, chain(plain, tasks.note.si(1))], tasks.total.s())()
            assert seen == []
        assert seen == [(result.parent.id, 1, False), (None, 1, False)]

    def test_an_empty_header_calls_the_body_at_once(self, tasks):
        result = chord([], tasks.total.s())()
        drain()
        assert result.get(timeout=5) == 0

    def test_a_failure_for_good_calls_the_errbacks_of_member_and_body_once_and_a_replay_resumes(self, tasks):
        tasks.failing = {(1, 1), (2, 2)}
        header = [tasks.add.s(n, n).on_error(tasks.note.s()) for n in range(3)]
        result = chord(header, tasks.total.s().on_error(tasks.note.s()))()
        drain()
        dead = [row.id for row in rows("tests.add").filter(status="dead")]
        assert sorted(tasks.told) == sorted([*map(str, dead), result.id])
        assert result.state == "FAILURE"
        assert isinstance(result.result, ChordError)
        tasks.failing = {(1, 1)}
        dead_letters.replay(dead)
        drain()
        assert len(tasks.told) == 3
        tasks.failing = set()
        dead_letters.replay(dead)
        drain()
        assert app.AsyncResult(result.id).get(timeout=5) == 6
        assert len(rows("tests.total")) == 1

    def test_the_tasks_of_a_body_that_is_a_group_fail_with_the_members_own_error(self, tasks):
        tasks.failing = {(1, 1)}
        body = group(tasks.total.s(), tasks.total.s()).on_error(tasks.note.s())
        result = chord([tasks.add.s(n, n) for n in range(2)], body).delay()
        drain()
        assert [one.state for one in result.results] == ["FAILURE"] * 2
        assert [type(one.result) for one in result.results] == [ZeroDivisionError] * 2
        assert sorted(tasks.told) == sorted(one.id for one in result.results)

    def test_what_fails_within_fails_all_that_waits_for_it(self, tasks):
        tasks.failing = {(1, 1)}
        inner = chord([tasks.add.s(1, 1)], tasks.total.s()) | tasks.add.s(1)
        result = (chord([inner, tasks.add.s(0, 0)], tasks.total.s().on_error(tasks.note.s()))).delay()
        drain()
        assert result.state == "FAILURE"
        assert len(tasks.told) == 1


class TestReplacing:
    @pytest.fixture
    def becoming(self, tasks):
        """Have a task that another canvas replaces."""

        @app.task(name="tests.become", bind=True, base=Task, transactional=tasks.add.transactional, retries=None)
        def become(task, *args):
            raise task.replace(becoming.canvas)

        becoming = become
        yield become
        app.tasks.pop("tests.become")

    def test_another_call_takes_its_id_and_its_place_in_a_chain(self, tasks, becoming):
        becoming.canvas = tasks.add.s(1, 2)
        result = chain(tasks.add.s(0, 0), becoming.s(), tasks.add.s(10)).apply_async()
        drain()
        assert result.get(timeout=5) == 13
        assert result.parent.get(timeout=5) == 3
        [aside] = rows("tests.become")
        assert (aside.status, aside.options["canvas"]["replaced_by"]) == ("succeeded", result.parent.id)

    def test_a_chain_a_group_and_a_chord_do_within_a_chord(self, tasks, becoming):
        for canvas, value in (
            (chain(tasks.add.s(1, 2), tasks.add.s(3)), 6),
            (group(tasks.add.s(1, 2), tasks.add.s(3, 4)), [3, 7]),
            (chord([tasks.add.s(1, 2), tasks.add.s(3, 4)], tasks.total.s()), 10),
        ):
            becoming.canvas = canvas
            tasks.told.clear()
            chord([becoming.s(), tasks.add.s(0, 0)], tasks.note.s())()
            drain()
            assert tasks.told == [[value, 0]]

    def test_what_joins_a_chord_is_waited_for(self, tasks):
        @app.task(name="tests.join", bind=True, base=Task, transactional=tasks.add.transactional)
        def join(task, number):
            task.add_to_chord(tasks.add.s(number, number))
            return number

        try:
            result = chord([join.s(1), join.s(2)], tasks.total.s())()
            drain()
        finally:
            app.tasks.pop("tests.join")
        assert result.get(timeout=5) == 1 + 2 + 2 + 4


class TestOptions:
    """What is said of a whole canvas where it is called."""

    QUEUES = "inventory", "default"
    SAID = {"queue": "inventory", "priority": 3, "headers": {"colour": "blue"}}

    @pytest.mark.parametrize("kind", ["chain", "group", "chord", "chunks", "map", "starmap", "link"])
    def test_each_kind_takes_them_as_celery_does(self, tasks, kind):
        two = [tasks.add.s(1, 1), tasks.add.s(2, 2)]
        canvas = {
            "chain": lambda: chain(tasks.add.s(1, 1), tasks.add.s(1)),
            "group": lambda: group(two),
            "chord": lambda: chord(two, tasks.total.s()),
            "chunks": lambda: tasks.add.chunks([(1, 1), (2, 2)], 1),
            "map": lambda: tasks.total.map([[1]]),
            "starmap": lambda: tasks.add.starmap([(1, 1)]),
            "link": lambda: tasks.add.s(1, 1).on_error(tasks.note.s()),
        }[kind]()
        moment = timezone.now() + timedelta(hours=1)
        canvas.clone().apply_async(**self.SAID, countdown=3000, expires=7200)
        canvas.clone().apply_async(eta=moment, expires=moment + timedelta(hours=1))
        first, second = (DurableTask.objects.filter(queue=queue).order_by("id").first() for queue in self.QUEUES)
        assert (first.queue, first.priority, first.options["headers"]) == ("inventory", 3, {"colour": "blue"})
        assert 2900 < (first.available_at - timezone.now()).total_seconds() < 3100
        assert 7000 < (first.expires_at - timezone.now()).total_seconds() < 7300
        assert (second.available_at, second.expires_at) == (moment, moment + timedelta(hours=1))

    def test_a_caller_may_name_the_last_of_them(self, tasks):
        ids = [str(uuid4()) for _ in range(2)]
        in_chain = chain(tasks.add.s(1, 1), tasks.add.s(1)).apply_async(task_id=ids[0])
        in_chord = chord([tasks.add.s(1, 1)], tasks.total.s()).apply_async(task_id=ids[1])
        drain()
        assert [in_chain.id, in_chord.id] == ids
        assert [app.AsyncResult(id).get(timeout=5) for id in ids] == [3, 2]


class TestProducers:
    """A producer of Celery's pool is taken by who publishes, and by nobody else."""

    @pytest.fixture
    def broker(self, monkeypatch):
        """Have a pool of one producer, as ``broker_pool_limit=1`` has; who waits for it in vain fails."""
        broker = Connection("memory://")
        pool = ProducerPool(broker.Pool(1), limit=1)
        acquire = partial(pool.acquire, block=True, timeout=5)
        monkeypatch.setattr(pool, "acquire", lambda **_: acquire())
        monkeypatch.setattr(app.amqp, "_producer_pool", pool)
        yield broker
        pool.force_close_all()
        broker.release()

    @staticmethod
    def nested(tasks, kind):
        canvas = tasks.add.s(1, 1)
        for _ in range(5):
            two = [canvas, tasks.add.s(0, 0)]
            canvas = chord(two, tasks.total.s()) if kind == "chord" else group(two) | tasks.total.s()
        return group([canvas])

    @pytest.mark.parametrize("kind", ["chord", "chain"])
    def test_what_is_nested_five_deep_takes_none(self, tasks, broker, kind):
        with app.producer_pool.acquire():  # The only one is in use elsewhere.
            result = self.nested(tasks, kind).apply_async()
        drain()
        assert result.get(timeout=5) == [2]

    def test_threads_that_call_canvases_do_not_wait_for_each_other(self, tasks, broker):
        def call(_):
            try:
                return self.nested(tasks, "chord").apply_async()
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(call, range(8)))
        drain()
        assert [result.get(timeout=5) for result in results] == [[2]] * 8

    @pytest.mark.parametrize("is_inside", [True, False], ids=["inside a transaction", "outside"])
    def test_a_plain_task_is_published_by_one_of_its_own(self, tasks, broker, monkeypatch, is_inside):
        monkeypatch.setattr(tasks.note, "durable", False)
        plain = tasks.note.s(1)
        with transaction.atomic() if is_inside else nullcontext():
            group([plain, chord([plain, group(plain, plain) | tasks.total.s()], tasks.total.s())]).apply_async()
        queue = broker.SimpleQueue(app.conf.task_default_queue)
        assert {queue.get(timeout=5).headers["task"] for _ in range(4)} == {plain.task}
        assert queue.qsize() == 0
        queue.close()

    def test_the_producer_that_a_caller_gives_is_used(self, tasks, broker, monkeypatch):
        monkeypatch.setattr(tasks.note, "durable", False)
        with app.producer_pool.acquire() as producer:
            group([tasks.note.s(1), tasks.add.s(1, 1)]).apply_async(producer=producer)
        queue = broker.SimpleQueue(app.conf.task_default_queue)
        assert queue.get(timeout=5).headers["task"] == tasks.note.name
        queue.close()
        assert statuses("tests.add") == ["pending"]


class TestLargeResults:
    @pytest.fixture
    def text(self, settings):
        settings.LEDGER_LARGE_RESULT = 100
        return "a long text " * 20

    @pytest.fixture
    def write(self, tasks):
        @app.task(name="tests.write", base=Task, transactional=tasks.add.transactional, retries=None)
        def write(text):
            return text

        yield write
        app.tasks.pop("tests.write")

    def test_what_a_chain_gives_on_is_kept_once_and_read_once(self, tasks, write, text):
        write.apply_async((text,), link=[tasks.note.s(), tasks.note.s()])
        consumer.consume(write, [str(row.id) for row in _published("tests.write")])
        assert [row.args[0]["__type__"] for row in rows("tests.note")] == ["celery_ledger.large"] * 2
        assert LargeResult.objects.get().canvas == rows("tests.note").first().canvas
        with CaptureQueriesContext(connection) as queries:
            deliver(rows("tests.note").first())
        assert sum("largeresult" in query["sql"] for query in queries) == 1
        assert tasks.told == [text]

    def test_the_body_of_a_chord_is_given_its_parts(self, tasks, write, text):
        result = chord([write.s(f"{number} {text}") for number in range(3)], write.s())()
        drain()
        assert min(len(str(row.args)) for row in rows("tests.write")) < 100
        assert result.get(timeout=5) == [f"{number} {text}" for number in range(3)]
        assert not LargeResult.objects.exists()

    def test_a_small_one_is_where_it_always_was(self, tasks, write, text):
        chain(write.s("short"), write.s(), write.s())()
        drain()
        assert [row.args for row in rows("tests.write")] == [["short"]] * 3
        assert not LargeResult.objects.exists()

    def test_they_are_pruned_with_their_canvas(self, tasks, write, text):
        write.apply_async((text,), link=tasks.note.s())
        drain()
        canvas = LargeResult.objects.get().canvas
        DurableTask.objects.all().delete()
        LargeResult.objects.update(canvas=_of_years_ago(canvas))
        pruner.prune(older_than=timedelta(days=7))
        assert not LargeResult.objects.exists()


class TestTheEnd:
    def test_who_cancels_a_member_ends_what_waits_for_it(self, tasks):
        body = tasks.total.s().on_error(tasks.note.s())
        result = chord([chain(tasks.add.s(1, 1), tasks.add.s(1)), tasks.add.s(0, 0)], body)()
        step = result.parent[0]
        cancelling.cancel(step.parent.id, reason="No more wanted.")
        drain()
        assert [step.parent.state, step.state, result.state] == ["REVOKED", "REVOKED", "FAILURE"]
        assert tasks.told == [result.id]

    def test_who_cancels_its_id_cancels_all_of_it(self, tasks):
        result = chord([tasks.add.s(n, n) for n in range(3)], tasks.total.s())()
        canvas = rows("tests.add").first().canvas
        assert cancelling.cancel(Q(canvas=canvas), reason="No more wanted.") == 3
        assert drain() == 0
        assert result.state == "FAILURE"

    def test_nothing_follows_in_a_canvas_that_is_cancelled_while_one_of_it_runs(self, tasks, monkeypatch):
        monkeypatch.setattr(cancelling, "PATIENCE_OF_A_CANVAS", 0.2)

        @app.task(name="tests.stop", bind=True, base=Task, transactional=tasks.add.transactional)
        def stop(task):
            cancelling.cancel_canvas(task.request.id, reason="No more wanted.")

        body = tasks.total.si([]).on_error(tasks.note.s())
        try:
            member = stop.si().set(link=tasks.add.s(0))
            result = chord([chain(member, tasks.add.si(1, 1)), tasks.add.s(2, 2)], body).apply_async()
            deliver(rows("tests.stop").get())
        finally:
            app.tasks.pop("tests.stop")
        assert [*statuses("tests.stop"), *statuses("tests.add")] == ["succeeded", "cancelled"]
        assert (result.parent[0].state, result.state) == ("REVOKED", "FAILURE")
        drain()
        assert tasks.told == [result.id]

    def test_a_replay_takes_it_back_that_nothing_follows(self, tasks):
        tasks.failing = {(1, 1)}
        result = chain(tasks.add.s(1, 1), tasks.add.s(1))()
        drain()
        [dead] = rows("tests.add")
        assert cancelling.cancel_canvas(str(dead.canvas), reason="No more wanted.") == 0
        tasks.failing = set()
        dead_letters.replay([dead.id])
        drain()
        assert result.get(timeout=5) == 3

    def test_many_members_end_by_few_statements(self, tasks):
        counts = []
        for size in (20, 40):
            result = chord([tasks.add.s(n, n) for n in range(size)], tasks.total.s())()
            with CaptureQueriesContext(connection) as queries:
                assert cancelling.cancel_canvas(result.parent[0].id, reason="No more wanted.") == size
            counts.append(len(queries))
        assert counts[0] == counts[1]

    @pytest.mark.parametrize("by", ["handle", "outbox"])
    def test_a_step_is_revoked_before_its_turn_has_come(self, tasks, by):
        last = chain(tasks.add.s(1, 1), tasks.add.s(1), tasks.add.s(1), tasks.add.s(1))()
        step = last.parent
        if by == "handle":
            step.revoke()
        else:
            assert cancelling.cancel(step.id, reason="No more wanted.") == 1
        drain()
        expiring.cancel_expired()
        drain()
        states = [last.parent.parent.parent.state, step.parent.state, step.state, last.state]
        assert states == ["SUCCESS", "SUCCESS", "REVOKED", "REVOKED"]
        assert sorted(statuses("tests.add")) == ["cancelled", "succeeded", "succeeded"]

    def test_a_body_is_revoked_before_its_turn_has_come(self, tasks):
        result = chord([tasks.add.s(n, n) for n in range(3)], tasks.total.s())()
        result.revoke()
        drain()
        expiring.cancel_expired()
        assert (result.state, rows("tests.total").get().status) == ("REVOKED", "cancelled")

    def test_what_expires_in_the_middle_ends_what_follows(self, tasks):
        result = chain(tasks.add.s(1, 1), tasks.add.s(1).set(expires=1), tasks.add.s(1))()
        consumer.consume(tasks.add, [str(row.id) for row in _published("tests.add")])
        DurableTask.objects.filter(status="pending").update(expires_at="2010-12-01T08:00Z")
        expiring.cancel_expired()
        drain()
        assert [result.state, result.parent.state] == ["REVOKED", "REVOKED"]

    def test_a_replay_forgets_that_what_waits_can_no_longer_run(self, tasks):
        tasks.failing = {(1, 1)}
        result = chord([tasks.add.s(1, 1)], chain(tasks.total.s(), tasks.add.s(1)))()
        drain()
        assert app.AsyncResult(result.id).state == "FAILURE"
        dead_letters.replay([rows("tests.add").get().id])
        assert app.AsyncResult(result.id).state == "PENDING"

    def test_it_is_pruned_when_the_last_of_its_rows_is(self, tasks):
        chain(chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s()), tasks.add.s(1))()
        drain()
        kept = (Step, Chord, Part)
        for model in (DurableTask, Step, Chord):
            for canvas in set(model.objects.values_list("canvas", flat=True)):
                model.objects.filter(canvas=canvas).update(canvas=_of_years_ago(canvas))
        pruner.prune(older_than=timedelta(days=7))
        assert Chord.objects.exists()
        DurableTask.objects.update(completed_at="2010-12-01T08:00Z")
        DurableTask.objects.all().delete()
        pruner.prune(older_than=timedelta(days=7))
        assert not any(model.objects.exists() for model in kept)


def _published(name):
    DurableTask.objects.filter(name=name, status="pending").update(status="published")
    return rows(name).filter(status="published")


def _is_somebody_waiting():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return cursor.fetchone()[0]


def _of_years_ago(id):
    return UUID(int=(0x0100_0000_0000 << 80) | (id.int & ((1 << 80) - 1)))


class TestCollected:
    """What is called in a block is the header of a chord."""

    def test_the_body_is_called_once_with_the_results_in_the_order_of_the_calls(self, tasks):
        with transaction.atomic(), collecting(body=tasks.total.s()):
            for number in range(3):
                tasks.add.delay(number, 10)
        assert {row.canvas for row in rows("tests.add")} == {Chord.objects.get().canvas}
        drain()
        [request] = [request for request in tasks.requests if request["task"] == "tests.total"]
        assert request["args"] == [[10, 11, 12]]
        assert statuses("tests.total") == ["succeeded"]

    def test_nothing_is_left_of_a_block_that_is_rolled_back(self, tasks):
        with pytest.raises(ZeroDivisionError), transaction.atomic(), collecting(body=tasks.total.s()):
            tasks.add.delay(1, 2)
            raise ZeroDivisionError
        with transaction.atomic():
            with collecting(body=tasks.total.s()):
                tasks.add.delay(1, 2)
            transaction.set_rollback(True)
        assert not DurableTask.objects.exists()
        assert not Chord.objects.exists()

    def test_calls_of_a_part_that_is_rolled_back_are_not_waited_for(self, tasks):
        with transaction.atomic(), collecting(body=tasks.total.s()):
            tasks.add.delay(1, 2)
            with suppress(ZeroDivisionError), transaction.atomic():
                tasks.add.delay(3, 4)
                raise ZeroDivisionError
        drain()
        assert statuses("tests.total") == ["succeeded"]

    @pytest.mark.parametrize("calls", [0, 1])
    def test_where_nothing_is_called_the_body_is_called_at_once(self, tasks, calls):
        with transaction.atomic(), collecting(body=tasks.total.s()), suppress(ZeroDivisionError), transaction.atomic():
            for number in range(calls):
                tasks.add.delay(number, 2)
            raise ZeroDivisionError
        assert statuses("tests.total") == ["pending"]
        assert not Chord.objects.exists()

    def test_a_call_for_which_another_row_stands_is_not_waited_for(self, tasks):
        tasks.add.apply_async((1, 2), unique_key="one")
        with transaction.atomic(), collecting(body=tasks.total.s()):
            tasks.add.apply_async((1, 2), unique_key="one")
            tasks.add.delay(3, 4)
        assert Chord.objects.get().missing == 1
        with transaction.atomic(), collecting(body=tasks.note.si("nothing")):
            tasks.add.apply_async((1, 2), unique_key="one")
        assert statuses("tests.note") == ["pending"]

    def test_in_an_outer_block_all_is_written_by_its_end_and_only_the_inner_calls_are_waited_for(self, tasks):
        with transaction.atomic(), collecting():
            tasks.add.delay(1, 2)
            with collecting(body=tasks.total.s()):
                tasks.add.delay(3, 4)
            tasks.add.delay(5, 6)
            assert not Chord.objects.exists()
        assert Chord.objects.get().size == 1

    def test_a_chain_in_it_is_not_waited_for(self, tasks):
        with transaction.atomic(), collecting(body=tasks.total.s()):
            chain(tasks.add.s(1, 2), tasks.add.s(3))()
            tasks.add.delay(3, 4)
        assert Chord.objects.get().size == 1

    def test_thousands_of_calls_are_one_header(self, tasks):
        with collecting(body=tasks.note.si("all")):  # Without a transaction it has one of its own.
            for number in range(2_100):
                tasks.add.delay(number, 1)
        assert Chord.objects.get().missing == 2_100

    def test_a_body_is_a_signature(self, tasks):
        with pytest.raises(TypeError, match="is a signature"), collecting(body=tasks.total):
            pass

    def test_what_follows_is_a_part_of_the_story(self, tasks):
        with working_on(subject="tests.thing:1", request_id="a-request"), transaction.atomic():
            chain(tasks.add.s(1, 2), tasks.add.s(3))()
            chord([tasks.add.s(1, 2)], tasks.total.s())()
        drain()
        assert {(row.subject, row.request_id) for row in DurableTask.objects.all()} == {("tests.thing:1", "a-request")}
        assert DurableTask.objects.count() == 4
