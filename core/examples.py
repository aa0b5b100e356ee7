"""Examples for the OpenAPI document: one fictitious shop, with the same people and products throughout."""

from typing import Any, Final

CART: Final = "5f0c6a3e-8d0b-4d5e-9f63-0d6a1c2b7e11"
TASK: Final = "01a1fcf6-bbe3-7db3-82b6-1ff496c63ade"
PLACED_AT: Final = "2026-11-21T12:00:00.250000Z"
ITEM: Final = {"product": 7, "sku": "DEMO-07", "title": "Enamel saucepan", "quantity": 2, "unit_price": "24.50"}
CART_ITEM: Final = {"id": 31, **ITEM, "total_price": "49.00", "available": 500}
PERSON: Final = {
    "email": "ada@shop.example",
    "first_name": "Ada",
    "last_name": "King",
    "phone": "+44 20 7946 0958",
    "birth_date": "1990-12-10",
}

SHIPPING_ADDRESS: Final = {
    "name": "Ada King",
    "line1": "12 St James's Square",
    "line2": "",
    "city": "London",
    "region": "",
    "postal_code": "SW1Y 4JH",
    "country": "GB",
}
CALL: Final = {
    "id": TASK,
    "task": "email_app.tasks.send_order_confirmation",
    "state": "dead",
    "error": "550 no such mailbox",
    "has_row": True,
}
ENDPOINT: Final = {
    "id": 4,
    "url": "https://warehouse.example/hooks",
    "description": "The warehouse",
    "events": ["order.created"],
    "ordered": True,
    "version": 1,
    "active": True,
    "owner": 1,
    "created_at": PLACED_AT,
    "failing_since": None,
    "disabled_at": None,
    "previous_until": None,
}
DELIVERY: Final = {
    "id": 90,
    "endpoint": 4,
    "message_id": "msg_2b1f3c0a9d8e4f5a8c7b6d5e4f3a2b1c",
    "event": "order.created",
    "subject": "store.order:1001",
    "status": "delivered",
    "tries": 1,
    "error": "",
    "created_at": PLACED_AT,
    "settled_at": "2026-11-21T12:00:01Z",
}
FOUND: Final = {
    "id": TASK,
    "task": "email_app.tasks.send_order_confirmation",
    "queue": "email",
    "status": "pending",
    "state": "retrying",
    "priority": 5,
    "attempts": 2,
    "subject": "store.order:1001",
    "request_id": "3f2b8a5e-7d11-4c49-9a55-6f0f6f2e0b7d",
    "args": [1001],
    "kwargs": {},
    "enqueued_at": PLACED_AT,
    "next_at": "2026-11-21T12:02:10Z",
    "published_at": "2026-11-21T12:00:40Z",
    "completed_at": None,
    "expires_at": None,
    "seconds": None,
    "last_error": "SMTPServerDisconnected: Connection unexpectedly closed",
    "canvas": None,
}
#: An example of each body, by the name of its component.
LINE_OF_FIGURES: Final = {
    "queue": "email",
    "task": "",
    "succeeded": 1800,
    "failed": 7,
    "retried": 6,
    "dead": 1,
    "per_minute": 120.0,
    "run_seconds": 0.04,
    "lag_p50": 0.1,
    "lag_p95": 0.5,
    "lag_p99": 1.0,
}
EXAMPLES: Final[dict[str, Any]] = {
    "RegistrationRequest": {"username": "ada", "email": "ada@shop.example", "password": "correct horse battery"},
    "Registration": {"id": 42, "username": "ada", "email": "ada@shop.example"},
    "TokenObtainRequest": {"username": "ada", "password": "correct horse battery"},
    "Tokens": {"access": "eyJhbGciOi...", "refresh": "eyJ0eXAiOi..."},
    "TokenRefreshRequest": {"refresh": "eyJ0eXAiOi..."},
    "LogoutRequest": {"refresh": "eyJ0eXAiOi..."},
    "PasswordChangeRequest": {"old_password": "correct horse battery", "new_password": "staple of a new horse"},
    "Payment": {
        "status": "paid",
        "amount": "49.00",
        "currency": "GBP",
        "asked_at": "2026-11-21T12:00:00.750000Z",
        "declined_at": None,
        "expires_at": "2026-11-21T12:30:00.250000Z",
        "paid_at": "2026-11-21T12:00:01Z",
        "refunded_at": None,
    },
    "CallbackRequest": {
        "type": "payment.paid",
        "data": {"reference": "7d9f6f0e-5a58-4c0e-9c3e-1a3b5c7d9e0f", "amount": "49.00", "currency": "GBP"},
    },
    "PasswordRequest": {"password": "correct horse battery"},
    "SignIn": {
        "id": 12,
        "kind": "session",
        "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "client": "192.0.2.7/32",
        "created_at": PLACED_AT,
        "last_used_at": None,
        "expires_at": "2026-12-05T12:00:00Z",
        "current": True,
    },
    "ForgottenRequest": {"email": "ada@shop.example"},
    "PasswordResetRequest": {"token": "MTI.d1xq2k-...", "new_password": "staple of a new horse"},
    "Customer": {"id": 40, "username": "ada", **PERSON},
    "PatchedCustomerRequest": {"first_name": "Ada", "phone": "+44 20 7946 0958"},
    "Phone": {"phone": "+44 20 7946 0958", "verified": False, "served": True},
    "MailedTokenRequest": {"token": "WzQyLCI1Zj..."},
    "Confirmed": {"verified": True},
    "Address": {"email": "ada@shop.example", "verified": True, "wished": "ada@new.example"},
    "AddressWishRequest": {"password": "correct horse battery", "email": "ada@new.example"},
    "CodeRequest": {"code": "123456"},
    "NothingRequest": {},
    "Product": {
        "id": 7,
        "sku": "DEMO-07",
        "title": "Enamel saucepan",
        "slug": "enamel-saucepan",
        "unit_price": "24.50",
        "currency": "GBP",
        "collection": 3,
        "available": 18,
    },
    "Collection": {"id": 3, "title": "Kitchen", "products_count": 12},
    "Cart": {"id": CART, "items": [CART_ITEM], "total_price": "49.00", "currency": "GBP"},
    "AddItemRequest": {"product_id": 7, "quantity": 2},
    "PatchedChangeItemRequest": {"quantity": 2},
    "CartItem": CART_ITEM,
    "CreateOrderRequest": {"cart_id": CART, "shipping_address": SHIPPING_ADDRESS},
    "ToldAddress": SHIPPING_ADDRESS,
    "Order": {
        "id": 1001,
        "status": "placed",
        "customer": 40,
        "items": [ITEM],
        "total": "49.00",
        "currency": "GBP",
        "placed_at": PLACED_AT,
        "duplicate": False,
        "shipping_address": SHIPPING_ADDRESS,
    },
    "OrderInList": {
        "id": 1001,
        "status": "placed",
        "customer": 40,
        "items": [ITEM],
        "total": "49.00",
        "currency": "GBP",
        "placed_at": PLACED_AT,
        "duplicate": False,
        "shipping_address": SHIPPING_ADDRESS,
        "items_count": 1,
        "units": 2,
    },
    "Queue": {
        "queue": "email",
        "pending": 12,
        "published": 40,
        "running": 2,
        "dead": 3,
        "retrying": 2,
        "oldest_pending_seconds": 4.2,
        "completed_per_minute": 1800,
        "paused": False,
        "per_second": None,
        "concurrency": 8,
    },
    "Limit": {
        "kind": "task",
        "name": "email_app.tasks.send_order_confirmation",
        "per_second": 10.0,
        "concurrency": None,
        "said": "10/s",
        "by_operator": True,
        "under_way": None,
        "held_back": 120,
        "held_back_is": "exact",
        "until": "2026-11-21T12:00:12Z",
    },
    "RateRequest": {"rate": "10/s"},
    "TaskRate": {"task": "email_app.tasks.send_order_confirmation", "rate": "10/s", "own_rate": None},
    "ChannelsOn": {"channels": ["in_app", "email"]},
    "LimitsRequest": {"per_second": 10, "concurrency": 8},
    "Series": {
        "step_seconds": 30,
        "queues": [
            {
                "queue": "email",
                "points": [
                    {
                        "at": PLACED_AT,
                        "pending": 12,
                        "published": 40,
                        "running": 2,
                        "dead": 3,
                        "retrying": 2,
                        "oldest_pending_seconds": 4.2,
                        "messages": 9,
                        "completed_per_minute": 1800.0,
                        "failed_per_minute": 2.0,
                        "lag_seconds": 0.041,
                    }
                ],
            }
        ],
    },
    "Failing": {
        "task": "email_app.tasks.send_order_confirmation",
        "queue": "email",
        "since": PLACED_AT,
        "last_at": "2026-11-21T12:09:58Z",
        "failed": 31,
        "error": "ConnectionRefusedError: [Errno 111] Connection refused",
        "text": "email_app.tasks.send_order_confirmation has failed for 10 minutes: 31 attempts, and none has "
        "succeeded since. ConnectionRefusedError: [Errno 111] Connection refused",
    },
    "Process": {
        "process": "worker 4711 at shop-1",
        "kind": "worker",
        "machine": "shop-1",
        "state": "ok",
        "problem": "",
        "wish": "",
        "started_at": PLACED_AT,
        "beaten_at": "2026-11-21T12:09:58Z",
        "silent_seconds": 2.1,
        "queues": ["email", "inventory"],
        "active": 1,
        "received": 1204,
        "release": "1.4.0",
        "memory": 183_500_800,
        "doing": [
            {"task": "email_app.tasks.send_order_confirmation", "tasks": 1, "id": TASK, "seconds": 0.4},
        ],
    },
    "TellRequest": {"what": "drain"},
    "Figures": {
        "span": "15m",
        "since": PLACED_AT,
        "points": [
            {
                "at": "2026-11-21T12:09:58Z",
                "succeeded_per_minute": 120.0,
                "failed_per_minute": 0.5,
                "lag_p50": 0.1,
                "lag_p95": 0.5,
                "lag_p99": 1.0,
            }
        ],
        "queues": [LINE_OF_FIGURES],
        "tasks": [LINE_OF_FIGURES | {"task": "email_app.tasks.send_order_confirmation"}],
        "marks": [{"at": PLACED_AT, "kind": "release", "text": "1.4.0"}],
    },
    "Schedule": {
        "id": 3,
        "name": "Prune the ledger",
        "task": "celery_ledger.tasks.prune",
        "queue": "",
        "times": "every day at 03:00",
        "enabled": True,
        "catch_up": "once",
        "last_run_at": "2026-11-21T03:00:00Z",
        "next_due": ["2026-11-22T03:00:00Z"],
        "late_since": None,
        "problem": "",
        "runs": [
            {
                "task_id": TASK,
                "due_at": "2026-11-21T03:00:00Z",
                "enqueued_at": "2026-11-21T03:00:00.010000Z",
                "status": "succeeded",
                "took_seconds": 2.4,
                "error": "",
            }
        ],
    },
    "TellScheduleRequest": {"what": "run-now"},
    "MachineryProblem": {
        "part": "workers",
        "text": "worker 4711 at shop-1 has been silent since 08:00:12 UTC",
        "stalled": "worker 4711 at shop-1",
    },
    "DeadTask": {
        "id": TASK,
        "task": "email_app.tasks.send_order_confirmation",
        "queue": "email",
        "status": "dead",
        "attempts": 8,
        "subject": "store.order:1001",
        "args": [1001],
        "kwargs": {},
        "enqueued_at": PLACED_AT,
        "published_at": "2026-11-21T12:10:00.010000Z",
        "completed_at": "2026-11-21T12:10:04.020000Z",
        "last_error": "ConnectionRefusedError: [Errno 111] Connection refused",
        "fingerprint": "9f2b7c01d4e8a655",
    },
    "Group": {
        "fingerprint": "9f2b7c01d4e8a655",
        "task": "email_app.tasks.send_order_confirmation",
        "error": "ConnectionRefusedError: [Errno …] Connection refused",
        "example": "ConnectionRefusedError: [Errno 111] Connection refused",
        "count": 240,
        "first_at": PLACED_AT,
        "last_at": "2026-11-21T12:10:04.020000Z",
    },
    "EditRequest": {"args": [1002]},
    "CancelRequest": {"reason": "The promotion is over."},
    "ReasonRequest": {"reason": "The customer was informed by phone."},
    "ReplayManyRequest": {"fingerprint": "9f2b7c01d4e8a655", "per_second": 50},
    "DiscardManyRequest": {"fingerprint": "9f2b7c01d4e8a655", "reason": "Orders of a load test."},
    "Count": {"count": 240},
    "Decided": {"count": 66_000, "decision": 7},
    "TaskPage": {
        "count": 1,
        "count_is": "exact",
        "next": None,
        "previous": None,
        "after": None,
        "looked_to": None,
        "results": [FOUND],
    },
    "Life": {
        "task": FOUND,
        "events": [
            {
                "at": "2026-11-21T12:00:41Z",
                "kind": "failed",
                "text": "SMTPServerDisconnected: Connection unexpectedly closed",
                "attempt": 2,
                "worker": "celery@worker-1",
                "traceback": "Traceback (most recent call last): ...",
                "took": 1.002,
                "is_ahead": False,
            }
        ],
        "result": None,
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "parent": None,
        "called": [],
    },
    "DecideRequest": {"what": "run-now", "ids": [TASK], "reason": "The mail server is back."},
    "Canvas": {
        "id": "01a1fcf6-bbe3-7db3-82b6-1ff496c63ad0",
        "total": 2,
        "counts": {"dead": 1, "held": 1},
        "is_whole": True,
        "is_ended": True,
        "text": "2 tasks: 1 dead, 1 held up. email_app.tasks.send_order_confirmation holds it up: it is dead.",
        "nodes": [
            {
                "key": 0,
                "task": "email_app.tasks.send_order_confirmation",
                "title": "send_order_confirmation",
                "state": "dead",
                "count": 1,
                "counts": {"dead": 1},
                "is_row": False,
                "calls": [CALL],
                "awaited": 0,
                "awaits": [],
                "column": 0,
                "row": 0,
                "text": "send_order_confirmation: dead.",
            },
            {
                "key": 1,
                "task": "store.tasks.record_settlement",
                "title": "record_settlement",
                "state": "held",
                "count": 1,
                "counts": {"held": 1},
                "is_row": False,
                "calls": [],
                "awaited": 1,
                "awaits": [CALL],
                "column": 1,
                "row": 0,
                "text": "record_settlement: held up. It waits for 1 task.",
            },
        ],
        "edges": [{"before": 0, "after": 1}],
    },
    "ManyDecided": {"count": 1, "count_is": "exact", "decision": None},
    "Decision": {
        "id": 7,
        "what": "replay",
        "selection": {"task": "email_app.tasks.send_order_confirmation"},
        "reason": "",
        "per_second": 500.0,
        "who": 1,
        "wanted": 66_000,
        "done": 12_000,
        "percent": 18,
        "begun_at": "2026-01-31T08:00:00Z",
        "moved_at": "2026-01-31T08:00:09Z",
        "ended_at": None,
    },
    "OrderTasks": {
        "results": [
            {
                "id": TASK,
                "task": "email_app.tasks.send_order_confirmation",
                "label": "Send you the confirmation",
                "queue": "email",
                "status": "succeeded",
                "attempts": 1,
                "enqueued_at": PLACED_AT,
                "published_at": "2026-11-21T12:00:00.261000Z",
                "completed_at": "2026-11-21T12:00:00.340000Z",
                "last_error": "",
                "canvas": "01a1fcf6-bbe3-7db3-82b6-1ff496c63ad0",
            }
        ]
    },
    "LoginRequest": {"username": "ada", "password": "correct horse battery"},
    "Session": {"user": {"id": 42, "username": "ada", "is_staff": False}, "flower_url": None},
    "Notification": {
        "id": 311,
        "kind": "order_placed",
        "message": "Your order 1001 of £49.00 has been placed.",
        "data": {"order": 1001},
        "created": PLACED_AT,
        "read": False,
    },
    "ReadAll": {"read": 3},
    "Preferences": {
        "kinds": {"order_placed": {"in_app": True, "email": True, "push": False, "sms": False}},
        "quiet_hours": None,
    },
    "Message": {
        "id": 77,
        "sender": "ada",
        "receiver": "grace",
        "content": "Is the saucepan blue?",
        "timestamp": PLACED_AT,
        "read_at": None,
    },
    "NewBlockRequest": {"username": "mallory"},
    "Block": {"id": 5, "username": "mallory", "created_at": PLACED_AT},
    "PublicKey": {
        "public_key": "BEl62iUYgUivxIkv69yViEuiBIa-Ib9-SkvMeAtA3LFgDzkrxZJjSgSnfckjBJuBkr3qBUYIHBQFLXYp5Nksh8U"
    },
    "Endpoint": {"endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk..."},
    "EndpointWishRequest": {"url": "https://warehouse.example/hooks", "events": ["order.created"], "ordered": True},
    "PatchedEndpointWishRequest": {"active": True},
    "WebhookEndpoint": ENDPOINT,
    "NewSecret": {**ENDPOINT, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw..."},
    "WebhookDelivery": DELIVERY,
    "WebhookDeliveryDetail": {
        **DELIVERY,
        "body": '{"type": "order.created", "timestamp": "2026-11-21T12:00:00.250000+00:00", "data": {"id": 1001}}',
        "attempts": [
            {
                "at": "2026-11-21T12:00:00.900000Z",
                "status_code": 200,
                "milliseconds": 84,
                "answer": "ok",
                "error": "",
            }
        ],
    },
    "Sales": {"day": "2026-11-20", "orders": 3, "units": 12, "revenue": "168.40", "currency": "GBP"},
    "ReportRequestRequest": {"day": "2026-11-20"},
    "Report": {"id": TASK, "status": "running", "progress": {"done": 2, "of": 4, "step": "table"}},
}

#: Problems by status: a short description, and one or more problem documents.
PROBLEMS: Final[dict[int, tuple[str, dict[str, dict[str, Any]]]]] = {
    400: (
        "The request is malformed, or has fields that are missing or wrong: `errors` says which.",
        {
            "wrong-field": {
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "The request has fields that are missing or wrong.",
                "errors": [{"pointer": "/quantity", "detail": "This field is required."}],
            }
        },
    ),
    401: (
        "The request is not authenticated, or its credentials are not valid here.",
        {
            "not-signed-in": {
                "type": "about:blank",
                "title": "Unauthorized",
                "status": 401,
                "detail": "Authentication credentials were not provided.",
            }
        },
    ),
    403: (
        "The signed-in user may not do this.",
        {
            "not-allowed": {
                "type": "about:blank",
                "title": "Forbidden",
                "status": 403,
                "detail": "You do not have permission to perform this action.",
            }
        },
    ),
    404: (
        "It does not exist, or belongs to another user; the response is the same.",
        {"not-found": {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Not found."}},
    ),
    429: (
        "Too many requests; `Retry-After` gives the seconds to wait.",
        {
            "too-much": {
                "type": "about:blank",
                "title": "Too Many Requests",
                "status": 429,
                "detail": "Request was throttled. Expected available in 50 seconds.",
            }
        },
    ),
}

OUT_OF_STOCK: Final = {
    "type": "urn:shopwire:problem:out-of-stock",
    "title": "Out of stock",
    "status": 409,
    "detail": "Not enough stock for this order. Nothing was ordered.",
    "errors": [
        {
            "pointer": "/cart_id",
            "detail": "Product 7: 2 asked for, 1 available.",
            "product": 7,
            "requested": 2,
            "available": 1,
        }
    ],
}
KEY_IN_USE: Final = {
    "type": "urn:shopwire:problem:idempotency-key-in-use",
    "title": "Idempotency key in use",
    "status": 409,
    "detail": "A request with this Idempotency-Key is still in progress. Try again shortly.",
}
KEY_REUSED: Final = {
    "type": "urn:shopwire:problem:idempotency-key-reused",
    "title": "Idempotency key reused",
    "status": 422,
    "detail": "This Idempotency-Key was used with a different request body. Use a new key.",
}
NOT_CANCELLABLE: Final = {
    "type": "urn:shopwire:problem:not-cancellable",
    "title": "Not cancellable",
    "status": 409,
    "detail": "This order is shipped and can no longer be cancelled.",
}
NOTHING_TO_VERIFY: Final = {
    "type": "urn:shopwire:problem:nothing-to-verify",
    "title": "Nothing to verify",
    "status": 409,
    "detail": "No phone number to verify. Add one to your profile first.",
}
NO_CODE: Final = {
    "type": "urn:shopwire:problem:no-code",
    "title": "No code",
    "status": 409,
    "detail": "No valid code: it was used, has expired, or was entered wrongly too often. Request a new one.",
}

SWITCHED_OFF: Final = {
    "type": "urn:shopwire:problem:endpoint-switched-off",
    "title": "Endpoint switched off",
    "status": 409,
    "detail": "This endpoint is switched off. Switch it on first.",
}
NOT_PAYABLE: Final = {
    "type": "urn:shopwire:problem:not-payable",
    "title": "Not payable",
    "status": 409,
    "detail": "This order is no longer waiting for a payment. Nothing was charged.",
}
ANOTHER_AMOUNT: Final = {
    "type": "urn:shopwire:problem:another-amount",
    "title": "Another amount",
    "status": 409,
    "detail": "This is not the order's total. Nothing was changed.",
}
ACCOUNT_NOT_DELETABLE: Final = {
    "type": "urn:shopwire:problem:account-not-deletable",
    "title": "Account not deletable",
    "status": 409,
    "detail": "This is a staff account. Ask an administrator to close it.",
}
DELIVERY_PENDING: Final = {
    "type": "urn:shopwire:problem:delivery-pending",
    "title": "Delivery pending",
    "status": 409,
    "detail": "This delivery is still pending. It will be retried automatically.",
}

#: Problems of every call that takes an Idempotency-Key.
KEY_PROBLEMS: Final[dict[int, tuple[str, dict[str, dict[str, Any]]]]] = {
    409: ("A request with the same key is still in progress.", {"idempotency-key-in-use": KEY_IN_USE}),
    422: ("The key was used with a different request body.", {"idempotency-key-reused": KEY_REUSED}),
}
#: Problems of single calls, by operation and status.
OWN_PROBLEMS: Final[dict[str, dict[int, tuple[str, dict[str, dict[str, Any]]]]]] = {
    "orders_create": {
        404: PROBLEMS[404],
        409: (
            "Not enough stock, more than one customer may order, or a request with the same key is still in progress. "
            "Nothing was ordered.",
            {"out-of-stock": OUT_OF_STOCK, "idempotency-key-in-use": KEY_IN_USE},
        ),
        429: PROBLEMS[429],
    },
    "orders_cancel_create": {
        409: ("The order has been shipped or is already cancelled.", {"not-cancellable": NOT_CANCELLABLE}),
    },
    "customers_me_phone_code_create": {
        409: ("There is no number, or it is already verified.", {"nothing-to-verify": NOTHING_TO_VERIFY}),
        429: PROBLEMS[429],
    },
    "customers_me_phone_verify_create": {
        409: ("There is no valid code.", {"no-code": NO_CODE}),
    },
    "session_create": {401: PROBLEMS[401], 403: PROBLEMS[403], 429: PROBLEMS[429]},
    "token_create": {401: PROBLEMS[401], 429: PROBLEMS[429]},
    "token_refresh_create": {401: PROBLEMS[401], 429: PROBLEMS[429]},
    "users_create": {429: PROBLEMS[429]},
    "carts_create": {429: PROBLEMS[429]},
    "carts_items_create": {429: PROBLEMS[429]},
    "auth_email_verify_create": {429: PROBLEMS[429]},
    "auth_email_resend_create": {429: PROBLEMS[429]},
    "auth_email_change_create": {429: PROBLEMS[429]},
    "auth_password_change_create": {429: PROBLEMS[429]},
    "auth_password_reset_create": {429: PROBLEMS[429]},
    "auth_password_reset_confirm_create": {429: PROBLEMS[429]},
    "orders_payment_create": {
        409: ("The order was not paid in time, was declined or was cancelled.", {"not-payable": NOT_PAYABLE}),
    },
    "payments_callback_create": {
        401: PROBLEMS[401],
        404: PROBLEMS[404],
        409: ("The amount is not the order's total.", {"another-amount": ANOTHER_AMOUNT}),
    },
    "auth_sign_out_everywhere_create": {429: PROBLEMS[429]},
    "customers_me_export_retrieve": {429: PROBLEMS[429]},
    "customers_me_deletion_create": {
        409: ("The account is still needed.", {"account-not-deletable": ACCOUNT_NOT_DELETABLE}),
        429: PROBLEMS[429],
    },
    "auth_logout_create": {401: PROBLEMS[401], 429: PROBLEMS[429]},
    **{
        f"webhooks_{call}": {403: PROBLEMS[403]}
        for call in (
            "list",
            "create",
            "retrieve",
            "partial_update",
            "destroy",
            "rotate_create",
            "deliveries_list",
            "deliveries_retrieve",
        )
    },
    "webhooks_test_create": {
        403: PROBLEMS[403],
        409: (
            "The endpoint is switched off, or a request with the same key is still in progress.",
            {"endpoint-switched-off": SWITCHED_OFF, "idempotency-key-in-use": KEY_IN_USE},
        ),
    },
    "webhooks_deliveries_redeliver_create": {
        403: PROBLEMS[403],
        409: (
            "The delivery is pending, or its endpoint is switched off.",
            {"delivery-pending": DELIVERY_PENDING, "endpoint-switched-off": SWITCHED_OFF},
        ),
    },
    "analytics_sales_list": {403: PROBLEMS[403]},
    "analytics_reports_create": {403: PROBLEMS[403]},
    "analytics_reports_retrieve": {403: PROBLEMS[403]},
}
