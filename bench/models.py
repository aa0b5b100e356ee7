"""The tables of the work that all contenders do. They have no migrations: ``migrate --run-syncdb`` makes them."""

from django.db import models
from django.db.models.functions import Now


class Product(models.Model):
    title = models.CharField(max_length=100)
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)


class Stock(models.Model):
    product = models.OneToOneField(Product, on_delete=models.CASCADE, primary_key=True)
    on_hand = models.BigIntegerField()
    reserved = models.BigIntegerField(default=0)


class Order(models.Model):
    total = models.DecimalField(max_digits=18, decimal_places=2)
    placed_at = models.DateTimeField(db_default=Now())


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)


class Effect(models.Model):
    """
    What a task leaves behind. Nothing forbids two of a kind: the bench counts them.

    The table has a column ``written_at`` as well, which the database fills and Django does not know, so
    that no contender pays for it.
    """

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    kind = models.CharField(max_length=20)
