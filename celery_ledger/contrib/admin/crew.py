"""Running processes, and the instructions to them."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from celery_ledger.contrib.admin.pages import ReadOnly, page
from celery_ledger.desk import crew
from celery_ledger.desk.permissions import STEER


class CrewAdmin(ReadOnly, admin.ModelAdmin):
    """Workers, relays and beats: what each is doing and for how long, with buttons to drain or stop it."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._tell(request)
            return HttpResponseRedirect(request.get_full_path())
        context = {
            "title": "Workers, relays and beats",
            "processes": crew.processes(),
            "may_steer": request.user.has_perm(STEER),
        }
        return page(self, request, "crew.html", context)

    def _tell(self, request: HttpRequest) -> None:
        """
        Instruct the process that the form names.

        Raises:
            PermissionDenied: the user lacks the permission.
        """
        if not request.user.has_perm(STEER):
            raise PermissionDenied
        process, what = request.POST.get("process", ""), request.POST.get("what", "")
        try:
            crew.tell(process, what)
        except KeyError:
            self.message_user(request, "This instruction is not possible.", messages.ERROR)
        except (LookupError, crew.NotToldError) as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, f"{process} is told to {what}, and does so within seconds.", messages.SUCCESS)
