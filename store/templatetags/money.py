"""The filter for amounts of money in templates: ``{{ order.total|money:order.currency }}``."""

from django.template import Library

from store.money import money

register = Library()
register.filter("money", money)
