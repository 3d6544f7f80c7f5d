"""Print a key set, and JWTs that its key has signed: ``tokens COUNT ISSUER``."""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

count, issuer = int(sys.argv[1]), sys.argv[2]
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
claims = {
    "iss": issuer,
    "sub": "subject-1",
    "preferred_username": "user-1",
    "client_id": "web",
    "aud": "benchmark",
    "scope": "user:read user:write",
    "iat": int(time.time()),
    "exp": int(time.time()) + 36_000,
}
header = {"typ": "at+jwt", "kid": "benchmark"}
tokens = [
    jwt.encode(claims | {"jti": str(number)}, key, "RS256", headers=header)
    for number in range(count)
]
json.dump({"jwks": {"keys": [document | {"kid": "benchmark"}]}, "tokens": tokens}, sys.stdout)
