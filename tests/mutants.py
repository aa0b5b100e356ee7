"""
Takes one guard after another away and sees that the test that is about it fails: ``make mutants``.

Each mutant is a copy of the tree in which some lines are replaced; production code has no switch for it. A
test that passes with its guard gone proves nothing, and neither does a mutant whose lines are no longer there:
both end in failure. Needs PostgreSQL (``DATABASE_URL``); names as arguments run some mutants alone.
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
        "worker/sql.py",
        "ORDER BY id FOR UPDATE SKIP LOCKED\n        ))\n        RETURNING id, name, args",
        "ORDER BY id\n        ))\n        RETURNING id, name, args",
        "tests/integration/test_consuming.py::TestDelivery::test_a_row_held_by_another_worker_is_passed_over",
    ),
    Mutant(
        "receipt",
        "worker/sql.py",
        "WHERE id = ANY(%(ids)s) AND status = 'published' AND lapses",
        "WHERE id = ANY(%(ids)s) AND lapses",
        "tests/faults/test_lost_brokers.py::test_f42_f43_messages_doubled_and_shuffled_have_no_further_effect",
    ),
    Mutant(
        "savepoint",
        "worker/signals.py",
        "            self._savepoint = transaction.savepoint()\n",
        "            pass\n",
        "tests/integration/test_checkout.py::test_a_failing_receiver_loses_neither_the_order_nor_its_own_reaction",
    ),
    Mutant(
        "lease",
        "worker/ledger.py",
        '    return _lapse(expired.order_by("lease_until"))\n',
        "    return 0\n",
        "tests/faults/test_lost_processes.py::test_f10_another_worker_has_done_a_killed_one_s_task_within_ten_seconds",
    ),
    Mutant(
        "missed messages",
        "worker/ledger.py",
        '    return _lapse(lost.order_by("published_at"))\n',
        "    return 0\n",
        "tests/faults/test_lost_brokers.py::test_f11_a_message_that_vanished_with_a_frozen_worker_is_published_again",
    ),
    Mutant(
        "fence",
        "worker/ledger.py",
        "    return DurableTask.objects.filter(id=task.id, status=Status.RUNNING, attempts=task.attempts)\n",
        "    return DurableTask.objects.filter(id=task.id, status=Status.RUNNING)\n",
        "tests/integration/test_consuming.py::TestEffectsOutside::test_a_worker_that_lost_its_claim_can_record_nothing",
    ),
    Mutant(
        "confirm",
        "worker/broker.py",
        "            self._connection = self.app.connection_for_write()\n",
        '            self._connection = self.app.connection_for_write(transport_options={"confirm_publish": False})\n',
        "tests/faults/test_lost_rabbitmq.py::test_f26_a_rabbitmq_killed_while_it_is_given_messages_loses_none",
    ),
    Mutant(
        "counted crashes",
        "worker/request.py",
        "            consumer.count_lost(self.task, ids, reason)\n",
        "            pass\n",
        "tests/faults/test_lost_processes.py::test_a_killed_child_counts_as_an_attempt_and_its_effect_happens_once",
    ),
    Mutant(
        "overrun",
        "worker/request.py",
        "                os.kill(self.worker_pid, signal.SIGKILL)\n",
        "                pass\n",
        "tests/faults/test_lost_processes.py::test_a_body_that_runs_for_too_long_is_ended_and_its_attempt_counts",
    ),
    Mutant(
        "lost patience",
        "worker/consumer.py",
        "        ledger.wait_for_locks(LOST_PATIENCE)\n",
        "",
        "tests/integration/test_failing.py::TestLostWorkers::"
        "test_rows_that_their_dead_process_still_holds_are_waited_for_a_moment_and_no_longer",
    ),
    Mutant(
        "unknown tasks",
        "core/settings.py",
        'CELERY_WORKER_CONSUMER = "worker.receiving:Consumer"\n',
        "",
        "tests/faults/test_guards.py::test_f57_a_task_of_the_next_release_waits_for_a_worker_that_knows_it",
    ),
    Mutant(
        "eviction",
        "worker/broker.py",
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
        "sleeping relay",
        "worker/wakeup.py",
        "        with connection.wrap_database_errors:",
        "        if True:",
        "tests/faults/test_lost_databases.py::test_f28_a_database_that_restarts_is_healed_without_restarting_anything",
    ),
    Mutant(
        "silence watch",
        "core/patience.py",
        "        elif time.monotonic() - self._since > limit:\n",
        "        elif self._since < 0:\n",
        "tests/faults/test_lost_databases.py::test_f62_a_web_process_that_is_cut_off_answers_soon_and_heals",
    ),
    Mutant(
        "waiting record",
        "email_app/delivery.py",
        "            if time.monotonic() > deadline:\n",
        "            if True:\n",
        "tests/faults/test_lost_mails.py::"
        "test_f28_f54_a_mail_that_is_out_while_the_database_is_away_is_recorded_and_not_sent_again",
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
