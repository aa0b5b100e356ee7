"""The addresses of notifications, below ``/api/notifications/``."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from notifications import views

router = SimpleRouter()
router.register("", views.NotificationViewSet, basename="notification")

urlpatterns = [
    path("sse/", views.StreamView.as_view()),
    path("test/", views.TestAlertView.as_view()),
    path("preferences/", views.PreferencesView.as_view()),
    path("", include(router.urls)),
]
