"""The project that due-work-harness judges, and what it is asked to look at."""
