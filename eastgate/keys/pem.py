"""PEM read: public keys and certificates, one block after another.

Knows: RFC 7468's textual form, tolerant of the indentation that YAML leaves behind. Takes ``PUBLIC KEY``, ``RSA
PUBLIC KEY`` and ``CERTIFICATE``; of a certificate only the key is used, its dates and its signature are not looked at
(as in Envoy). A private key is refused: it has no business in a policy. Must not know: JSON, sets.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64FormatError
from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import load_der_x509_certificate

from eastgate.keys.key import Key, build_ec_key, build_okp_key, build_rsa_key
from eastgate.keys.problems import KeyProblem, KeySetError

_BEGIN, _END, _DASHES = "-----BEGIN ", "-----END ", "-----"


def looks_like_pem(text: str) -> bool:
    """Whether there is a PEM block in a text that is not JSON."""
    return _BEGIN in text and not text.lstrip().startswith(("{", "["))


def split_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(label, base64 body) of each block in turn; a block without an end raises. Text between blocks is a comment."""
    position = text.find(_BEGIN)
    while position >= 0:
        label_end = text.find(_DASHES, position + len(_BEGIN))
        label = text[position + len(_BEGIN) : label_end]
        if label_end < 0 or "\n" in label:
            raise KeySetError(KeyProblem.PEM_PARSE_ERROR, "a BEGIN line without its end")
        end_line = f"{_END}{label}{_DASHES}"
        end = text.find(end_line, label_end)
        if end < 0:
            raise KeySetError(KeyProblem.PEM_PARSE_ERROR, "a PEM block without its END line")
        yield label, "".join(text[label_end + len(_DASHES) : end].split())
        position = text.find(_BEGIN, end)


def read_block(label: str, body: str, kid: str = "") -> Key:
    """The key of one block."""
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"):
        hint = "a private key where a public key belongs" if "PRIVATE" in label else "not a public key or certificate"
        raise KeySetError(KeyProblem.PEM_NOT_IMPLEMENTED_KTY, hint)
    certificate = label == "CERTIFICATE"
    broken = KeyProblem.X509_PARSE_ERROR if certificate else KeyProblem.PEM_PARSE_ERROR
    try:
        der = b64decode(body, validate=True)
        material = load_der_x509_certificate(der).public_key() if certificate else load_der_public_key(der)
    except (Base64FormatError, ValueError, TypeError, UnsupportedAlgorithm):
        raise KeySetError(broken) from None
    if isinstance(material, RSAPublicKey):
        return build_rsa_key(material, kid)
    if isinstance(material, EllipticCurvePublicKey):
        return build_ec_key(material, kid)
    if isinstance(material, Ed25519PublicKey):
        return build_okp_key(material, kid)
    raise KeySetError(KeyProblem.X509_NO_PUBLIC_KEY if certificate else KeyProblem.PEM_NOT_IMPLEMENTED_KTY)
