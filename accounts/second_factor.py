"""
The admin's second factor: with ``ADMIN_TWO_FACTOR=1``, a password alone is not enough.

Codes follow RFC 6238, by django-otp, which also slows down guessing. Sessions that signed in through the API have given
no code, and are sent to the admin's own login.
"""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    """The admin's app, using django-otp's site."""

    default_site = "django_otp.admin.OTPAdminSite"
