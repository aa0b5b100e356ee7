"""
The code in a contender's processes: its three tasks, and ``enqueue(order)``.

Workers import these modules first, so Django is set up here.
"""

import django
from django.apps import apps

if not apps.ready and not apps.loading:
    django.setup()
