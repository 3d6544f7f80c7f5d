"""Development only: nothing in `app` imports this package."""
