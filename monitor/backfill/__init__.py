"""Past windows judged again out of an archive, on an engine that exists: one file for each engine."""
