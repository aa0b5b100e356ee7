"""How long a failed task waits."""

import pytest

from celery_ledger import backoff


class TestExponential:
    def test_it_doubles_with_each_attempt(self):
        waits = [backoff.exponential(attempts, base=2, ceiling=1_000) for attempts in (1, 2, 3, 4)]
        assert waits == [2, 4, 8, 16]

    @pytest.mark.parametrize("attempts", [12, 1_000, 32_767])
    def test_it_stops_at_the_ceiling(self, attempts):
        assert backoff.exponential(attempts, base=1, ceiling=600) == 600

    def test_there_is_no_wait_before_the_first_attempt(self):
        with pytest.raises(ValueError, match="at least 1"):
            backoff.exponential(0, base=1, ceiling=600)


class TestJittered:
    def test_it_is_spread_over_the_second_half(self):
        waits = [backoff.jittered(10) for _ in range(1_000)]
        assert 5 <= min(waits) < 6
        assert 9 < max(waits) <= 10
