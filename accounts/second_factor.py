"""
The admin's second factor: with ``ADMIN_TWO_FACTOR=1``, a password alone is not enough.

Codes are those of RFC 6238, by django-otp, which also slows down who guesses them. Sessions that were signed in
through the API have given no code, and are sent to the admin's own door.
"""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    """The admin's app, using django-otp's site."""

    default_site = "django_otp.admin.OTPAdminSite"
