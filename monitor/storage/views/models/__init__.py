"""What people are shown, as frozen models, by subject."""
