"""This project's tasks, and alongside their receivers one that fails."""

from bench.jobs.failing import count_points
from bench.jobs.shopwire import enqueue, order_created

__all__ = ["enqueue"]

order_created.connect(count_points, dispatch_uid="bench.count_points")
