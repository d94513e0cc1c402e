"""Reports about a period: one file for each kind, exposing one constant `REPORT`, found by scanning this package."""
