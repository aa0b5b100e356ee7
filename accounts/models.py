"""The project's user model, which other apps reach through ``settings.AUTH_USER_MODEL``, and sign-ins."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone


class User(AbstractUser):
    """A person who signs in: a customer, a manager or an operator."""

    email = models.EmailField("email address", unique=True)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("username"), name="one_user_a_name", violation_error_message="This username is taken."
            ),
            models.UniqueConstraint(
                Lower("email"), name="one_user_an_address", violation_error_message="This address is already in use."
            ),
        ]


class SpentToken(models.Model):
    """
    A used refresh token, or a family of tokens that was signed out; see :mod:`accounts.tokens`.

    Kept until the last token of this user has expired.
    """

    name = models.CharField(max_length=80, unique=True)
    spent_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"spent token {self.pk}"


class SignIn(models.Model):
    """A browser's session or a client's tokens, as shown to the user; see :mod:`accounts.sign_ins`."""

    class Kind(models.TextChoices):
        SESSION = "session"
        TOKENS = "tokens"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=7, choices=Kind)
    name = models.CharField(max_length=80, help_text="The session key, or the token family.")
    proof = models.CharField(max_length=128, help_text="A digest of the password at sign-in.")
    agent = models.CharField(max_length=200, blank=True, help_text="The client's User-Agent header.")
    client = models.CharField(max_length=64, help_text="The client's address; for IPv6, the first half.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, help_text="When its tokens were last refreshed.")
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "name"], name="one_sign_in_a_name")]

    def __str__(self) -> str:
        return f"sign-in {self.pk}"


class LoginFailures(models.Model):
    """
    The number of failed logins of a user from one client address within an hour: :mod:`accounts.failures`.

    Kept for two days. Unknown names are counted together, as user 0.
    """

    user_id = models.BigIntegerField(default=0)
    client = models.CharField(max_length=64)
    hour = models.DateTimeField(db_index=True)
    times = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "login failures"
        constraints = [models.UniqueConstraint(fields=["user_id", "client", "hour"], name="failures_of_an_hour")]

    def __str__(self) -> str:
        return f"login failures {self.pk}"
