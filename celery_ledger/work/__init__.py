"""From the broker to the effect."""
