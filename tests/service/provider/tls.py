"""Serving over TLS, for clients that authenticate with a certificate (RFC 8705 §2.1)."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from fastapi import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from template_tools.provider.config import ProviderError


@dataclass(frozen=True)
class ProviderTls:
    """The files of an https provider, all in PEM.

    The certificate is the server's own. A client may show one that `client_ca_file` has signed;
    no other passes the handshake.
    """

    certificate_file: Path
    private_key_file: Path
    client_ca_file: Path

    def context(self) -> ssl.SSLContext:
        """Read the files; raise ProviderError when they cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A browser or a client with a secret has no certificate, and is welcome too.
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_cert_chain(self.certificate_file, self.private_key_file)
            context.load_verify_locations(self.client_ca_file)
        except OSError as error:
            raise ProviderError(
                f"The provider's TLS files cannot be used ({error}): "
                f"check {self.certificate_file}, {self.private_key_file} and {self.client_ca_file}."
            ) from error
        return context


class CertificateProtocol(H11Protocol):
    """HTTP that shows the client's certificate to the application, which uvicorn alone does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the certificate, which the handshake has verified, into each request's state."""
        super().connection_made(transport)
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "client_certificate": certificate}

    def shutdown(self) -> None:
        """Hang up at once when the server stops.

        A polite end of TLS waits for a client that may not be listening, and an event loop that
        closes meanwhile complains about the connection, or hangs where warnings are errors.
        """
        super().shutdown()
        self.transport.abort()


def certificate_name(request: Request) -> str | None:
    """Return the common name in the client's certificate; None without a certificate or a name."""
    certificate = getattr(request.state, "client_certificate", None)
    if certificate is None:
        return None
    subject = x509.load_der_x509_certificate(certificate).subject
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[0] if len(names) == 1 else None
