"""Who is asking: bearer tokens, read together with the customer's profile in one query."""

from typing import Any

from rest_framework_simplejwt.authentication import JWTAuthentication


class BearerAuthentication(JWTAuthentication):
    """SimpleJWT's, but that the user comes with the profile which most requests go on to ask for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user_model: Any = _WithProfile(self.user_model)


class _WithProfile:
    """A user model as ``JWTAuthentication`` uses it: ``objects`` and ``DoesNotExist``."""

    def __init__(self, model: Any) -> None:
        self.objects = model.objects.select_related("customer")
        self.DoesNotExist = model.DoesNotExist
