"""The vocabulary: frozen values that every other room speaks in.

Knows: what a route, a policy, a provider, a request, a decision and a diagnostic are.
Must not know: YAML, Kubernetes, sockets, time, or how anything is decided. Imports nothing but the standard library.
The names are those of the Gateway API, of Envoy's jwt_authn filter and of Gloo's JWTPolicy.
"""
