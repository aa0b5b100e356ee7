"""``manage.py make_second_factor``: the secret for an authenticator app of one member of staff."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User


class Command(BaseCommand):
    help = "Create a new second factor for a member of staff, replacing any old one, and print its otpauth URL."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", help="the member of staff")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"], is_staff=True).first()
        if user is None:
            raise CommandError(f"There is no member of staff named {options['username']}.")
        with transaction.atomic():
            TOTPDevice.objects.filter(user=user).delete()
            device = TOTPDevice.objects.create(user=user, name="authenticator")
        self.stdout.write(device.config_url)
        self.stderr.write("Add this to an authenticator app, as text or as a QR code. Keep it secret.")
