"""URLs of webhooks, below ``/api/webhooks/``."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from webhooks import views

router = SimpleRouter()
router.register("deliveries", views.DeliveryViewSet, basename="webhook-delivery")
router.register("", views.EndpointViewSet, basename="webhook")

urlpatterns = [path("", include(router.urls))]
