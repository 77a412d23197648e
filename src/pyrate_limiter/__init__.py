"""An exact, fair, async-first rate limiter."""
