"""Fixtures of this service's own tests.

The template's are in ``template_tools/pytest_plugin.py``: ``client`` calls the application,
``bearer`` makes a caller's headers, ``session`` sees what the application wrote, and ``provider``
is the identity provider, which can be told to misbehave.

Tests read no setting from the environment or from .env. What the service's own settings need in
them is set here, before the application is imported: ``os.environ["BILLING_URL"] = "https://..."``.
"""
