"""The Gateway API's own kinds: routes, Gateways, and the references between them.

Knows: HTTPRoute, GRPCRoute, Gateway, ListenerSet, BackendTLSPolicy, ReferenceGrant and the Services behind them; Envoy
Gateway's Backend and HTTPRouteFilter, because routes and policies refer to them. Must not know: SecurityPolicy, which
is ``envoy_gateway``'s, or Gloo. Rules: Gateway API v1 and its enhancement proposals.
"""
