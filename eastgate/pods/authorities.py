"""Certificate authorities that are trusted besides the system's, for fetching keys: PEM text in, a canonical set out.

A company's own authority is given to ``serve`` as a file, and to the controller, which passes it on in every bundle.
What is kept of a file are its certificates: comments, other blocks and repetitions are not. A private key in it is
somebody's mistake, and is refused before it travels to every pod. Any certificate may be trusted, also a server's own,
as everywhere in Envoy and OpenSSL (partial chains).

Knows: PEM, X.509. Must not know: how files are read, TLS connections, bundles. Rules: RFC 7468 (PEM), RFC 5280.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

MAX_CERTIFICATES: Final = 256
MAX_BYTES: Final = 512 * 1024
"""Of all certificates together, as PEM. Mozilla's whole list of public authorities is some 150 in 230 KiB: it fits,
and so takes a twentieth of what a bundle can hold."""

MAX_TEXT: Final = 1024 * 1024
"""Bytes of a file: as much as a ConfigMap holds."""

ACCEPTED: Final = (
    f"certificates in PEM (`-----BEGIN CERTIFICATE-----`), at most {MAX_CERTIFICATES} with {MAX_BYTES // 1024} KiB"
)

_BLOCK = re.compile(r"-----BEGIN ([^\r\n-]{0,64})-----(.*?)(-----END \1-----|(?=-----BEGIN )|\Z)", re.DOTALL)
_LONGEST_SUBJECT: Final = 256

# Old authorities with a serial number of 0, which some public ones are, would be a line on stderr each time.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning, module=re.escape(__name__))


class AuthoritiesError(Exception):
    """What is wrong with a set of authorities, as the end of a sentence that begins with whose it is. ``str()`` quotes
    nothing of it.
    """


@dataclass(frozen=True, slots=True, order=True)
class Authority:
    """One certificate. ``fingerprint`` is the SHA-256 of its DER, in hexadecimal; ``subject`` is for people."""

    fingerprint: str
    subject: str = field(compare=False)
    pem: str = field(repr=False, compare=False)


type Authorities = tuple[Authority, ...]
"""Each once, in the order of their fingerprints: the same authorities are the same value."""


def read_authorities(text: str) -> Authorities:
    """The certificates of a PEM file. Raises ``AuthoritiesError``."""
    if len(text) > MAX_TEXT:
        raise AuthoritiesError(f"has more than {MAX_TEXT} bytes; accepted: {ACCEPTED}")
    found: list[Authority] = []
    for label, body, end in _BLOCK.findall(text):
        if "PRIVATE" in label:
            raise AuthoritiesError(f"holds a private key, which nobody else should ever see; accepted: {ACCEPTED}")
        if label != "CERTIFICATE":
            continue
        if not end:
            raise AuthoritiesError(f"ends in the middle of certificate {len(found) + 1}; accepted: {ACCEPTED}")
        found.append(_read_certificate(f"-----BEGIN CERTIFICATE-----{body}{end}\n", len(found) + 1))
    if not found:
        raise AuthoritiesError(f"holds no certificate; accepted: {ACCEPTED}")
    return unite_authorities(found)


def unite_authorities(*sets: Iterable[Authority]) -> Authorities:
    """All of them as one set. Raises ``AuthoritiesError`` for more than ``MAX_CERTIFICATES`` or ``MAX_BYTES``."""
    united = tuple(sorted({one for authorities in sets for one in authorities}))
    size = sum(len(one.pem) for one in united)
    if len(united) > MAX_CERTIFICATES or size > MAX_BYTES:
        raise AuthoritiesError(f"holds {len(united)} certificates with {size // 1024} KiB; accepted: {ACCEPTED}")
    return united


class TrustedFiles:
    """The authorities of some files together. A file that cannot be used leaves what it said before in force.

    ``read`` gives the text of a path, or its first ``MAX_TEXT + 1`` characters; it may raise ``OSError``. Not for
    several threads at a time.
    """

    def __init__(self, paths: Sequence[str], read: Callable[[str], str]) -> None:
        self.paths = tuple(paths)
        self.authorities: Authorities = ()
        self.problems: tuple[str, ...] = ()
        """What is wrong with the files as they are now."""
        self._read = read
        self._held: dict[str, Authorities] = {}

    def refresh(self) -> tuple[str, ...]:
        """Read all of them. The answer is what is wrong, as far as it was not the last time."""
        problems = []
        for path in self.paths:
            try:
                self._held[path] = read_authorities(self._read(path))
            except OSError as error:
                problems.append(f"`{path}` cannot be read: {(error.strerror or 'error').lower()}")
            except AuthoritiesError as error:
                problems.append(f"`{path}` {error}")
        try:
            self.authorities = unite_authorities(*self._held.values())
        except AuthoritiesError as error:
            problems.append(f"{', '.join(f'`{path}`' for path in self.paths)} together: {error}")
        known, self.problems = self.problems, tuple(problems)
        return tuple(problem for problem in problems if problem not in known)


def write_pem(authorities: Authorities) -> str:
    """One PEM text of all of them, as TLS libraries take it."""
    return "".join(one.pem for one in authorities)


def describe_authorities(authorities: Authorities) -> dict[str, object]:
    """For ``/config``: how many, and whose."""
    return {"count": len(authorities), "subjects": sorted(one.subject for one in authorities)}


def _read_certificate(pem: str, number: int) -> Authority:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        # Written anew: what stands beside the certificate in its block (headers, blanks) is not passed on.
        der, text = certificate.public_bytes(Encoding.DER), certificate.public_bytes(Encoding.PEM).decode("ascii")
    except (ValueError, x509.InvalidVersion):
        raise AuthoritiesError(f"holds a certificate, number {number}, that cannot be read") from None
    return Authority(hashlib.sha256(der).hexdigest(), _name_subject(certificate), text)


def _name_subject(certificate: x509.Certificate) -> str:
    try:
        subject = certificate.subject.rfc4514_string()
    except ValueError:  # a name that is not as it should be is no reason to distrust the key
        subject = ""
    subject = subject if subject.isprintable() else ascii(subject)[1:-1]
    return subject[:_LONGEST_SUBJECT] or "(no subject)"
