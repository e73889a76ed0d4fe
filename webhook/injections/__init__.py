"""What becomes of a pod: a raw pod dict and the circumstances in, a JSON patch, a skip or a refusal out. Pure.

Knows: pods as raw dicts, whose unknown fields it never looks at and never loses. The patch holds ``add`` operations
only (RFC 6902), so that what other webhooks did stays, and a second run adds nothing twice.
Must not know: Flask, AdmissionReviews, the cluster, or how a request is decided.
"""
