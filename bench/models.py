"""The tables for the work of all contenders. They have no migrations: ``migrate --run-syncdb`` makes them."""

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
    The effect of a task. Duplicates are possible: the bench counts them.

    The table also has a column ``written_at``, which the database fills and Django does not know, so that it costs no
    contender anything.
    """

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    kind = models.CharField(max_length=20)
