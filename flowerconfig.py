"""
Flower's configuration; Flower reads this file by name from its working directory.

Flower shows and controls the workers, so it does not start without a password. It lets in staff who are signed in to
the shop in the same browser, listens on the loopback address unless told otherwise, and keeps what it has seen under
``var/flower/``. A second, read-only one: ``FLOWER_READ_ONLY=1 celery -A worker flower --port=5556``.
"""

import hashlib

from django.conf import settings
from tornado.options import options

from operations import flower, flower_sign_in

credentials = [pair for pair in options.basic_auth if pair] or settings.FLOWER_BASIC_AUTH
if not (credentials or options.auth):
    raise SystemExit(
        "Flower does not start without a password: set FLOWER_BASIC_AUTH=user:password "
        "(`python3 run.py` makes one), or sign people in through OAuth with --auth."
    )
for pair in credentials:
    if not all(pair.partition(":")):
        raise SystemExit("The environment variable FLOWER_BASIC_AUTH must be user:password, or several with commas.")

basic_auth = credentials
address = "127.0.0.1"
port = settings.FLOWER_PORT
# A restart of Flower signs nobody out.
cookie_secret = hashlib.sha256(b"flower" + settings.SECRET_KEY.encode()).hexdigest()

folder = settings.VAR_DIR / "flower"
folder.mkdir(parents=True, exist_ok=True)
persistent = True
# The read-only Flower must not write the other Flower's file.
db = str(folder / ("flower-read-only" if options.read_only else "flower"))
state_save_interval = 60_000  # milliseconds
max_tasks = 10_000
purge_offline_workers = 60  # seconds
tasks_columns = "name,uuid,state,received,runtime,worker"
flower.close_doors()
flower_sign_in.let_in_by_session()
flower.link_to_ledger()
format_task = flower.format_task
