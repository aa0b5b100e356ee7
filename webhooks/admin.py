"""Endpoints, and the log of deliveries."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from web.read_only import ReadOnly
from webhooks import changes
from webhooks.destinations import ForbiddenDestinationError, check_url
from webhooks.log import NotSettledError, SwitchedOffError
from webhooks.models import Event, Version, WebhookAttempt, WebhookDelivery, WebhookEndpoint


class EndpointForm(forms.ModelForm):
    """A form with checkboxes for events, which refuses forbidden URLs."""

    events = forms.MultipleChoiceField(choices=Event.choices, widget=forms.CheckboxSelectMultiple, required=False)

    version = forms.TypedChoiceField(
        choices=Version.choices, coerce=int, required=False, empty_value="1", initial=Version.FIRST
    )

    class Meta:
        model = WebhookEndpoint
        fields = ["url", "description", "events", "ordered", "version", "active", "owner"]

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        try:
            check_url(url)
        except ForbiddenDestinationError as error:
            raise ValidationError(str(error)) from None
        return url


class ActionsOnPage(admin.ModelAdmin):
    """Adds a button for each action to the page of an object."""

    change_form_template = "webhooks/with_actions.html"

    def get_urls(self) -> list[Any]:
        act = self.admin_site.admin_view(require_POST(self.act))
        name = f"{self.opts.app_label}_{self.opts.model_name}_act"
        return [path("<int:pk>/act/", act, name=name), *super().get_urls()]

    def act(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Run a button's action on one object, and show its page again."""
        action = self._acts(request).get(request.POST.get("action", ""))
        if action is None:
            raise PermissionDenied
        action[0](self, request, self.get_queryset(request).filter(pk=pk))
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", pk)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        extra_context = {
            "acts": [(name, words) for name, (_, _, words) in self._acts(request).items()],
            "act_url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_act", args=[object_id]),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, extra_context)

    def _acts(self, request: HttpRequest) -> dict[str, Any]:
        return {name: act for name, act in self.get_actions(request).items() if name in (self.actions or ())}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ActionsOnPage):
    form = EndpointForm
    list_display = ("id", "url", "description", "active", "failing_since", "disabled_at")
    list_filter = ("active",)
    autocomplete_fields = ("owner",)
    readonly_fields = ("created_at", "failing_since", "disabled_at", "previous_until")
    actions = ("send_test", "rotate_secret")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk}

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            self._tell_secret(request, obj)

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in endpoints:
            try:
                delivery = changes.test(endpoint)
            except SwitchedOffError:
                self.message_user(request, f"Endpoint {endpoint.pk} is switched off.", messages.ERROR)
            else:
                self.message_user(request, f"A test is on its way to endpoint {endpoint.pk}: delivery {delivery.pk}.")

    @admin.action(description="Rotate the secret", permissions=["change"])
    def rotate_secret(self, request: HttpRequest, endpoints: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in endpoints:
            self._tell_secret(request, changes.rotate(endpoint.pk))

    def _tell_secret(self, request: HttpRequest, endpoint: WebhookEndpoint) -> None:
        self.message_user(
            request, f"The secret of endpoint {endpoint.pk}, shown this once: {endpoint.secret}", messages.WARNING
        )


class WebhookAttemptInline(ReadOnly, admin.TabularInline):
    model = WebhookAttempt
    fields = ("at", "status_code", "milliseconds", "answer", "error")
    readonly_fields = fields


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, ActionsOnPage):
    list_display = ("id", "endpoint_id", "event", "subject", "status", "tries", "error", "created_at", "settled_at")
    list_filter = ("status", "event", "endpoint")
    search_fields = ("=message_id", "=subject")
    search_help_text = "A webhook-id, or a subject such as store.order:42."
    show_full_result_count = False
    inlines = (WebhookAttemptInline,)
    actions = ("redeliver",)

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("webhooks.change_webhookendpoint")

    @admin.action(description="Send again", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        sent = 0
        for delivery in deliveries:
            try:
                changes.redeliver(delivery.pk)
                sent += 1
            except NotSettledError:
                self.message_user(request, f"Delivery {delivery.pk} is still pending.", messages.ERROR)
            except SwitchedOffError:
                self.message_user(request, f"The endpoint of {delivery.pk} is switched off.", messages.ERROR)
        self.message_user(request, f"{sent} sent again.")
