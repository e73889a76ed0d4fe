"""Remote keys: fetched, kept fresh, kept over restarts.

Knows: HTTP and TLS towards a key server, when to try again, what to hold on to while it fails. Must not know: policies,
tokens beyond a ``kid``, or what keys are used for: ``store.KeyStore`` implements ``eastgate.keys.ring.KeyRing``, and
that is all anybody asks.
Rules: RFC 7517; no redirect, no encoding, bounded bodies and times, TLS never weaker than asked.
"""
