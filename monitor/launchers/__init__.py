"""Ways to send a trainer for a queued job: one module for each, found by scanning."""
