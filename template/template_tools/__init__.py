"""The template's tools for development. Nothing in `app` imports them; updates replace them."""
