"""All URLs of the web process."""

from typing import Any

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView

from accounts import account_views, mail_addresses, password_views, views
from notifications import unsubscribe
from notifications import views as notifications
from operations.metrics import metrics
from payments import views as payments
from reports import views as reports
from web import health, pages

api: list[Any] = [
    path("", pages.ApiIndexView.as_view()),
    path("users/", views.RegistrationView.as_view()),
    path("token/", views.TokenView.as_view()),
    path("token/refresh/", views.RefreshView.as_view()),
    path("session/", views.SessionView.as_view()),
    path("auth/email/", mail_addresses.AddressView.as_view()),
    path("auth/email/verify/", mail_addresses.VerifyView.as_view()),
    path("auth/email/resend/", mail_addresses.ResendView.as_view()),
    path("auth/email/change/", mail_addresses.ChangeView.as_view()),
    path("auth/password/change/", password_views.ChangeView.as_view()),
    path("auth/password/reset/", password_views.ForgottenView.as_view()),
    path("auth/password/reset/confirm/", password_views.ResetView.as_view()),
    path("auth/logout/", password_views.LogoutView.as_view()),
    path("auth/sign-ins/", account_views.SignInsView.as_view()),
    path("auth/sign-ins/<int:id>/", account_views.SignInView.as_view()),
    path("auth/sign-out-everywhere/", account_views.EverywhereView.as_view()),
    path("schema/", extend_schema(exclude=True)(SpectacularAPIView).as_view(), name="schema"),
    path("docs/", pages.DocsView.as_view(url_name="schema")),
    path("analytics/reports/", reports.ReportsView.as_view()),
    path("analytics/reports/<uuid:task_id>/", reports.ReportView.as_view()),
    path("analytics/", include("analytics_app.urls")),
    path("ops/", include("operations.urls")),
    path("customers/me/export/", account_views.ExportView.as_view()),
    path("customers/me/deletion/", account_views.DeletionView.as_view()),
    path("customers/me/phone/", include("phones.urls")),
    path("notifications/", include("notifications.urls")),
    path("push/public-key/", notifications.PublicKeyView.as_view()),
    path("save-sub/", notifications.SubscriptionView.as_view()),
    path("messages/", include("messaging.urls")),
    path("webhooks/", include("webhooks.urls")),
    path("payments/callback/", payments.CallbackView.as_view()),
    path("orders/<int:order_id>/payment/", payments.PaymentView.as_view()),
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
        "verify-email",
        "reset-password",
        "orders",
        "orders/<int:id>",
        "notifications",
        "messages",
        "account",
        "operations",
        "operations/workers",
        "operations/schedules",
        "operations/limits",
        "operations/tasks",
        "operations/tasks/<uuid:id>",
    )
]

#: The audit trail's former address; bookmarks lead there.
old_page_of_the_trail = RedirectView.as_view(pattern_name="admin:audit_trail_auditentry_changelist", query_string=True)

urlpatterns = [
    *front_end,
    *(path(f"{page.pattern}/", pages.without_last_slash) for page in front_end if str(page.pattern)),
    path("admin/core/auditentry/", admin.site.admin_view(old_page_of_the_trail)),
    path("admin/", admin.site.urls),
    path("api/", include(api)),
    path("metrics", metrics),
    path("unsubscribe/<str:token>/", unsubscribe.answer),
    path("sw.js", notifications.service_worker),
    path("health/live/", health.live),
    path("health/ready/", health.ready),
]

#: Handlers for errors outside of views.
handler500 = "web.problems.answer_crash"
