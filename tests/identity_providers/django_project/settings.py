"""The smallest Django project with django-oauth-toolkit, as its tutorial has it: under /o/.

The folder of the database comes from the environment. What is not here has Django's default, also
the hash of client secrets, which makes each introspection slow.
"""

import os
from pathlib import Path

ALLOWED_HOSTS = ["127.0.0.1"]
SECRET_KEY = "only for tests"
ROOT_URLCONF = "urls"
USE_TZ = True

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["STATE_FOLDER"]) / "db.sqlite3",
    }
}

OAUTH2_PROVIDER = {
    # The OpenID Connect document is then served, and it names no introspection endpoint.
    "OIDC_ENABLED": True,
    "SCOPES": {"openid": "Who you are", "read": "What you have"},
}
