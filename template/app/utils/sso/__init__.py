"""The template's: token validation. Updates bring fixes."""
