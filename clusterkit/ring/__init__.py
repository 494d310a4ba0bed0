"""The ring of members, as users call it from code."""
