"""Certificates for tests: an authority, a server on 127.0.0.1, and a client."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_AUTHORITY = "Test authority"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM; the authority has signed both certificates."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path, client_name: str = "app") -> Certificates:
    """Write new ones into an existing folder; `client_name` is the client's common name."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    files = Certificates(
        ca=folder / "ca.pem",
        server=folder / "server.pem",
        server_key=folder / "server-key.pem",
        client=folder / "client.pem",
        client_key=folder / "client-key.pem",
    )
    files.ca.write_bytes(_certificate(_AUTHORITY, ca_key, ca_key))
    _write_pair("127.0.0.1", ca_key, files.server, files.server_key)
    _write_pair(client_name, ca_key, files.client, files.client_key)
    return files


def _write_pair(
    name: str, ca_key: ec.EllipticCurvePrivateKey, certificate_file: Path, key_file: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate_file.write_bytes(_certificate(name, key, ca_key))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, ca_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """Sign a certificate with all that a strict verifier looks for (RFC 5280 §4.2.1)."""
    is_ca = key is ca_key
    public_key, ca_public_key = key.public_key(), ca_key.public_key()
    now = datetime.now(UTC)
    usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(_AUTHORITY))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public_key), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    )
    return builder.sign(ca_key, SHA256()).public_bytes(Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
