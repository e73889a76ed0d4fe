"""The control plane: admission (inject and validate), certificates, and the controller that brings policy to pods.

Knows: pods, AdmissionReviews and, through one module, the Kubernetes API.
Must not know: mitmproxy, ``sidecar``, or how a request is decided.
"""
