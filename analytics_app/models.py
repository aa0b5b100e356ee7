"""Sales figures: one record per order, and sums by day and product."""

from django.db import models

from store.models import Order, Product


class SaleRecord(models.Model):
    """An order as counted by analytics. One per order: its existence proves that the order was counted."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT, related_name="sale")
    day = models.DateField(db_index=True, help_text="The day of the order, in UTC.")
    country = models.CharField(max_length=64, blank=True)
    units = models.BigIntegerField()
    revenue = models.DecimalField(max_digits=18, decimal_places=2)
    currency = models.CharField(max_length=3)
    reversed_at = models.DateTimeField(null=True, blank=True, help_text="When the order's cancellation was counted.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"sale of order {self.order_id}"


class DailySales(models.Model):
    """The sales of one product on one day, without cancelled orders."""

    day = models.DateField()
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    orders = models.BigIntegerField(default=0)
    units = models.BigIntegerField(default=0)
    revenue = models.DecimalField(max_digits=18, decimal_places=2, default=0)

    class Meta:
        ordering = ["-day", "product_id"]
        verbose_name_plural = "daily sales"
        constraints = [models.UniqueConstraint(fields=["day", "product"], name="one_row_a_day_and_product")]

    def __str__(self) -> str:
        return f"{self.day} product {self.product_id}"
