"""Our own kinds: ``policy.eastgate.dev/v1alpha1`` JWTPolicy and RouteTable. This docstring is their API.

They have the shape of Gloo's, so that a Gloo policy becomes ours by its first line, and go on where Gloo's ends::

    apiVersion: policy.eastgate.dev/v1alpha1
    kind: JWTPolicy
    metadata: {name: orders, namespace: shop}
    spec:
      applyToRoutes:                         # none of both: every route of the namespace
      - route: {labels: {app: orders}}       # all labels, of the route or its table; namespace: another one
      - withDestinations: {selector: {name: orders}, port: {number: 8080}}
      applyToDestinations:                   # every request to a Service, routed or not
      - {selector: {name: orders}, port: {name: http}}
      config:
        phase: {preAuthz: {priority: 0}}
        missing: Deny                        # Deny | Allow: a request without a token
        failed: Deny                         # Deny | Allow: a request with a bad one
        # validationPolicy: REQUIRE_VALID    # or Gloo's word for both
        tokens: All                          # All | Any: every token that is found must be good, or one of them
        providers:                           # any of them
          login:
            issuer: https://login.example.com/
            audiences: [orders]
            tokenSource:                     # replaces Authorization: Bearer and ?access_token=
              headers: [{name: X-Auth, prefix: "Bearer "}]
              queryParams: [auth_token]
              cookies: [session]
            requiredClaims: [exp, sub]       # must be there, whatever they say
            clockSkewSeconds: 60
            keepToken: false
            claimsToHeaders:
            - {claim: org, header: x-org, append: false}
            - {path: [realm_access, roles], header: x-roles}
            customDelimiter: ","             # of what is appended; "": another header field
            outputPayloadToHeader: x-payload
            remote:                          # a JWKS behind a URL
              url: https://login.example.com/.well-known/jwks.json
              destinationRef: {ref: {name: login, namespace: identity}, port: {number: 8443}}
              caCertificate: {configMapRef: {name: login-ca, key: ca.crt}}   # or inline / secretRef
              serverName: login.example.com
              cacheDuration: 5m
              timeout: 5s
              failedRefetchDuration: 1s
              retryPolicy: {numRetries: 1, retryOn: [5xx, reset], backoff: {baseInterval: 1s, maxInterval: 10s}}
          partner:
            local:                           # or jwks: the same by another name; PEM, JWK or JWKS
              configMapRef: {name: partner-keys, key: jwks.json}   # or secretRef, or inline: text
        claims:                              # all entries; one of values, none of notValues; * is a wildcard
        - {key: org, values: [internal, "partner-*"]}
        - {path: [realm_access, roles], values: [buyer], notValues: [blocked]}
        - {key: tier, valueType: String, values: [gold]}   # String | StringArray: that type only, no wildcards
        requiredScopes: ["orders:read"]      # all of them

Instead of ``claims`` and ``requiredScopes`` there may be ordered rules, of which the first that matches decides; all
that is set in a rule must hold, lists in it are alternatives, except ``headers``, ``claims`` and ``scopes``::

    config:
      authorization:
        defaultAction: Deny
        rules:
        - name: readers
          action: Allow
          methods: [GET, HEAD]
          paths: [{segments: /orders}, {exact: /health}, {regex: "/v[0-9]+/orders", invert: false}]
          headers: [{name: x-tenant, value: blue}]
          addresses: [10.0.0.0/8]            # of the connecting peer
          provider: login                    # none: whichever accepted the token
          claims: [{key: org, values: [internal]}]
          scopes: ["orders:read"]

A RouteTable is Gloo's, with ``uri.segments`` (whole path elements) beside ``exact``, ``prefix`` and ``regex``; without
``hosts`` it holds for every host. References to another namespace's Secret or ConfigMap need a ReferenceGrant there,
unless what they hold is nothing but PEM public keys.
"""

from __future__ import annotations

from eastgate.dialects.catalogue import Catalogue
from eastgate.dialects.gloo.dialect import Dialect, Scope
from eastgate.dialects.gloo.policy import read_policies
from eastgate.dialects.gloo.routes import read_routes
from eastgate.dialects.kinds import OWN_GROUP
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.policies import Policy
from eastgate.model.routes import Route

EASTGATE = Dialect("eastgate", OWN_GROUP, OWN_GROUP, own=True)


def read(catalogue: Catalogue, sink: list[Diagnostic]) -> tuple[list[Policy], list[Route]]:
    """The policies and routes of our own kinds."""
    scope = Scope(EASTGATE, catalogue, sink)
    return list(read_policies(scope)), read_routes(scope)
