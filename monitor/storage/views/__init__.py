"""Read models for the API and the status page. Every query is bounded in rows and in time."""
