"""Memory: what is free, what may be used, and the check before a large allocation."""
