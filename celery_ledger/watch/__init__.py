"""Who is at work, and what is wrong."""
