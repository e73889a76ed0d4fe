"""Keys: what a JWKS, a JWK or a PEM block says, which key may verify which token, and when to fetch again.

Knows: JSON (strictly), key types and algorithms, rotation arithmetic. Must not know: how anything is fetched, or
tokens beyond ``alg`` and ``kid``. Fetching is the ``KeyRing`` protocol, implemented by ``sidecar.jwks.store``.
Rules: RFC 7517, RFC 7518, RFC 8037, RFC 8725; Envoy's jwks.cc for what is skipped and how failures are named.
"""
