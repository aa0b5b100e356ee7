from compositions import beside

app = beside.make("mostly_ours", task_cls="celery_ledger:Task")
