"""The Celery app of that project, whose workers are the tests' own process."""

from celery import Celery

app = Celery("django_judged", broker="memory://", task_cls="celery_ledger:Task", set_as_current=True)
app.conf.task_create_missing_queues = True
app.set_default()
