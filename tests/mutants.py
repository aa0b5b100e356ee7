"""
Removes each guard in turn and checks that its test fails: ``make mutants``.

Each mutant is a copy of the tree in which some lines are replaced; production code has no switch for it. A test that
passes without its guard proves nothing, and neither does a mutant whose lines no longer exist: both count as failures.
Needs PostgreSQL (``DATABASE_URL``); names as arguments run some mutants alone.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutant:
    """``old`` lines of ``file`` become ``new``, and then ``test`` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "lock",
        "celery_ledger/rows/sql.py",
        "ORDER BY id FOR UPDATE SKIP LOCKED\n    ))\n    RETURNING id, name, args",
        "ORDER BY id\n    ))\n    RETURNING id, name, args",
        "tests/integration/celery_ledger/work/test_consuming.py::TestDelivery::test_a_row_held_by_another_worker_is_passed_over",
    ),
    Mutant(
        "who runs the loop",
        "celery_ledger/loops.py",
        "    if above is not None:\n",
        "    if False:\n",
        "tests/integration/celery_ledger/test_callers.py::test_async_code_that_runs_inside_a_transaction_is_a_part_of_it",
    ),
    Mutant(
        "busy thread above a loop",
        "celery_ledger/loops.py",
        "        return future.result(PATIENCE)\n",
        "        return future.result()\n",
        "tests/integration/celery_ledger/test_callers.py::test_a_loop_that_is_waited_for_by_who_may_wait_for_it_is_told_to_await",
    ),
    Mutant(
        "purged rows",
        "celery_ledger/desk/control.py",
        "        cancelled = synchronously(lambda: _purge(self.app))\n",
        "        cancelled = 3\n",
        "tests/integration/celery_ledger/desk/test_cancelling.py::TestPurge::test_what_waits_in_the_app_s_queues_never_runs",
    ),
    Mutant(
        "pickles that are not taken",
        "celery_ledger/rows/serialized.py",
        "accept=_accepted(find_app())",
        "accept={content_type}",
        "tests/integration/celery_ledger/test_call_options.py::TestPickles::test_what_cannot_be_read_is_a_dead_letter_until_somebody_gives_it_others",
    ),
    Mutant(
        "events that nobody asked for",
        "celery_ledger/work/request.py",
        'dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))',
        "dispatcher.enabled)",
        "tests/faults/test_events.py::test_f81_without_listeners_no_event_is_built_and_none_is_sent",
    ),
    Mutant(
        "delays",
        "celery_ledger/work/reception.py",
        "        thread.join(DELAYS_PATIENCE)\n",
        "        thread.join()\n",
        "tests/faults/test_lost_rabbitmq.py::test_f190_a_node_that_is_away_keeps_no_worker_from_its_messages",
    ),
    Mutant(
        "receipt",
        "celery_ledger/rows/sql.py",
        "WHERE id = ANY(%(ids)s) AND {_AT_THE_BROKER} AND lapses",
        "WHERE id = ANY(%(ids)s) AND lapses",
        "tests/faults/test_lost_brokers.py::test_f42_f43_messages_doubled_and_shuffled_have_no_further_effect",
    ),
    Mutant(
        "message first",
        "celery_ledger/rows/sql.py",
        "               OR status = 'pending' AND published_at IS NULL",
        "               OR status = 'pending' AND false AND published_at IS NULL",
        "tests/integration/celery_ledger/relay/test_news.py::TestAMessageThatIsThereFirst::test_f196_its_row_is_taken_and_its_end_is_recorded",
    ),
    Mutant(
        "never published",
        "celery_ledger/rows/sql.py",
        "               OR status = 'pending' AND published_at IS NULL",
        "               OR status = 'pending'",
        "tests/integration/celery_ledger/relay/test_news.py::TestAMessageThatIsThereFirst::test_one_that_waits_to_be_tried_again_is_none",
    ),
    Mutant(
        "second look",
        "celery_ledger/work/consumer.py",
        "        for id in left.others:\n            _run_alone(task, id, outcomes)\n",
        "",
        "tests/integration/celery_ledger/relay/test_news.py::TestAMessageThatIsThereFirst::"
        "test_f196_a_row_that_a_relay_holds_to_claim_it_is_taken_the_moment_after",
    ),
    Mutant(
        "counted bodies",
        "web/handler.py",
        "        if self._room < 0:\n",
        "        if False:\n",
        "tests/integration/web/test_request_bodies.py::test_f106_a_body_of_no_declared_length_is_read_to_its_bound_and_no_further",
    ),
    Mutant(
        "liveness",
        "web/handler.py",
        '        if scope["path"] == LIVENESS and',
        "        if False and",
        "tests/faults/test_busy_web.py::test_f107_liveness_takes_no_thread_and_no_database",
    ),
    Mutant(
        "ended sessions",
        "web/handler.py",
        "        part_with_the_dead()\n",
        "",
        "tests/faults/test_refusing_databases.py::test_f108_sessions_that_the_server_ended_cost_no_request_an_error",
    ),
    Mutant(
        "hints",
        "notifications/feed.py",
        "            orders = orders_of(hint)\n",
        '            orders = set(hint.get("orders", ()))\n',
        "tests/integration/notifications/test_streams_unharmed.py::test_f109_hints_that_are_none_end_no_stream",
    ),
    Mutant(
        "savepoint",
        "celery_ledger/guard.py",
        "                self._savepoint = self._open()\n",
        "                pass\n",
        "tests/integration/store/test_checkout.py::test_a_failing_receiver_loses_neither_the_order_nor_its_own_reaction",
    ),
    Mutant(
        "spoiled receiver",
        "celery_ledger/guard.py",
        "        self._connection.needs_rollback = False\n",
        "",
        "tests/integration/celery_ledger/test_receivers.py::test_f69_what_a_row_cannot_hold_is_the_mistake_of_the_receiver_that_called",
    ),
    Mutant(
        "whole call",
        "celery_ledger/rows/calls.py",
        '    if "\\\\u0000" in text and _NUL.search(text):\n',
        "    if False:\n",
        "tests/integration/celery_ledger/rows/test_enqueueing.py::test_a_call_that_cannot_be_kept_is_refused_at_once",
    ),
    Mutant(
        "expiry",
        "celery_ledger/rows/sql.py",
        "lapses <= %(most_lapses)s\n          AND (expires_at IS NULL OR expires_at > statement_timestamp())\n",
        "lapses <= %(most_lapses)s\n",
        "tests/integration/celery_ledger/test_celery_habits.py::TestExpiry::test_f72_a_call_that_expired_is_not_run_and_says_so",
    ),
    Mutant(
        "rolled back part",
        "celery_ledger/rows/outbox.py",
        "            call = replace(call, mark=mark)\n",
        "",
        "tests/integration/celery_ledger/rows/test_enqueueing.py"
        "::test_f70_a_collected_call_is_gone_with_the_part_of_the_transaction_it_was_made_in",
    ),
    Mutant(
        "travelling savepoint",
        "celery_ledger/rows/inserts.py",
        '            cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")\n',
        "",
        "tests/integration/celery_ledger/test_receivers.py"
        "::test_f74_calls_that_the_database_refuses_are_the_matter_of_their_receiver_alone",
    ),
    Mutant(
        "lease",
        "celery_ledger/rows/ledger.py",
        '    return _lapse(expired.order_by("lease_until"))\n',
        "    return 0\n",
        "tests/faults/test_lost_processes.py::test_f10_another_worker_has_done_a_killed_one_s_task_within_ten_seconds",
    ),
    Mutant(
        "missed messages",
        "celery_ledger/rows/ledger.py",
        '    return _lapse(lost.order_by("published_at"))\n',
        "    return 0\n",
        "tests/faults/test_lost_brokers.py::test_f11_a_message_that_vanished_with_a_frozen_worker_is_published_again",
    ),
    Mutant(
        "fence",
        "celery_ledger/rows/ledger.py",
        "(_same_call(task.options), id=task.id, status__in=unended, attempts=task.attempts)\n",
        "(_same_call(task.options), id=task.id, status__in=unended)\n",
        "tests/integration/celery_ledger/work/test_consuming.py::TestEffectsOutside::test_a_worker_that_lost_its_claim_can_record_nothing",
    ),
    Mutant(
        "confirm",
        "celery_ledger/relay/broker.py",
        "            self._connection = self.app.connection_for_write(transport_options=options)\n",
        '            self._connection = self.app.connection_for_write(transport_options={"confirm_publish": False})\n',
        "tests/faults/test_lost_rabbitmq.py::test_f26_a_rabbitmq_killed_while_it_is_given_messages_loses_none",
    ),
    Mutant(
        "counted crashes",
        "celery_ledger/work/request.py",
        "outcomes = consumer.count_lost(self.task, self.ids, reason, held_for=monotonic() - self.received)\n",
        "outcomes = consumer.Outcomes(0)\n",
        "tests/faults/test_lost_processes.py::test_a_killed_child_counts_as_an_attempt_and_its_effect_happens_once",
    ),
    Mutant(
        "overrun",
        "celery_ledger/work/request.py",
        "            os.kill(self.worker_pid, signal.SIGKILL)\n",
        "            pass\n",
        "tests/faults/test_lost_processes.py::test_a_body_that_runs_for_too_long_is_ended_and_its_attempt_counts",
    ),
    Mutant(
        "lost patience",
        "celery_ledger/work/consumer.py",
        "        ledger.wait_for_locks(LOST_PATIENCE)\n        if len(row_ids) > 1 and",
        "        if len(row_ids) > 1 and",
        "tests/integration/celery_ledger/work/test_failing.py::TestLostWorkers::"
        "test_rows_that_their_dead_process_still_holds_are_waited_for_a_moment_and_no_longer",
    ),
    Mutant(
        "unknown tasks",
        "celery_ledger/work/bootsteps.py",
        '        worker.consumer_cls = wrapped(worker.consumer_cls, "celery_ledger.work.reception:Consumer")\n',
        "",
        "tests/faults/test_guards.py::test_f57_a_task_of_the_next_release_waits_for_a_worker_that_knows_it",
    ),
    Mutant(
        "blinking broker",
        "celery_ledger/install.py",
        '"worker_cancel_long_running_tasks_on_connection_loss": False',
        '"worker_cancel_long_running_tasks_on_connection_loss": True',
        "tests/faults/test_broker_blips.py::test_f75_a_broker_that_blinks_under_running_tasks_costs_nothing",
    ),
    Mutant(
        "errand",
        "celery_ledger/task.py",
        "        return partial(carrying.run, self)\n",
        "        from celery.app.trace import build_tracer\n\n"
        "        return build_tracer(self.name, self, app=self.app)\n",
        "tests/integration/celery_ledger/work/test_carrying.py::test_what_a_message_says_of_itself_runs_no_body",
    ),
    Mutant(
        "patient record",
        "celery_ledger/work/outside.py",
        "finished = persist(lambda: _finish(task, row, value, then))\n",
        "finished = _finish(task, row, value, then)\n",
        "tests/integration/celery_ledger/work/test_consuming.py::TestEffectsOutside::"
        "test_a_success_is_recorded_over_a_connection_that_broke_while_the_body_ran",
    ),
    Mutant(
        "eviction",
        "celery_ledger/relay/broker.py",
        '    if policy != "noeviction":\n',
        "    if policy is None:\n",
        "tests/faults/test_guards.py::test_f23_a_redis_that_evicts_is_refused_at_start",
    ),
    Mutant(
        "idempotency key",
        "store/serializers.py",
        "            answer = idempotency.recall(named) if named else None\n",
        "            answer = None\n",
        "tests/faults/test_lost_web.py::test_f01_f02_a_web_process_that_dies_around_the_commit_makes_one_order",
    ),
    Mutant(
        "whole look",
        "celery_ledger/relay/low_water.py",
        "            self._next_whole = ended + max(INTERVAL, SHARE * (ended - began))\n",
        "            self._next_whole = ended + 1e9\n",
        "tests/integration/celery_ledger/relay/test_low_water.py::test_a_lease_that_is_earlier_than_new_ones_is_found_by_the_next_whole_look",
    ),
    Mutant(
        "leases to come",
        "celery_ledger/relay/low_water.py",
        "        self.published = min(found.published or new, new)\n",
        "        self.published = found.published or new + 2 * LATE\n",
        "tests/integration/celery_ledger/relay/test_low_water.py::test_without_rows_the_searches_start_shortly_before_what_new_rows_will_have",
    ),
    Mutant(
        "silent loop",
        "celery_ledger/watch/life.py",
        "    if min(_signs.values()) < now - SILENT_AFTER:\n",
        "    if False:\n",
        "tests/integration/celery_ledger/watch/test_life.py::test_all_loops_have_to_turn",
    ),
    Mutant(
        "next counter",
        "celery_ledger/rows/tally.py",
        "    return (os.getpid() + int(time.time() / SLOT_LASTS)) % SLOTS\n",
        "    return os.getpid() % SLOTS\n",
        "tests/integration/celery_ledger/rows/test_counting.py::test_processes_move_on_to_the_next_slot_and_never_share_one",
    ),
    Mutant(
        "beat in one",
        "celery_ledger/contrib/beat/schedule.py",
        "            with transaction.atomic(using=runs.database()):\n                self._run(row.pk, now)\n",
        "            PeriodicTask.objects.update(last_run_at=now)\n            self._run(row.pk, now)\n",
        "tests/integration/celery_ledger/contrib/test_schedules.py::test_f85_whatever_statement_the_database_goes_at_each_due_time_runs_once",
    ),
    Mutant(
        "poisoned schedule",
        "celery_ledger/contrib/beat/due_times.py",
        "        if problem := problem_with(row):\n            broken",
        "        if problem := None:\n            broken",
        "tests/integration/celery_ledger/contrib/test_schedules.py::"
        "test_f86_a_schedule_that_never_can_run_is_one_named_problem_and_all_else_goes_on",
    ),
    Mutant(
        "supervision",
        "celery_ledger/supervision.py",
        "            if isinstance(error, DatabaseError) and database_is_away():\n",
        "            if True:\n",
        "tests/integration/celery_ledger/test_supervision.py::test_a_step_of_the_relay_that_always_fails_is_named_and_tasks_go_out",
    ),
    Mutant(
        "refused queue",
        "celery_ledger/relay/relay.py",
        "            except RefusedError as error:\n                self._queue_refused(message.queue, error)\n",
        "            except ZeroDivisionError as error:\n                self._queue_refused(message.queue, error)\n",
        "tests/integration/celery_ledger/test_supervision.py::test_f87_a_queue_that_the_broker_refuses_rests_and_the_others_go_on",
    ),
    Mutant(
        "waiting messages",
        "celery_ledger/relay/relay.py",
        "            if self._waiting[queue]:\n                leases.renew_waiting(",
        "            if False:\n                leases.renew_waiting(",
        "tests/integration/celery_ledger/relay/test_relaying.py::TestMessagesThatWaitForLongerThanTheirLease::test_f88_they_are_renewed_as_long_as_they_wait",
    ),
    Mutant(
        "lost from a queue that is never empty",
        "celery_ledger/relay/relay.py",
        "lapsed += self._lapse_overtaken(queue)",
        "lapsed += 0",
        "tests/integration/celery_ledger/relay/test_relaying.py::TestAMessageLostFromAQueueThatIsNeverEmpty::"
        "test_it_goes_out_again_when_a_later_one_has_run",
    ),
    Mutant(
        "claims after an outage",
        "celery_ledger/relay/relay.py",
        "        can_tell = time.monotonic() >= self._claims_hold_until\n",
        "        can_tell = True\n",
        "tests/integration/celery_ledger/relay/test_relaying.py::"
        "test_after_an_outage_of_the_database_workers_have_time_to_record_what_they_did",
    ),
    Mutant(
        "old news",
        "celery_ledger/relay/wakeup.py",
        "            return self._forget_news() or (",
        "            return (",
        "tests/integration/celery_ledger/relay/test_news.py::"
        "test_what_was_told_while_a_relay_was_awake_is_not_published_again",
    ),
    Mutant(
        "pooler",
        "celery_ledger/relay/wakeup.py",
        "            self._is_pooled = is_pooled()\n",
        "            self._is_pooled = False\n",
        "tests/integration/celery_ledger/relay/test_relaying.py::test_f89_a_doorbell_behind_a_pooler_neither_locks_nor_listens_and_hears_of_work",
    ),
    Mutant(
        "canaries anew",
        "celery_ledger/watch/canaries.py",
        "    Canary.objects.exclude(CAME_BACK).update(sent_at=Now(), repeated_at=Now() - REPEAT_AFTER)\n",
        "    pass\n",
        "tests/integration/celery_ledger/watch/test_watchdog.py::test_a_queue_that_is_no_more_is_not_missed",
    ),
    Mutant(
        "clock set back",
        "celery_ledger/relay/set_back.py",
        "        if step > LEAST:\n",
        "        if step > 1e9:\n",
        "tests/integration/celery_ledger/relay/test_set_back.py::test_f92_what_was_due_before_the_clock_was_set_back_goes_out_at_once",
    ),
    Mutant(
        "silence watch",
        "web/patience.py",
        "        elif time.monotonic() - self._since > limit:\n",
        "        elif self._since < 0:\n",
        "tests/faults/test_lost_databases.py::test_f62_a_web_process_that_is_cut_off_answers_soon_and_heals",
    ),
    Mutant(
        "waiting record",
        "email_app/delivery.py",
        "persist(lambda: _change(",
        "(lambda call: call())(lambda: _change(",
        "tests/faults/test_lost_mails.py::"
        "test_f28_f54_a_mail_that_is_out_while_the_database_is_away_is_recorded_and_not_sent_again",
    ),
    Mutant(
        "sms lock",
        "phones/budget.py",
        '            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [GRANT_LOCK])\n',
        "            pass\n",
        "tests/integration/phones/test_sms_budgets.py::test_twelve_accounts_at_once_have_one_code_sent_to_one_number",
    ),
    Mutant(
        "unverified",
        "email_app/delivery.py",
        "claim = None if to_anybody else AddressClaim.objects.filter(email=recipient, user__email=recipient).first()",
        "claim = None",
        "tests/integration/email_app/test_mail_addresses.py::test_a_stranger_whose_address_was_given_reads_no_word_of_the_one_who_gave_it",
    ),
    Mutant(
        "spent token",
        "accounts/tokens.py",
        '            _write(name, datetime_from_epoch(token["exp"]))\n',
        "            pass\n",
        "tests/integration/accounts/test_passwords.py::test_a_refresh_token_is_good_once",
    ),
    Mutant(
        "one client",
        "web/clients.py",
        "            return ip_network((int(address), 64), strict=False)\n",
        "            return ip_network((int(address), 128), strict=False)\n",
        "tests/integration/web/test_strangers.py::test_every_address_of_a_64_is_one_client_of_the_throttles",
    ),
    Mutant(
        "what is forgone",
        "celery_ledger/rows/sql.py",
        "        FROM ended WHERE status = 'cancelled' AND subject IS NOT NULL\n",
        "        FROM ended WHERE false\n",
        "tests/integration/celery_ledger/desk/test_pruning.py::TestWhatIsForgone::test_what_was_discarded_and_pruned_is_no_broken_promise",
    ),
    Mutant(
        "held for its callers",
        "celery_ledger/rows/keys.py",
        'connection.vendor == "postgresql" and connection.in_atomic_block',
        "False",
        "tests/concurrency/celery_ledger/test_unique_keys.py::test_f132_the_row_that_stands_sees_what_each_of_its_callers_wrote",
    ),
    Mutant(
        "revoke in the ledger",
        "celery_ledger/install.py",
        '    app.control_cls = wrapped(app.control_cls, "celery_ledger.desk.control:Control")\n',
        "",
        "tests/integration/celery_ledger/desk/test_cancelling.py::TestRevoke::test_a_revoked_task_never_runs_and_its_result_says_so",
    ),
    Mutant(
        "late success",
        "celery_ledger/rows/ledger.py",
        "    unended = [Status.RUNNING, Status.PENDING, Status.PUBLISHED]\n",
        "    unended = list(Status)\n",
        "tests/integration/celery_ledger/desk/test_cancelling.py::TestTerminate::test_a_success_that_comes_late_is_not_recorded",
    ),
    Mutant(
        "company of the killed",
        "celery_ledger/work/consumer.py",
        "    ledger.release([row.id for row in rows if not row.counted])\n",
        "    ledger.suspect([row.id for row in rows if not row.counted])\n",
        "tests/faults/test_revoked.py::test_f129_what_runs_is_ended_if_so_asked_and_never_runs_again_whatever_restarts",
    ),
    Mutant(
        "rider's savepoint",
        "celery_ledger/work/slices.py",
        "nullcontext() if task.repeatable else _guarded(done)",
        "nullcontext()",
        "tests/integration/celery_ledger/work/test_rides.py::TestFailing::test_a_body_that_fails_takes_only_itself_away",
    ),
    Mutant(
        "rider taken back",
        "celery_ledger/work/slices.py",
        "    if undone := done.undone():\n",
        "    if undone := []:\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestFailing::test_a_body_that_fails_takes_only_itself_away",
    ),
    Mutant(
        "rider's calls",
        "celery_ledger/work/slices.py",
        "            del calls[made:]\n",
        "",
        "tests/integration/celery_ledger/work/test_rides.py::TestTogether::test_what_riders_call_and_leave_for_after_the_commit_is_theirs",
    ),
    Mutant(
        "end of a slice",
        "celery_ledger/work/slices.py",
        "        if number and monotonic() >= ends_at:\n",
        "        if False:\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestTime"
        "::test_a_slice_is_cut_by_its_time_and_what_was_not_begun_goes_to_whoever_is_free",
    ),
    Mutant(
        "riders' patience",
        "celery_ledger/work/slices.py",
        "LOCK_PATIENCE: Final = 0.025\n",
        "LOCK_PATIENCE: Final = 900\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestConflicts::test_one_that_waits_for_a_lock_ends_the_slice_and_runs_alone",
    ),
    Mutant(
        "behind a long body",
        "celery_ledger/work/keeper.py",
        "                        held.handed_on += ledger.hand_on(behind)\n",
        "                        pass\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestOutside::test_a_body_that_takes_long_gives_back_what_is_behind_it",
    ),
    Mutant(
        "few at a time",
        "celery_ledger/work/slices.py",
        "    step = company.few(task.name) if task.batch_size == 1 else size\n",
        "    step = size\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestTime::test_what_is_behind_a_body_that_takes_long_goes_to_whoever_is_free",
    ),
    Mutant(
        "one at a time after a long body",
        "celery_ledger/rows/paces.py",
        "        return 1 if self._clock() < self._wary_until.get(name, 0.0) else self.FEW\n",
        "        return self.FEW\n",
        "tests/integration/celery_ledger/work/test_rides.py::TestTime::test_what_is_behind_a_body_that_takes_long_goes_to_whoever_is_free",
    ),
    Mutant(
        "statistics of new tables",
        "celery_ledger/relay/statistics.py",
        '            cursor.execute(f"ANALYZE (SKIP_LOCKED) {connection.ops.quote_name(table)}")\n',
        "            pass\n",
        "tests/integration/celery_ledger/relay/test_statistics.py::test_a_table_is_analyzed_as_often_as_it_has_grown_fivefold",
    ),
    Mutant(
        "the next step with the commit",
        "celery_ledger/rows/outbox.py",
        "        with with_the_commit():\n",
        "        with atomic():\n",
        "tests/integration/celery_ledger/test_trips.py::test_the_next_step_of_a_chain_is_sent_along_with_the_commit",
    ),
    Mutant(
        "commit of the caller's",
        "celery_ledger/trips.py",
        '        if database.vendor == "postgresql" and is_outermost and not database.needs_rollback:\n',
        '        if database.vendor == "postgresql":\n',
        "tests/integration/celery_ledger/test_trips.py::test_the_commit_that_is_sent_along_is_the_one_of_its_block",
    ),
    Mutant(
        "isolation level",
        "celery_ledger/trips.py",
        "    return is_plain and not driver.autocommit",
        "    return not driver.autocommit",
        "tests/integration/celery_ledger/test_trips.py::test_the_begin_that_is_sent_along_keeps_the_isolation_level",
    ),
    Mutant(
        "prepared behind a pooler",
        "celery_ledger/trips.py",
        "not is_told_otherwise and not is_pooled()",
        "not is_told_otherwise",
        "tests/integration/celery_ledger/test_trips.py::test_behind_a_pooler_nothing_is_prepared",
    ),
    Mutant(
        "kept within a transaction",
        "celery_ledger/databases.py",
        "        if not each.in_atomic_block:",
        "        if True:",
        "tests/integration/celery_ledger/test_trips.py::test_relays_and_workers_keep_their_connection_where_django_would_close_it_after_a_request",
    ),
    Mutant(
        "bell of django-celery-results",
        "celery_ledger/backend.py",
        "        backend.wait_for = MethodType(LedgerBackend.wait_for, backend)\n",
        "        pass\n",
        "tests/integration/celery_ledger/test_own_results.py::test_who_waits_for_a_row_of_django_celery_results_is_told_by_the_commit_too",
    ),
    Mutant(
        "handed on and due long ago",
        "celery_ledger/relay/relay.py",
        "                self.rates.reach.hurry()\n",
        "                pass\n",
        "tests/integration/celery_ledger/relay/test_news.py::test_f216_rows_that_a_worker_hands_on_go_out_at_once_although_they_were_due_long_ago",
    ),
    Mutant(
        "turns",
        "celery_ledger/desk/turns.py",
        "        if time.monotonic() > end:\n",
        "        if False:\n",
        "tests/integration/celery_ledger/desk/test_pruning.py::TestMany::test_a_run_ends_before_its_time_limit_and_is_carried_on",
    ),
    Mutant(
        "parts that are new",
        "celery_ledger/rows/sql.py",
        "            SELECT chord, count(*) AS parts FROM part GROUP BY chord\n",
        "            SELECT chord, count(*) AS parts FROM unnest(%(chords)s::uuid[]) AS chord GROUP BY chord\n",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::test_a_member_counts_once_and_the_body_is_there_once",
    ),
    Mutant(
        "members that are counted",
        "celery_ledger/canvas.py",
        "    if not canvases.is_following() and not _is_chord.get():\n",
        "    if not canvases.is_following():\n",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::"
        "test_a_member_that_is_not_durable_is_sent_when_the_chord_is_there_to_count_it",
    ),
    Mutant(
        "groups without producers",
        "celery_ledger/canvas.py",
        '                options["producer"] = NO_PRODUCER\n',
        "                pass\n",
        "tests/integration/celery_ledger/test_canvas.py::TestProducers::test_what_is_nested_five_deep_takes_none",
    ),
    Mutant(
        "parts once",
        "celery_ledger/rows/sql.py",
        "            ON CONFLICT (chord, task) DO NOTHING\n            RETURNING chord\n        ), fresh AS (",
        "            RETURNING chord\n        ), fresh AS (",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::test_a_member_counts_once_and_the_body_is_there_once",
    ),
    Mutant(
        "nothing follows",
        "celery_ledger/rows/following.py",
        "    revoked = stamps.revoked_canvases(calling) if calling else ()\n",
        "    revoked = ()\n",
        "tests/integration/celery_ledger/test_canvas.py::TestTheEnd::"
        "test_nothing_follows_in_a_canvas_that_is_cancelled_while_one_of_it_runs",
    ),
    Mutant(
        "chords in one order",
        "celery_ledger/rows/following.py",
        "    for chord, group_id in chords.fail(errors):\n",
        "    for chord, group_id in [one for group_id in errors for one in chords.fail([group_id])]:\n",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::test_who_fails_waits_for_no_chord_while_holding_another",
    ),
    Mutant(
        "counter within",
        "celery_ledger/rows/chords.py",
        "    with planned() as cursor, planned() as looking:\n",
        "    from django.db import connections\n\n    other = connections.create_connection(connection.alias)\n"
        "    with other.cursor() as cursor, planned() as looking:\n",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::test_a_member_whose_transaction_is_rolled_back_does_not_count",
    ),
    Mutant(
        "who completes calls",
        "celery_ledger/rows/sql.py",
        "CASE WHEN missing > 1 THEN missing - 1 ELSE ('the last part, missing: ' || missing)::int END",
        "missing - 1",
        "tests/concurrency/celery_ledger/test_chords.py::test_who_turns_out_to_be_the_last_calls_the_body",
    ),
    Mutant(
        "parts that never come",
        "celery_ledger/rows/outbox.py",
        "        _leave_out(missed)\n",
        "",
        "tests/integration/celery_ledger/test_canvas.py::TestCollected::test_a_call_for_which_another_row_stands_is_not_waited_for",
    ),
    Mutant(
        "a failed receiver is waited for",
        "celery_ledger/signals.py",
        "    with self.widening_its_chord():\n        receiver(",
        "    if True:\n        receiver(",
        "tests/integration/store/test_settling.py::TestSettlement::"
        "test_a_receiver_that_failed_is_waited_for_and_so_is_what_it_calls_when_it_is_sent_the_signal_again",
    ),
    Mutant(
        "results in order",
        "celery_ledger/rows/large.py",
        '.order_by("place", "id")',
        '.order_by("id")',
        "tests/integration/celery_ledger/test_canvas.py::TestChords::test_the_body_is_given_the_results_in_order",
    ),
    Mutant(
        "errbacks once",
        "celery_ledger/rows/following.py",
        'if canvas.get("link_error") and not canvas.get("told"):',
        'if canvas.get("link_error"):',
        "tests/integration/celery_ledger/test_canvas.py::TestFailure::test_a_replay_resumes_the_chain_and_calls_no_errback_again",
    ),
    Mutant(
        "body's errbacks once",
        "celery_ledger/rows/chords.py",
        "    new = Chord.objects.filter(id__in=given, failed_at=None)",
        "    new = Chord.objects.filter(id__in=given)",
        "tests/integration/celery_ledger/test_canvas.py::TestChords::"
        "test_a_failure_for_good_calls_the_errbacks_of_member_and_body_once_and_a_replay_resumes",
    ),
    Mutant(
        "shipped with its mail",
        "store/shipping.py",
        "                happened.send_robust(sender=Order, order=order)\n"
        "        if transaction.get_rollback():\n"
        "            raise transaction.TransactionManagementError("
        'f"A receiver broke the transaction of {happened.name}.")\n'
        '        crash_point("shipping.before_commit")\n'
        '    crash_point("shipping.after_commit")\n',
        "                pass\n"
        '        crash_point("shipping.before_commit")\n'
        '    crash_point("shipping.after_commit")\n'
        "    for order in orders:\n"
        "        happened.send_robust(sender=Order, order=order)\n",
        "tests/faults/test_steps_of_an_order.py::"
        "test_f173_who_ships_is_killed_and_the_customer_is_told_once_of_each_step",
    ),
    Mutant(
        "address with its order",
        "store/checkout.py",
        "    with transaction.atomic():\n        yield\n",
        "    if True:\n        yield\n",
        "tests/faults/test_steps_of_an_order.py::test_f172_an_order_and_where_it_goes_are_there_together_or_not_at_all",
    ),
    Mutant(
        "answer under its key",
        "store/once.py",
        "                    if status.is_success(response.status_code):\n",
        "                    if False:\n",
        "tests/faults/test_steps_of_an_order.py::test_f174_what_a_killed_web_process_made_under_a_key_is_made_once",
    ),
    Mutant(
        "refusal counted",
        "store/once.py",
        "                        return refusal\n",
        "                        raise refusal\n",
        "tests/integration/store/test_once.py::test_a_refusal_under_a_key_is_counted_as_without_one",
    ),
    Mutant(
        "asked once",
        "payments/paying.py",
        "payment.status == Status.PENDING and payment.asked_at is None:",
        "payment.status == Status.PENDING:",
        "tests/faults/test_steps_of_an_order.py::"
        "test_f175_a_web_process_that_is_killed_as_somebody_pays_has_the_provider_asked_once",
    ),
    Mutant(
        "withdrawn try",
        "payments/settling.py",
        "    if reference != payment.reference:\n",
        "    if False:\n",
        "tests/integration/payments/test_payments.py::"
        "test_who_is_declined_tries_again_and_pays_once_whatever_becomes_of_the_first_try",
    ),
    Mutant(
        "one reference a refund",
        "payments/refunds.py",
        '    provider().refund(payment.charge)\n    crash_point("payments.after_refund")\n',
        "    from payments.models import Charge, new_reference\n\n"
        "    provider().refund(Charge(new_reference(), payment.amount, payment.currency))\n"
        '    crash_point("payments.after_refund")\n',
        "tests/faults/test_payments.py::test_f210_money_that_a_killed_worker_was_giving_back_goes_back_once",
    ),
    Mutant(
        "money that went back",
        "payments/refunds.py",
        "filter(pk=payment_id, status=Status.REFUND_DUE).first()",
        "filter(pk=payment_id).first()",
        "tests/faults/test_payments.py::test_f210_money_that_a_killed_worker_was_giving_back_goes_back_once",
    ),
    Mutant(
        "an order that expires",
        "celery_ledger/work/consumer.py",
        "            started = ledger.complete([id], suspects=suspect)\n"
        '            crash_point("consumer.before_effect")\n',
        "            started = ledger.complete([id], suspects=suspect)\n"
        "            connection._commit()\n"
        '            crash_point("consumer.before_effect")\n',
        "tests/faults/test_steps_of_an_order.py::"
        "test_f176_a_worker_that_is_killed_as_it_lets_an_order_go_gives_its_stock_back_once",
    ),
    Mutant(
        "a payment ends with its order",
        "payments/apps.py",
        '        order_expired.connect(receivers.end_payment, dispatch_uid="payments.end_payment")\n',
        "",
        "tests/integration/payments/test_payments.py::"
        "test_f211_an_unpaid_order_that_is_cancelled_ends_its_payment_at_once",
    ),
    Mutant(
        "who may act in Flower",
        "operations/flower_sign_in.py",
        "(only_looks or user.has_perms([STEER, CANCEL]))",
        "True",
        "tests/faults/test_flower.py::TestSession::test_who_acts_needs_the_desks_permissions_and_a_page_of_flowers_own",
    ),
    Mutant(
        "where an action in Flower comes from",
        "operations/flower_sign_in.py",
        " and (only_looks or _is_of_its_own_pages(handler.request))",
        "",
        "tests/faults/test_flower.py::TestSession::test_who_acts_needs_the_desks_permissions_and_a_page_of_flowers_own",
    ),
    Mutant(
        "places of a key",
        "celery_ledger/relay/rates.py",
        "        rows = self.places.hold_back(rows)\n",
        "",
        "tests/integration/celery_ledger/relay/test_places.py::"
        "test_calls_wait_for_their_own_key_and_go_by_priority_and_time",
    ),
    Mutant(
        "one relay counts places",
        "celery_ledger/rows/places.py",
        "        return bool(cursor.fetchone()[0])",
        "        return True",
        "tests/integration/celery_ledger/relay/test_places.py::test_no_place_is_given_while_another_relay_counts_them",
    ),
    Mutant(
        "places when told",
        "celery_ledger/relay/rates.py",
        "name in self._rates or name in self.places.sizes for name in names",
        "name in self._rates for name in names",
        "tests/integration/celery_ledger/relay/test_places.py::"
        "test_a_relay_that_is_notified_of_a_call_with_a_key_publishes_nothing_before_it_has_claimed_it",
    ),
    Mutant(
        "rates on record",
        "audit_trail/apps.py",
        '        rate_changed.connect(receivers.record_rate_change, dispatch_uid="audit_trail.record_rate_change")\n',
        "",
        "tests/integration/operations/test_limits.py::TestSettingARate::"
        "test_it_is_kept_listed_on_record_and_taken_off_again",
    ),
    Mutant(
        "run now once",
        "celery_ledger/desk/hastening.py",
        "filter(LATER, id__in=ids)",
        "filter(id__in=ids)",
        "tests/integration/operations/test_searching.py::TestDeciding::test_what_is_due_already_is_not_run_now_again",
    ),
    Mutant(
        "alerts gathered",
        "notifications/trouble.py",
        "    known = _names(told)",
        "    known = set()",
        "tests/integration/notifications/test_trouble.py::test_what_is_wrong_is_gathered_and_told_once_an_hour",
    ),
    Mutant(
        "alerts escalate",
        "notifications/trouble.py",
        "    if left:\n",
        "    if False:\n",
        "tests/integration/notifications/test_trouble.py::TestEscalation::"
        "test_what_stays_and_nobody_has_read_is_told_to_the_superusers_once",
    ),
    Mutant(
        "relays look for workers",
        "celery_ledger/apps.py",
        '        rounds.register("looking for workers", every=lookout.INTERVAL, make=lookout.for_workers)\n',
        "",
        "tests/faults/test_missing_processes.py::test_f212_who_is_left_mails_the_managers_once",
    ),
    Mutant(
        "one speaks for all",
        "celery_ledger/watch/lookout.py",
        " or not self._is_first()",
        "",
        "tests/integration/celery_ledger/watch/test_lookout.py::test_one_of_several_speaks",
    ),
    Mutant(
        "alerts that keep quiet hours",
        "notifications/urgent.py",
        " if user not in quiet]",
        "]",
        "tests/integration/notifications/test_trouble.py::TestUrgent::test_all_are_told_at_once_but_who_has_quiet_hours",
    ),
    Mutant(
        "one reference a try",
        "payments/tasks.py",
        "    result = provider().charge(payment.charge)\n",
        "    from payments.models import Charge, new_reference\n\n"
        "    result = provider().charge(Charge(new_reference(), payment.amount, payment.currency))\n",
        "tests/faults/test_payments.py::"
        "test_f134_an_order_is_paid_once_by_a_provider_that_misbehaves_to_workers_that_are_killed",
    ),
    Mutant(
        "forgotten whole",
        "accounts/personal.py",
        '    with transaction.atomic():\n        user = User.objects.select_for_update(of=("self",), no_key=True).get(',
        "    if True:\n        user = User.objects.get(",
        "tests/faults/test_steps_of_an_account.py::"
        "test_f205_who_deletes_an_account_while_the_web_process_is_killed_is_forgotten_whole_or_not_at_all",
    ),
    Mutant(
        "awaited",
        "celery_ledger/rows/sql.py",
        "ELSE NOT pg_try_advisory_xact_lock({WAITING_LOCKS}, hashtext(id::text)) END",
        "ELSE false END",
        "tests/integration/celery_ledger/test_own_results.py::test_f131_who_waits_is_told_by_the_commit_and_looks_again_where_its_connection_was_cut",
    ),
    Mutant(
        "settlement of others",
        "store/placing.py",
        "        order_announced.send_robust(",
        "            order_announced.send_robust(",
        "tests/integration/webhooks/test_webhooks.py::TestEvents::"
        "test_an_order_is_settled_while_somebody_else_s_system_is_away",
    ),
    Mutant(
        "resolved once",
        "webhooks/destinations.py",
        "bare = socket.create_connection((addresses[0], port)",
        "bare = socket.create_connection((host, port)",
        "tests/faults/test_hostile_names.py::test_f208_no_name_server_has_a_webhook_sent_to_a_place_that_is_not_public",
    ),
    Mutant(
        "woken",
        "webhooks/places.py",
        "        return False, next_of(endpoint)\n",
        "        return False, []\n",
        "tests/faults/test_webhooks.py::"
        "test_f127_a_webhook_outlives_a_receiver_that_fails_and_a_worker_that_is_killed_in_the_middle",
    ),
    Mutant(
        "own place",
        "webhooks/places.py",
        "if _free_places(endpoint, but=delivery_id) < 1 or",
        "if _free_places(endpoint) < 1 or",
        "tests/faults/test_webhooks.py::"
        "test_f133_a_worker_killed_between_any_two_steps_of_a_delivery_leaves_it_to_another",
    ),
    Mutant(
        "address in one",
        "accounts/mail_addresses.py",
        "            with transaction.atomic():\n                user, verified = addresses.confirm(",
        "            if True:\n                user, verified = addresses.confirm(",
        "tests/faults/test_steps_of_an_account.py::"
        "test_f207_a_link_that_was_followed_into_a_killed_web_process_has_verified_the_address_or_is_good_still",
    ),
    Mutant(
        "password in one",
        "accounts/passwords.py",
        "    with transaction.atomic():\n        user = reset.user_of(token)\n",
        "    if True:\n        user = reset.user_of(token)\n",
        "tests/faults/test_steps_of_an_account.py::"
        "test_f207_a_password_that_is_reset_in_a_killed_web_process_is_set_and_told_of_or_the_link_is_good_still",
    ),
]


def survives(mutant: Mutant) -> bool:
    """Whether the test passes although its guard is gone."""
    with tempfile.TemporaryDirectory(prefix="shopwire-mutant-") as folder:
        tree = Path(folder)
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in files.splitlines():
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, tree / name)
        text = (tree / mutant.file).read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(f"The mutant {mutant.name!r} fits {mutant.file} no longer: mend tests/mutants.py.")
        (tree / mutant.file).write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "150"]
        run = subprocess.run(
            [*command, "--reuse-db", "-m", "fault or not fault", mutant.test],
            cwd=tree,
            env={**os.environ, "DEBUG": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode not in {0, 1}:
        raise SystemExit(f"The test of the mutant {mutant.name!r} could not run:\n{run.stdout[-2000:]}{run.stderr}")
    if " skipped" in run.stdout.splitlines()[-1] and " failed" not in run.stdout.splitlines()[-1]:
        raise SystemExit(f"The test of the mutant {mutant.name!r} was skipped:\n{run.stdout[-500:]}")
    return run.returncode == 0


def main(names: list[str]) -> int:
    survivors = []
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        began = time.monotonic()
        survived = survives(mutant)
        verdict = "SURVIVED" if survived else "caught"
        print(f"{verdict:8} {mutant.name:16} {time.monotonic() - began:4.0f} s  {mutant.test}")
        survivors += [mutant.name] * survived
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
