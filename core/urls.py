"""Every address of the web process."""

from typing import Any

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView

from core import health, pages, views
from notifications import unsubscribe
from notifications import views as notifications
from operations.metrics import metrics

api: list[Any] = [
    path("users/", views.RegistrationView.as_view()),
    path("token/", views.TokenView.as_view()),
    path("token/refresh/", views.RefreshView.as_view()),
    path("session/", views.SessionView.as_view()),
    path("schema/", extend_schema(exclude=True)(SpectacularAPIView).as_view(), name="schema"),
    path("docs/", views.DocsView.as_view(url_name="schema")),
    path("analytics/reports/", views.ReportsView.as_view()),
    path("analytics/reports/<uuid:task_id>/", views.ReportView.as_view()),
    path("analytics/", include("analytics_app.urls")),
    path("ops/", include("operations.urls")),
    path("customers/me/phone/", include("phones.urls")),
    path("notifications/", include("notifications.urls")),
    path("push/public-key/", notifications.PublicKeyView.as_view()),
    path("save-sub/", notifications.SubscriptionView.as_view()),
    path("messages/", include("messaging.urls")),
    path("", include("store.urls")),
]

#: Pages of the front end, as frontend/src/Pages.tsx routes them.
front_end = [
    path(address, pages.page)
    for address in (
        "",
        "products/<int:id>",
        "cart",
        "sign-in",
        "register",
        "orders",
        "orders/<int:id>",
        "notifications",
        "messages",
        "account",
        "operations",
    )
]

urlpatterns = [
    *front_end,
    path("admin/", admin.site.urls),
    path("api/", include(api)),
    path("metrics", metrics),
    path("unsubscribe/<str:token>/", unsubscribe.answer),
    path("sw.js", notifications.service_worker),
    path("health/live/", health.live),
    path("health/ready/", health.ready),
]
