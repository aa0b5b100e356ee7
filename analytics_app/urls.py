"""URLs of the sales figures, below ``/api/analytics/``."""

from django.urls import path

from analytics_app.views import SalesView

app_name = "analytics"
urlpatterns = [
    path("sales/", SalesView.as_view(), name="sales"),
]
