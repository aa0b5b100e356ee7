"""
All settings of Shopwire, from typed environment variables.

Values come from the environment first, then from ``.env`` in this project, then from
``var/run.env``, which ``run.py`` writes so that a command in another terminal uses the same database and broker. A
value that cannot be parsed stops the start with an error that names its variable. ``.env.example`` lists every
variable.
"""

import os
import re
import sys
import tempfile
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Any, NoReturn

import environ
from kombu import Exchange, Queue

from web.broker_urls import hosts, sentinel_options

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"
VAR_DIR.mkdir(exist_ok=True)

VERSION = "0.1.0"

env = environ.FileAwareEnv()  # NAME_FILE names a file that contains NAME, such as a container's secret.
for env_file in (BASE_DIR / ".env", VAR_DIR / "run.env"):
    if env_file.exists():
        env.read_env(env_file)


def stop(message: str) -> NoReturn:
    """Abort the start of any process with one clear line."""
    raise SystemExit(f"Shopwire cannot start: {message}")


def read(parse: Any, name: str, default: Any) -> Any:
    """Return variable ``name`` parsed, or abort the start with a line that names it."""
    try:
        return parse(name, default=default)
    except Exception as error:  # noqa: BLE001 - each parser has its own
        stop(f"the environment variable {name} cannot be read: {error}")


def read_bool(name: str, default: bool) -> bool:
    """Return variable ``name`` as a boolean: 1/0, true/false, yes/no, on/off."""
    value = env.str(name, default="1" if default else "0").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    stop(f"the environment variable {name} must be 1 or 0, got {value!r}.")


def read_positive(name: str, default: int) -> int:
    """Return variable ``name`` as a whole number above zero."""
    value = read(env.int, name, default)
    if value < 1:
        stop(f"the environment variable {name} must be a whole number above zero, got {value}.")
    return int(value)


def read_rate(name: str, default: str) -> tuple[int, int] | None:
    """Return variable ``name``, such as ``600/min`` (or s, hour, day), as requests and seconds; ``off`` is None."""
    value = env.str(name, default=default).strip().lower()
    if value == "off":
        return None
    rate = re.fullmatch(r"([1-9][0-9]{0,8})/(s|sec|min|hour|day)", value)
    if rate is None:
        stop(f"the environment variable {name} must look like 600/min (s, min, hour, day) or be off, got {value!r}.")
    return int(rate[1]), {"s": 1, "sec": 1, "min": 60, "hour": 3600, "day": 86_400}[rate[2]]


# --- What kind of start this is -------------------------------------------------------

DEBUG = read_bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="development-only-" * 3 if DEBUG else "")
#: Earlier keys, with which signed or sealed values can still be read.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
for name, value in (("SECRET_KEY", SECRET_KEY), ("ALLOWED_HOSTS", ALLOWED_HOSTS)):
    if not value:
        stop(
            f"the environment variable {name} is not set. Set it (see .env.example), "
            f"or set DEBUG=1 for development; `python3 run.py` does so for you."
        )
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SITE_URL = env.str("SITE_URL", default=f"http://127.0.0.1:{env.str('PORT', default='8000')}").rstrip("/")
PORT = read_positive("PORT", 8000)
#: Requests come through one proxy that sets X-Forwarded-For and X-Forwarded-Proto.
BEHIND_PROXY = read_bool("BEHIND_PROXY", default=False)
#: Whether the admin asks for a code in addition to the password; see accounts/second_factor.py.
ADMIN_TWO_FACTOR = read_bool("ADMIN_TWO_FACTOR", default=False)
OTP_TOTP_ISSUER = "Shopwire"
WEB_CONCURRENCY = read_positive("WEB_CONCURRENCY", 1)
#: How many requests a web process handles at once, each with a database connection.
WEB_THREADS = read_positive("WEB_THREADS", 10)

# --- Django ---------------------------------------------------------------------------

INSTALLED_APPS = [
    "core",
    "accounts",
    "audit_trail",
    "reports",
    "store",
    "email_app",
    "analytics_app",
    "operations",
    "notifications",
    "messaging",
    "retail",
    "phones",
    "webhooks",
    "payments",
    "worker",
    "celery_ledger",
    "celery_ledger.contrib.admin",
    "celery_ledger.contrib.beat",
    "accounts.second_factor.AdminConfig" if ADMIN_TWO_FACTOR else "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "corsheaders",
    "csp",
    "django_celery_beat",
    "django_celery_results",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
]
MIDDLEWARE = [
    "web.request_id.RequestIDMiddleware",
    "web.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "web.trailing_slash.AddressMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    *(["django_otp.middleware.OTPMiddleware"] if ADMIN_TWO_FACTOR else []),
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "core.urls"
ASGI_APPLICATION = "core.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_USER_MODEL = "core.User"  # The label of accounts, after its tables.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
#: Seconds for which the link to a new password is valid.
PASSWORD_RESET_TIMEOUT = 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns where there is none.
WHITENOISE_USE_FINDERS = True  # The admin's files are served without a collectstatic step.
#: The front end as Vite built it; see frontend/README.md.
FRONTEND_DIR = BASE_DIR / "frontend" / "dist"
STATICFILES_DIRS = [("ui", FRONTEND_DIR)]
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/ui/assets/"  # Vite puts a hash into file names.

#: Seconds after which a task is killed; after three quarters of that, it is asked to end.
TASK_TIME_LIMIT = read_positive("TASK_TIME_LIMIT", 60)
TASK_SOFT_TIME_LIMIT = max(1, TASK_TIME_LIMIT * 3 // 4)

# --- Database -------------------------------------------------------------------------

SERVES_HTTP = sys.argv[1:2] == ["serve"]
DATABASE_URL = env.str("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'shopwire.sqlite3'}")
if not re.match(r"(sqlite|postgres|postgresql)://", DATABASE_URL):
    stop("the environment variable DATABASE_URL must begin with sqlite:/// or postgres://.")
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(DATABASE_URL)}
database = DATABASES["default"]
#: Settings that PostgreSQL applies to this process's sessions, in milliseconds or as a word.
DATABASE_LIMITS: dict[str, int | str] = {}
WEB_DATABASE_LIMITS: dict[str, int | str] = {"statement_timeout": 10_000, "lock_timeout": 5_000}
#: Whether there is a pooler in between that lends sessions for one transaction at a time. Settings of such a session
#: would also apply to its next user, so they are set for the role; see `manage.py database_limits`.
DATABASE_POOLED = read_bool("DATABASE_POOLED", default=False)
asked_for = database.get("OPTIONS", {})  # From the URL: sslmode, target_session_attrs and others.
if database["ENGINE"] == "django.db.backends.sqlite3":
    database["OPTIONS"] = {
        # A transaction that begins as a reader and then writes fails at once with "database is
        # locked"; one that begins as a writer waits its turn.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: an order that was answered 201 survives a power failure.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
    if "init_command" in asked_for:
        asked_for["init_command"] = f"{database['OPTIONS']['init_command']} {asked_for['init_command']}"
    database["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}  # A file: tests have several connections.
else:
    DATABASE_LIMITS = {
        # A suspended process holds its rows for no longer than a task may take; then another worker can take them.
        "idle_in_transaction_session_timeout": TASK_SOFT_TIME_LIMIT * 1000,
        # With a million rows, the planner would compile each short statement: 11 ms for a claim that takes 12.
        "jit": "off",
    }
    if SERVES_HTTP:
        DATABASE_LIMITS |= WEB_DATABASE_LIMITS
    if DATABASE_POOLED:
        # A pooler drops the session of a client that has disconnected; PostgreSQL has to check for that, or would go
        # on.
        DATABASE_LIMITS["client_connection_check_interval"] = 5_000
    # The server, too, waits for hours for a machine that is cut off, and keeps its locks.
    keepalives = {
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    told = {} if DATABASE_POOLED else {**DATABASE_LIMITS, **keepalives}
    limits = " ".join(f"-c {name}={value}" for name, value in told.items())
    database["DISABLE_SERVER_SIDE_CURSORS"] = DATABASE_POOLED
    database["OPTIONS"] = {
        "connect_timeout": 5,
        # A cut network sends no error: without these, a connection waits for hours.
        "keepalives_idle": 5,  # seconds
        "keepalives_interval": 2,  # seconds
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # milliseconds
        **({"options": limits} if limits else {}),
    }
    # Statements that a connection repeats are planned only once.
    if read_bool("PREPARED_STATEMENTS", default=not DATABASE_POOLED):
        database["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 2}
    if limits and "options" in asked_for:
        asked_for["options"] = f"{limits} {asked_for['options']}"
database["OPTIONS"] |= asked_for
#: Seconds after which the web process gives up on a silent database: longer than a statement may take.
DATABASE_PATIENCE = 11
#: Seconds that a request waits for a free thread of the web process before it is a 503.
REQUEST_PATIENCE = 10
database.setdefault("CONN_MAX_AGE", None)  # Each worker, relay and thread of the web process keeps its connection.

# Throttles count here. In memory on purpose: orders are taken even if Redis is down.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

# --- Celery ---------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL)
broker_scheme = CELERY_BROKER_URL.partition("://")[0]
if broker_scheme not in {"redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps"}:
    stop(
        "the environment variable CELERY_BROKER_URL (or REDIS_URL) must begin with redis://, rediss://, sentinel://, "
        "amqp:// or amqps://."
    )
#: The Sentinels' name for the Redis that they monitor.
REDIS_MASTER = env.str("REDIS_MASTER", default="mymaster")

#: All queues. A task's route or decorator names one of these.
CELERY_TASK_QUEUES = [
    Queue(
        name,
        Exchange("shopwire"),
        routing_key=name,
        queue_arguments={"x-queue-type": "quorum"} if broker_scheme.startswith("amqp") else None,
    )
    for name in ("default", "email", "inventory", "analytics", "notifications", "webhooks", "scheduled")
]
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "store.tasks.*": {"queue": "inventory"},
    "email_app.tasks.*": {"queue": "email"},
    "analytics_app.tasks.*": {"queue": "analytics"},
    "notifications.tasks.*": {"queue": "notifications"},
    "phones.tasks.*": {"queue": "notifications"},
    "webhooks.tasks.*": {"queue": "webhooks"},
    "celery_ledger.tasks.prune*": {"queue": "scheduled"},
    "celery.backend_cleanup": {"queue": "scheduled"},
}
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE

# The ledger writes results together with the effects; Celery itself must not write any.
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = 7 * 24 * 3600  # seconds

CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False  # The ledger counts the attempt and brings the task back.
CELERY_TASK_TIME_LIMIT = TASK_TIME_LIMIT
CELERY_TASK_SOFT_TIME_LIMIT = TASK_SOFT_TIME_LIMIT
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5  # seconds
CELERY_WORKER_MAX_TASKS_PER_CHILD = 10_000
#: A worker process that has grown beyond this is replaced after its task.
CELERY_WORKER_MAX_MEMORY_PER_CHILD = read_positive("WORKER_MEMORY_MB", 400) * 1024  # KiB
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_TIMEOUT = 4  # seconds
if not broker_scheme.startswith("amqp"):
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "priority_steps": [0],  # Priorities are kept in the ledger, so a queue is one list.
        "global_keyprefix": "shopwire:",
    }
if broker_scheme == "sentinel":
    CELERY_BROKER_TRANSPORT_OPTIONS["master_name"] = REDIS_MASTER
    CELERY_BROKER_TRANSPORT_OPTIONS["sentinel_kwargs"] = {"socket_timeout": 2, "socket_connect_timeout": 2}
CELERY_BEAT_SCHEDULER = "celery_ledger.contrib.beat.schedule:LedgerScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5  # seconds
DJANGO_CELERY_RESULTS_TASK_ID_MAX_LENGTH = 191

# --- Live streams ---------------------------------------------------------------------

#: Where web processes are notified of something new; they also poll.
CHANNELS_URL = env.str("CHANNELS_URL", default=REDIS_URL)
if not re.match(r"(redis|rediss|unix|redis\+socket|sentinel)://", CHANNELS_URL):
    stop(
        "the environment variable CHANNELS_URL (or REDIS_URL) must begin with redis://, rediss://, sentinel:// or unix://."
    )
channels_address: dict[str, Any] = {"address": CHANNELS_URL.replace("redis+socket://", "unix://")}
if CHANNELS_URL.startswith("sentinel://"):
    channels_address = {
        "sentinels": hosts(CHANNELS_URL),
        "master_name": REDIS_MASTER,
        "sentinel_kwargs": {"socket_timeout": 2, "socket_connect_timeout": 2},
        **sentinel_options(CHANNELS_URL),
    }
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    **channels_address,
                    "socket_connect_timeout": 2,
                    "health_check_interval": 10,
                }
            ],
            "prefix": "shopwire.",
        },
    }
}
#: How many streams one user may have open at one web process.
STREAMS_PER_USER = read_positive("STREAMS_PER_USER", 5)

# --- Flower ---------------------------------------------------------------------------

#: ``user:password``, separated by commas. Flower does not start without it; see flowerconfig.py.
FLOWER_BASIC_AUTH = env.list("FLOWER_BASIC_AUTH", default=[])
FLOWER_PORT = read_positive("FLOWER_PORT", 5555)
#: Flower's address for staff.
FLOWER_URL = env.str("FLOWER_URL", default=f"http://127.0.0.1:{FLOWER_PORT}/")
if not FLOWER_URL.startswith(("http://", "https://")):
    stop("the environment variable FLOWER_URL must begin with http:// or https://.")

# --- The ledger -----------------------------------------------------------------------

#: Seconds after which a published task that no worker has begun is published again.
LEDGER_PUBLISHED_LEASE = read_positive("LEDGER_PUBLISHED_LEASE", 60)
#: How long a worker's claim on a task with outside effects is valid; it is renewed while the task runs.
LEDGER_RUNNING_LEASE = read_positive("LEDGER_RUNNING_LEASE", 8)
#: How many messages may wait in one broker queue; the rest of a backlog waits in the database.
LEDGER_QUEUE_WINDOW = read_positive("LEDGER_QUEUE_WINDOW", 100)
#: Days that succeeded and cancelled tasks are kept.
LEDGER_RETENTION_DAYS = read_positive("LEDGER_RETENTION_DAYS", 7)

#: The shop's release: the desk shows which one each process runs.
LEDGER_RELEASE = env.str("LEDGER_RELEASE", default=VERSION)
#: A file that a worker or relay touches while its loop runs, for container probes.
LEDGER_ALIVE_FILE = env.str("LEDGER_ALIVE_FILE", default="")

# --- Mail -----------------------------------------------------------------------------

env.EMAIL_SCHEMES["filemail"] = "email_app.mail_files.EmailBackend"
try:
    vars().update(env.email_url("EMAIL_URL", default=f"filemail:///{VAR_DIR / 'mail'}"))
except Exception as error:  # noqa: BLE001 - the parser has its own
    stop(f"the environment variable EMAIL_URL cannot be read: {error}")
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Shopwire <shop@shopwire.example>")

# --- SMS ------------------------------------------------------------------------------

#: The sender for each scheme of SMS_URL.
SMS_SENDERS = {
    "console": "phones.sms.ConsoleSender",
    "file": "phones.sms.FileSender",
    "http": "phones.sms.HttpSender",
    "https": "phones.sms.HttpSender",
}
SMS_URL = env.str("SMS_URL", default=f"file://{VAR_DIR / 'sms'}")
if SMS_URL.partition(":")[0] not in SMS_SENDERS:
    stop("the environment variable SMS_URL must begin with console:, file:/// or https://.")
#: The countries (ISO 3166) to whose numbers SMS are sent. A number without a prefix is one of the first.
eu_and_uk = "GB,IE,AT,BE,BG,CY,CZ,DE,DK,EE,ES,FI,FR,GR,HR,HU,IT,LT,LU,LV,MT,NL,PL,PT,RO,SE,SI,SK"
SMS_COUNTRIES = read(env.list, "SMS_COUNTRIES", eu_and_uk.split(","))
if not SMS_COUNTRIES or not all(re.fullmatch("[A-Z]{2}", country) for country in SMS_COUNTRIES):
    stop("the environment variable SMS_COUNTRIES must be two-letter codes of countries, with commas, such as GB,IE.")
#: How many SMS are sent in 24 hours: for one client address, and in all.
SMS_PER_ADDRESS = read_positive("SMS_PER_ADDRESS", 20)
SMS_PER_DAY = read_positive("SMS_PER_DAY", 1000)
#: Minutes for which a code that was sent to a number is valid.
PHONE_CODE_MINUTES = read_positive("PHONE_CODE_MINUTES", 10)

# --- Web Push -------------------------------------------------------------------------

#: 32 bytes in base64url. In development, notifications/vapid.py creates and keeps one if it is not set.
VAPID_PRIVATE_KEY = env.str("VAPID_PRIVATE_KEY", default="")
#: Follows from the private key; if it is set, it is compared.
VAPID_PUBLIC_KEY = env.str("VAPID_PUBLIC_KEY", default="")
#: How push services can contact the operator: mailto: or https:.
VAPID_SUBJECT = env.str("VAPID_SUBJECT", default=f"mailto:{parseaddr(DEFAULT_FROM_EMAIL)[1]}")

# --- Webhooks -------------------------------------------------------------------------

#: How many deliveries of one endpoint may run at once: a slow receiver occupies no more workers than that.
WEBHOOK_CONCURRENCY = read_positive("WEBHOOK_CONCURRENCY", 1)
#: Days after which an endpoint that has only failed is disabled.
WEBHOOK_DISABLE_AFTER_DAYS = read_positive("WEBHOOK_DISABLE_AFTER_DAYS", 5)
#: Hours for which a replaced secret still signs.
WEBHOOK_SECRET_OVERLAP_HOURS = read_positive("WEBHOOK_SECRET_OVERLAP_HOURS", 24)
#: Days for which settled deliveries are kept.
WEBHOOK_RETENTION_DAYS = read_positive("WEBHOOK_RETENTION_DAYS", 30)
#: For development: endpoints may be on this machine, and may use http.
WEBHOOKS_TO_LOCALHOST = read_bool("WEBHOOKS_TO_LOCALHOST", default=False)

# --- Payments -------------------------------------------------------------------------

#: The payment provider's address. Unset, orders are placed without a payment.
PAYMENT_URL = env.str("PAYMENT_URL", default="")
#: The secret with which we identify ourselves and the provider signs its callbacks: ``whsec_`` and base64.
PAYMENT_SECRET = env.str("PAYMENT_SECRET", default="")
if PAYMENT_URL and not re.match(r"https?://[^/]", PAYMENT_URL):
    stop("the environment variable PAYMENT_URL must begin with https://.")
if PAYMENT_URL and not re.fullmatch(r"whsec_([A-Za-z0-9+/]{4}){6,}[A-Za-z0-9+/]{0,3}={0,2}", PAYMENT_SECRET):
    stop(
        "the environment variable PAYMENT_SECRET must be whsec_ and at least 18 bytes in base64, if PAYMENT_URL is set."
    )
#: Minutes for which the stock of an unpaid order is reserved.
PAYMENT_MINUTES = read_positive("PAYMENT_MINUTES", 30)

# --- The shop -------------------------------------------------------------------------

SHOP_CURRENCY = env.str("SHOP_CURRENCY", default="GBP")
#: Minutes within which a second order of the same lines by the same customer is flagged.
DUPLICATE_ORDER_WINDOW = read_positive("DUPLICATE_ORDER_WINDOW", 10)
#: Units of one product that a customer may order within 24 hours; 0 means no limit.
CUSTOMER_QUANTITY_LIMIT = read(env.int, "CUSTOMER_QUANTITY_LIMIT", 0)
if CUSTOMER_QUANTITY_LIMIT < 0:
    stop("the environment variable CUSTOMER_QUANTITY_LIMIT must be 0 or more.")
#: Days after which a cart without an order is deleted.
CART_LIFETIME_DAYS = read_positive("CART_LIFETIME_DAYS", 30)
#: Days for which records of mails are kept, except mails to customers about their orders, which stay.
MAIL_RETENTION_DAYS = read_positive("MAIL_RETENTION_DAYS", 90)
#: Days for which entries of the audit trail are kept, except those of orders, which stay; unset, all stay. At least 31.
AUDIT_RETENTION_DAYS = read(env.int, "AUDIT_RETENTION_DAYS", 0)
if AUDIT_RETENTION_DAYS and AUDIT_RETENTION_DAYS < 31:
    stop("the environment variable AUDIT_RETENTION_DAYS must be 31 or more, or 0 to keep all.")
#: Days for which notifications are kept after they were read.
NOTIFICATION_RETENTION_DAYS = read_positive("NOTIFICATION_RETENTION_DAYS", 90)
#: Days after which notifications are deleted, read or not.
NOTIFICATION_UNREAD_RETENTION_DAYS = read_positive("NOTIFICATION_UNREAD_RETENTION_DAYS", 365)

# --- The API --------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["web.parsing.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "web.negotiation.LenientNegotiation",
    "DEFAULT_PAGINATION_CLASS": "web.pagination.Pages",
    "DEFAULT_THROTTLE_CLASSES": ["web.throttling.ScopedThrottle"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "web.problems.answer_problem",
    "URL_FORMAT_OVERRIDE": None,
    "NUM_PROXIES": 1 if BEHIND_PROXY else 0,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
#: Requests and seconds by scope, for each user or, if not signed in, each address. Counted by
#: each web process for itself, in memory: see web/throttling.py.
THROTTLE_RATES = {
    "login": read_rate("THROTTLE_LOGIN", "300/min"),
    "registration": read_rate("THROTTLE_REGISTRATION", "300/min"),
    "checkout": read_rate("THROTTLE_CHECKOUT", "6000/min"),
    "subscriptions": read_rate("THROTTLE_SUBSCRIPTIONS", "30/min"),
    "messages": read_rate("THROTTLE_MESSAGES", "60/min"),
    #: Anonymous carts, and adding to them.
    "carts": read_rate("THROTTLE_CARTS", "300/min"),
    "carts_a_day": read_rate("THROTTLE_CARTS_A_DAY", "10000/day"),
    "cart_lines": read_rate("THROTTLE_CART_LINES", "3000/min"),
    "customer_carts": read_rate("THROTTLE_CHECKOUT", "6000/min"),
    "mailed_links": read_rate("THROTTLE_MAILED_LINKS", "60/min"),
    "passwords": read_rate("THROTTLE_PASSWORDS", "20/min"),
}
# --- Failed logins; see accounts/lockout.py -----------------------------------------------

AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
#: How many failed logins with one name from one address lock it out.
AXES_FAILURE_LIMIT = read_positive("LOGIN_FAILURE_LIMIT", 10)
#: Duration of the first lock, from the last failure that counted.
LOGIN_COOLOFF = timedelta(minutes=read_positive("LOGIN_COOLOFF_MINUTES", 15))
AXES_COOLOFF_TIME = "accounts.lockout.cool_off"
AXES_HANDLER = "accounts.lockout.LockoutHandler"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # An attacker could otherwise keep an address locked.
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True  # The audit trail records this.
AXES_VERBOSE = False
AXES_USERNAME_CALLABLE = "accounts.lockout.name_of"
AXES_CLIENT_IP_CALLABLE = "accounts.lockout.address_of"
AXES_LOCKOUT_CALLABLE = "accounts.lockout.refuse"

SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=read_positive("ACCESS_TOKEN_MINUTES", 30)),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=read_positive("REFRESH_TOKEN_DAYS", 7)),
    "CHECK_REVOKE_TOKEN": True,  # A new password revokes every token.
    "TOKEN_REFRESH_SERIALIZER": "accounts.serializers.TokenRefreshSerializer",
    "TOKEN_OBTAIN_SERIALIZER": "accounts.serializers.TokenObtainSerializer",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Shopwire",
    "DESCRIPTION": "A shop whose orders start durable tasks.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api",
    "OAS_VERSION": "3.1.1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "core.schema.describe_problems",
        "core.schema.forbid_nul_in_queries",
        "core.schema.fill_lists_in_queries",
        "core.schema.add_links",
        "core.schema.add_examples",
        "core.schema.allow_blanks_once",
        "core.schema.name_null_as_a_type",
    ],
    "WEBHOOKS": [
        f"webhooks.document.{name}"
        for name in ("order_created", "order_cancelled", "order_settled", "stock_low", "price_changed", "test")
    ],
    "ENUM_NAME_OVERRIDES": {
        "OrderStatus": "store.models.Order.Status",
        "TaskStatus": "celery_ledger.models.DurableTask.Status",
        "WebhookStatus": "webhooks.models.WebhookDelivery.Status",
        "WebhookEvent": "webhooks.models.Event",
        "PaymentStatus": "payments.models.Payment.Status",
        "SignInKind": "accounts.models.SignIn.Kind",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- Metrics --------------------------------------------------------------------------

#: Requests with this bearer token may read /metrics; so may any request from this machine that came through no proxy.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
if SERVES_HTTP and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # prometheus_client reads it when it is imported. The web processes of one `manage.py serve` share the folder.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="shopwire-metrics-")

# --- Safety ---------------------------------------------------------------------------

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
HTTPS = read_bool("HTTPS", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
# Bodies are counted as they arrive (web/handler.py), and refused unread if they are declared to be longer.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024  #: Maximum bytes of a body under /api/, and of a form without its files.
MAX_BODY_BYTES = 10 * 1024 * 1024  #: Maximum bytes of any other body: the admin uploads files.

#: Everything is loaded from this origin. The documentation's page has an inline script and inline styles, the admin
#: none.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Logging --------------------------------------------------------------------------

LOG_FORMAT = env.str("LOG_FORMAT", default="line")
if LOG_FORMAT not in {"line", "json"}:
    stop("the environment variable LOG_FORMAT must be line or json.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "worker.logs.LineFormatter", "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": "worker.logs.JSONFormatter"},
    },
    "filters": {"no_canaries": {"()": "worker.logs.NoCanaries"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["no_canaries"]}},
    "loggers": {
        # A line for every request and every task is only useful to machines.
        "core.requests": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        "celery_ledger.done": {"level": "DEBUG" if LOG_FORMAT == "json" else "WARNING"},
        "axes": {"level": "WARNING"},  # It logs its counts.
        "django": {"handlers": [], "level": "INFO"},  # Django's own handlers would log everything twice.
        # It would log a traceback per second while Redis is down; notifications.wakeup says once what that means.
        "channels_redis.pubsub": {"level": "CRITICAL"},
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
