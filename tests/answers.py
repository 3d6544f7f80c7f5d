"""The answer sets that the tests render, and what a test expects of them."""

type Answers = dict[str, str]

DEFAULTS: Answers = {}

# Every question answered, with whatever is awkward and allowed.
EVERYTHING: Answers = {
    "project_name": 'Größe & Co: "Überweisung\'s Best"',
    "project_slug": "orders-service",
    "description": 'It\'s 50% off: "C:\\new" {{ braces }} {% tags %} # no comment \N{PARTY POPPER}',
    "python_version": "3.13",
    "database_url": "postgresql+asyncpg://app@db.example.com:5432/orders?sslmode=require",
    "sso_issuer": "https://sso.example.com:8443/realms/main",
    "sso_audience": "https://api.example.com/orders?a='b'\\n#c",
    "sso_client_id": "orders \"service\" 'one' \\n #2 $HOME",
    "sso_client_secret": "s3cr3t 'quoted' \"twice\" \\n #hash $HOME %s {{ x }}",
    "sso_mode": "both",
    "token_cache": "valkey",
    "local_passwords": "yes",
    "ci": "github",
    "deploy": "kubernetes",
}

# As little as can be: the shortest answers, no CI and no container.
NOTHING: Answers = {
    "project_name": "X",
    "project_slug": "x9",
    "description": "-",
    "sso_audience": "a",
    "sso_client_id": "c",
    "ci": "none",
    "deploy": "none",
}

# The newest Python that can be chosen, and the other CI.
NEWEST_PYTHON: Answers = {
    "project_name": "Newest",
    "python_version": "3.15",
    "sso_mode": "jwt",
    "ci": "gitlab",
}

# The language that is not the default, and what is awkward in it.
SPANISH: Answers = {
    "language": "es",
    "project_name": "¿Señales?",
    "description": "Qué «señal» llegó, y cuándo; ¡sin demora!",
    "deploy": "kubernetes",
}

# What makes a project install every package that any project does.
EVERY_PACKAGE: Answers = {"token_cache": "valkey", "local_passwords": "yes"}

ANSWER_SETS: dict[str, Answers] = {
    "defaults": DEFAULTS,
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "newest_python": NEWEST_PYTHON,
    "spanish": SPANISH,
}
