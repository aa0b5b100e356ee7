"""URLs for operators, below ``/api/ops/``."""

from django.urls import path, re_path

from operations import canvases, crew, limits, schedules, searching, views
from operations.ledgers import in_its_database

_paths = [
    path("queues/", views.QueuesView.as_view()),
    path("queues/<str:queue>/pause/", views.PauseView.as_view()),
    path("queues/<str:queue>/resume/", views.ResumeView.as_view()),
    path("queues/<str:queue>/limits/", views.LimitsView.as_view()),
    path("processes/", crew.ProcessesView.as_view()),
    path("processes/<str:process>/tell/", crew.TellView.as_view()),
    path("limits/", limits.LimitsView.as_view()),
    path("limits/tasks/<str:task>/", limits.RateView.as_view()),
    path("schedules/", schedules.SchedulesView.as_view()),
    re_path(r"^schedules/(?P<pk>[0-9]{1,9})/tell/$", schedules.TellScheduleView.as_view()),
    path("figures/", views.FiguresView.as_view()),
    path("series/", views.SeriesView.as_view()),
    path("problems/", views.ProblemsView.as_view()),
    path("failing/", views.FailingView.as_view()),
    path("dead/", views.DeadView.as_view()),
    path("dead/groups/", views.GroupsView.as_view()),
    path("dead/replay/", views.ReplayManyView.as_view()),
    path("dead/discard/", views.DiscardManyView.as_view()),
    path("tasks/", searching.TasksView.as_view()),
    path("tasks/decide/", searching.DecideView.as_view()),
    path("tasks/<uuid:task_id>/", searching.TaskView.as_view()),
    path("tasks/<uuid:task_id>/cancel/", views.CancelView.as_view()),
    path("tasks/<uuid:task_id>/run-now/", views.RunNowView.as_view()),
    path("canvases/<uuid:canvas_id>/", canvases.CanvasView.as_view()),
    path("canvases/<uuid:canvas_id>/cancel/", canvases.CancelCanvasView.as_view()),
    path("decisions/", views.DecisionsView.as_view()),
    re_path(r"^decisions/(?P<pk>[0-9]{1,18})/$", views.DecisionView.as_view()),
    path("dead/<uuid:task_id>/replay/", views.ReplayView.as_view()),
    path("dead/<uuid:task_id>/discard/", views.DiscardView.as_view()),
]

urlpatterns = [in_its_database(pattern) for pattern in _paths]
