"""URLs of messages, below ``/api/messages/``."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from messaging import views

router = SimpleRouter()
router.register("blocks", views.BlockViewSet, basename="block")
router.register("", views.MessageViewSet, basename="message")

urlpatterns = [path("", include(router.urls))]
