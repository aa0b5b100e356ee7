from celery import shared_task

from demoapp.models import Widget


@shared_task
def add(x, y):
    return x + y


@shared_task
def rename_widget(widget_id, name):
    w = Widget.objects.get(id=widget_id)
    w.name = name
    w.save()


@shared_task
def export_widgets(path):
    with open(path, "w") as file:
        for w in Widget.objects.order_by("id"):
            file.write(f"{w.id},{w.name}\n")
