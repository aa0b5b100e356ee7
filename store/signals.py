"""Signals of the shop. Listeners connect in their own ``apps.py``; the shop does not know them."""

from django.dispatch import Signal

from celery_ledger.signals import DurableSignal

order_created = DurableSignal("store.order_created")
"""
Sent once for every order that is placed, inside the transaction that stores it.

Arguments: ``order``, a :class:`store.models.Order` with its lines already saved.

Not sent when an order is edited, imported or loaded from a fixture. A receiver that failed is called
again, alone, by a durable task, so receivers must be repeatable.

A receiver enqueues and returns. It must not call the broker, the mail server or the network.
"""

order_announced = DurableSignal("store.order_announced")
"""
Sent right after ``order_created``, in the same transaction, to receivers that notify other systems.

Arguments: ``order``, as for ``order_created``.

The order's settlement does not wait for what its receivers enqueue, however long those systems are unavailable.
Not sent where ``order_created`` is not. Receivers must be repeatable, as for ``order_created``.
"""

order_reserved = DurableSignal("store.order_reserved")
"""
Sent once for every order that waits for its payment, inside the transaction that stores it and reserves its stock.

Arguments: ``order``, a :class:`store.models.Order` whose status is ``unpaid``.

Not sent in a shop without payments (``PAYMENT_URL``). ``order_created`` follows when the order is paid. Receivers
must be repeatable, as for ``order_created``.
"""

order_expired = DurableSignal("store.order_expired")
"""
Sent once for every order that expires unpaid, inside the transaction that gives its stock back: it was not paid in
time, its customer cancelled it, or the customer's account was deleted.

Arguments: ``order``, a :class:`store.models.Order` whose status is already ``expired``.

Not sent for an order that is already expired. Receivers must be repeatable, as for ``order_created``.
"""

order_cancelled = DurableSignal("store.order_cancelled")
"""
Sent once for every order that is cancelled, inside the transaction that cancels it.

Arguments: ``order``, a :class:`store.models.Order` whose status is already ``cancelled`` and whose
stock is already given back.

Not sent for an order that is already cancelled, nor for an unpaid one, which expires. Receivers must be repeatable,
as for ``order_created``.
"""

order_shipped = DurableSignal("store.order_shipped")
"""
Sent once for every order that is sent out, inside the transaction that marks it as shipped.

Arguments: ``order``, a :class:`store.models.Order` whose status is already ``shipped``.

Not sent for an order that is already shipped. Orders can be shipped by the hundred: a receiver enqueues and returns.
Receivers must be repeatable, as for ``order_created``.
"""

order_delivered = DurableSignal("store.order_delivered")
"""
Sent once for every order that has arrived, inside the transaction that marks it as delivered.

Arguments: ``order``, a :class:`store.models.Order` whose status is already ``delivered``.

Not sent for an order that is already delivered. Receivers must be quick and repeatable, as for ``order_shipped``.
"""

orders_settled = DurableSignal("store.orders_settled")
"""
Sent for orders whose stock is settled, many at once, inside the transaction that settles it and before the stock
changes.

Arguments: ``orders``, a list of their ids.

Not sent for an order that is already settled or cancelled, nor in a bulk import. Receivers must be
repeatable, as for ``order_created``.
"""

product_price_changed = DurableSignal("store.product_price_changed")
"""
Sent once for every product whose price changes, inside the transaction that changes it.

Arguments: ``product``, a :class:`store.models.Product` with its new price; ``old`` and
``new``, decimals. The :class:`store.models.PriceChange`, which records the user, is already written.

Sent for every save, and by ``manage.py import_retail`` and the admin's bulk change of
prices, for thousands at once, so a receiver should enqueue a batched task. Not sent for a new
product, for ``QuerySet.update``, nor while fixtures are loaded. Receivers must be repeatable, as for
``order_created``.
"""

catalogue_changed = DurableSignal("store.catalogue_changed")
"""
Sent for products and stock that are written in bulk, without Django's ``post_save``, inside the transaction that
writes them: a few hundred at a time.

Arguments: ``model``, such as ``store.product``; ``changes``, a list of ``[id, before, after]``, both with
the changed columns in JSON. ``before`` is empty for new rows.

Not sent when a single object is saved or deleted, nor for changes of stock by orders. Receivers must be
repeatable, as for ``order_created``.
"""

stock_low = DurableSignal("store.stock_low")
"""
Sent once whenever a product's available stock falls below its ``low_stock_threshold``, inside the
transaction that takes the stock: a checkout, or an edit of the stock.

Arguments: ``product``, a :class:`store.models.Product`.

Not sent again until the stock has reached the threshold in between; not for a threshold of 0; and not by imports,
nor when the threshold itself is raised: the daily sweep reports low stock whatever its cause.
Receivers must be repeatable, as for ``order_created``.
"""

address_wished = Signal()
"""
Sent when a customer asks to change the mail address, inside the transaction that saves the profile.

Arguments: ``user``; ``email``, the requested address.

An ordinary signal: the receiver in charge of addresses changes the address, or first mails it a request to confirm.
It raises :class:`store.customers.AddressTaken` or :class:`store.customers.TooManyAddresses` to refuse the request.
"""
