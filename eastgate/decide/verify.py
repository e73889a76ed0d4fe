"""The signature of one token: the only place that decides that a token is genuine.

Knows: which keys of a set may be tried and in what order. The mathematics is PyJWT's, through ``eastgate.keys.key``;
PyJWT's own reading of tokens and claims is not used, it is laxer than ours (``token``). Must not know: where a token
or a key came from. Rules: Envoy ``source/common/jwt/verify.cc``; RFC 8725 sections 3.1 and 3.2. Deliberately unlike
Envoy 1.40: an EC key or a shared secret without ``alg`` verifies only what the token's ``alg`` says (there an ES256
signature passes as RS256), a signature has one length, and an Ed25519 key in the set spoils no other key's token.
"""

from __future__ import annotations

from eastgate.decide import statuses
from eastgate.decide.statuses import Status
from eastgate.decide.token import ParsedToken
from eastgate.keys.algorithms import OKP_ALGORITHMS, SIGNATURE_BYTES
from eastgate.keys.keyset import KeySet


def verify_signature(token: ParsedToken, keys: KeySet) -> Status | None:
    """None when one of the keys made the signature. ``JWKS_KID_ALG_MISMATCH`` alone may be cured by a fetch."""
    algorithm = token.algorithm
    candidates = keys.candidates(algorithm, token.key_id)
    if not candidates:
        if keys.has_key_meant_for(algorithm, token.key_id):
            return statuses.JWT_VERIFICATION_FAILED
        return statuses.JWKS_KID_ALG_MISMATCH
    if algorithm in OKP_ALGORITHMS and len(token.signature) != SIGNATURE_BYTES[algorithm]:
        return statuses.JWT_ED25519_WRONG_LENGTH
    for key in candidates:
        if key.verify(algorithm, token.signing_input, token.signature):
            return None
    return statuses.JWT_VERIFICATION_FAILED
