"""The template's: tools for development only; nothing in `app` imports them. Updates mend it."""
