"""Errors that say what shall become of a task."""


class PermanentError(Exception):
    """
    Raised by a task that can never succeed: it is dead at once, and no attempt is wasted on it.

    A person may replay it from the dead letters after mending the cause.
    """
