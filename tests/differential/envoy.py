"""A real Envoy that does the same job: a policy set as a bootstrap file, and the process that runs it.

The translation is written for this test alone and shares nothing with ``eastgate.compile``, so that both can be wrong
only independently. What Envoy cannot say is refused with ``UntranslatableError`` and the case file is left out.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eastgate.model.keys import LocalKeys
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Policy, Provider, Rule, RuleAction
from eastgate.model.routes import Action, Comparison, FieldMatch, Match, Route, StringMatch
from eastgate.model.sets import PolicySet
from tests.ports import free_port

ENVOY = Path(sys.executable).parent / "envoy"
TYPES = "type.googleapis.com/envoy.extensions.filters"
JWT = "envoy.filters.http.jwt_authn"
RBAC = "envoy.filters.http.rbac"


class UntranslatableError(Exception):
    """The policy set says something that this Envoy configuration does not."""


def build_bootstrap(
    policy_set: PolicySet, remote_keys: dict[str, str], port: int, admin: int, upstream: int, key_server: int = 1
) -> dict[str, Any]:
    """The bootstrap for a policy set. Paths are normalised as Envoy Gateway's listeners do."""
    providers: dict[str, Any] = {}
    requirements: dict[str, Any] = {}
    authorizations: dict[str, Any] = {}
    for policy in policy_set.policies:
        if policy.invalid:
            raise UntranslatableError(f"{policy} is invalid")
        key = f"{policy.name.namespace}/{policy.name.name}"
        requirements[key] = _requirement(policy, key, providers, remote_keys)
        names = [provider.name for provider in policy.requirement.providers] if policy.requirement else []
        authorizations[key] = _rules(policy.authorization, key, names) if policy.authorization else None
    routes = policy_set.routes or (None,)
    hosts: dict[str, list[dict[str, Any]]] = {}
    for route in sorted(routes, key=_precedence):
        if route is not None and route.action is not Action.FORWARD:
            continue
        chosen = _choose_policy(route, policy_set.policies)
        for domain in _domains(route):
            for match in _matches(route):
                hosts.setdefault(domain, []).append(
                    {
                        "match": match,
                        "route": {"cluster": "application"},
                        "typed_per_filter_config": _per_route(chosen, authorizations),
                    }
                )
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "differential",
        "codec_type": "AUTO",
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "generate_request_id": False,
        "strip_trailing_host_dot": True,
        "use_remote_address": False,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": {
            "name": "routes",
            "ignore_port_in_host_matching": True,
            "virtual_hosts": [{"name": d, "domains": [d], "routes": r} for d, r in hosts.items()],
        },
        "http_filters": [
            {
                "name": JWT,
                "typed_config": {
                    "@type": f"{TYPES}.http.jwt_authn.v3.JwtAuthentication",
                    "providers": providers,
                    "requirement_map": requirements,
                },
            },
            {"name": RBAC, "typed_config": {"@type": f"{TYPES}.http.rbac.v3.RBAC"}},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
    }
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                _key_cluster(key_server),
                {
                    "name": "application",
                    "type": "STATIC",
                    "connect_timeout": "2s",
                    "load_assignment": {
                        "cluster_name": "application",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
                    },
                },
            ],
        },
    }


def _key_cluster(port: int) -> dict[str, Any]:
    """Where key sets are fetched: TLS without verification, which is not what is compared here."""
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    return {
        "name": "keys",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": "keys",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": tls}},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _per_route(policy: Policy | None, authorizations: dict[str, Any]) -> dict[str, Any]:
    if policy is None:
        return {
            JWT: {"@type": f"{TYPES}.http.jwt_authn.v3.PerRouteConfig", "disabled": True},
            RBAC: {"@type": f"{TYPES}.http.rbac.v3.RBACPerRoute"},
        }
    key = f"{policy.name.namespace}/{policy.name.name}"
    rules = authorizations[key]
    rbac: dict[str, Any] = {"@type": f"{TYPES}.http.rbac.v3.RBACPerRoute"}
    if rules is not None:
        rbac["rbac"] = {"rules": rules}
    return {JWT: {"@type": f"{TYPES}.http.jwt_authn.v3.PerRouteConfig", "requirement_name": key}, RBAC: rbac}


def _requirement(policy: Policy, key: str, providers: dict[str, Any], remote: dict[str, str]) -> dict[str, Any]:
    requirement = policy.requirement
    if requirement is None:
        return {"allow_missing_or_failed": {}}
    names = []
    for provider in requirement.providers:
        name = f"{key}/{provider.name}"
        providers[name] = _provider(provider, name, remote)
        names.append({"provider_name": name})
    if requirement.failed_allowed:
        names.append({"allow_missing_or_failed": {}})
    elif requirement.missing_allowed:
        names.append({"allow_missing": {}})
    return names[0] if len(names) == 1 else {"requires_any": {"requirements": names}}


def _provider(provider: Provider, name: str, remote: dict[str, str]) -> dict[str, Any]:
    if provider.required_claims or provider.payload_header:
        raise UntranslatableError("required claims and payload headers")
    keys: dict[str, Any]
    if isinstance(provider.keys, LocalKeys):
        keys = {"local_jwks": {"inline_string": provider.keys.text}}
    elif provider.keys.url in remote:
        uri = {"uri": provider.keys.url, "cluster": "keys", "timeout": "5s"}
        keys = {"remote_jwks": {"http_uri": uri, "cache_duration": {"seconds": 300}}}
    else:
        raise UntranslatableError(f"nobody serves {provider.keys.url}")
    built: dict[str, Any] = {
        **keys,
        "forward": provider.forward_token,
        "payload_in_metadata": name,
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope", "scp"]},
        "clock_skew_seconds": provider.clock_skew,
        "audiences": list(provider.audiences),
        "from_headers": [
            {"name": s.name, **({"value_prefix": s.prefix} if s.prefix else {})} for s in provider.sources.headers
        ],
        "from_params": list(provider.sources.query),
        "from_cookies": list(provider.sources.cookies),
        "claim_to_headers": [
            {"header_name": c.header, "claim_name": ".".join(c.path) if len(c.path) > 1 else c.claim}
            for c in provider.claim_headers
        ],
    }
    if provider.issuer is not None:
        built["issuer"] = provider.issuer
    return built


def _rules(authorization: Authorization, key: str, names: list[str]) -> dict[str, Any]:
    """First match wins, as one ALLOW rule set: an allow rule holds unless an earlier deny rule does."""
    policies: dict[str, Any] = {}
    denied: list[dict[str, Any]] = []
    for index, rule in enumerate(authorization.rules):
        condition = _condition(rule, key, names)
        if rule.action is RuleAction.DENY:
            denied.append(condition)
        else:
            ids = [condition, *({"not_id": one} for one in denied)]
            policies[f"{index}-{rule.name}"] = {
                "permissions": [{"any": True}],
                "principals": [{"and_ids": {"ids": ids}}],
            }
    if authorization.default is RuleAction.ALLOW:
        ids = [{"not_id": one} for one in denied] or [{"any": True}]
        policies["default"] = {"permissions": [{"any": True}], "principals": [{"and_ids": {"ids": ids}}]}
    return {"action": "ALLOW", "policies": policies}


def _condition(rule: Rule, key: str, names: list[str]) -> dict[str, Any]:
    if rule.paths or rule.inverted_paths or rule.addresses:
        raise UntranslatableError("paths and addresses in rules")
    ids: list[dict[str, Any]] = []
    if rule.methods:
        ids.append(_any([{"header": {"name": ":method", "string_match": {"exact": m.upper()}}} for m in rule.methods]))
    for name, values in rule.header_values:
        ids.append(_any([{"header": {"name": name, "string_match": {"exact": v}}} for v in values]))
    ids.extend({"header": _field(one)} for one in rule.headers)
    if rule.token is not None:
        if rule.token.provider is None and len(names) != 1:
            raise UntranslatableError("claims of whichever provider accepted")
        owner = f"{key}/{rule.token.provider or names[0]}"
        for claim in rule.token.claims:
            ids.append(_claim(claim, owner))
        for scope in rule.token.scopes:
            ids.append(
                _any(
                    [
                        _metadata(owner, [name], {"list_match": {"one_of": {"string_match": {"exact": scope}}}})
                        for name in ("scope", "scp")
                    ]
                )
            )
    return {"and_ids": {"ids": ids or [{"any": True}]}}


def _claim(claim: ClaimCondition, owner: str) -> dict[str, Any]:
    paths = [[claim.claim], list(claim.path)] if len(claim.path) > 1 else [list(claim.path)]
    if claim.type is not ClaimType.ANY:
        paths = [list(claim.path)]

    def matches(value: str) -> dict[str, Any]:
        text: dict[str, Any] = {"string_match": {"exact": value}}
        if claim.wildcards and "*" in value:
            text = {"string_match": {"safe_regex": {"regex": ".*".join(re.escape(part) for part in value.split("*"))}}}
        member = {"list_match": {"one_of": text}}
        kinds = {ClaimType.STRING: [text], ClaimType.LIST: [member], ClaimType.ANY: [text, member]}[claim.type]
        return _any([_metadata(owner, path, kind) for path in paths for kind in kinds])

    ids = [_any([matches(value) for value in claim.values])] if claim.values else []
    ids += [{"not_id": matches(value)} for value in claim.not_values]
    return {"and_ids": {"ids": ids}}


def _metadata(owner: str, path: list[str], value: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"filter": JWT, "path": [{"key": owner}, *({"key": part} for part in path)], "value": value}}


def _any(options: list[dict[str, Any]]) -> dict[str, Any]:
    return options[0] if len(options) == 1 else {"or_ids": {"ids": options}}


def _choose_policy(route: Route | None, policies: tuple[Policy, ...]) -> Policy | None:
    selected = [policy for policy in policies if _selects(policy, route)]
    selected.sort(key=lambda policy: (policy.created or "9999", str(policy.name)))
    return selected[0] if selected else None


def _selects(policy: Policy, route: Route | None) -> bool:
    if any(target.target.kind == "Gateway" for target in policy.targets):
        raise UntranslatableError("policies on Gateways")
    if policy.destinations:
        raise UntranslatableError("destination selectors")
    if route is None:
        return True
    if policy.everything:
        return policy.name.namespace == route.namespace
    labels = set(route.labels)
    if any(
        set(s.labels) <= labels and (s.namespace or policy.name.namespace) == route.namespace for s in policy.routes
    ):
        return True
    return any(target.target == route.origin and target.section in (None, route.section) for target in policy.targets)


def _precedence(route: Route | None) -> Any:
    if route is None or route.order == "listed":
        return 0
    longest = max((len(m.path.value) for m in route.matches if m.path), default=0)
    return -longest


def _domains(route: Route | None) -> list[str]:
    if route is None:
        return ["*"]
    names = list(route.hosts) or ["*"]
    for destination in route.destinations:
        if destination.kind == "Service":
            full = f"{destination.name}.{destination.namespace}"
            names += [destination.name, full, f"{full}.svc", f"{full}.svc.cluster.local"]
    return list(dict.fromkeys(names))


def _matches(route: Route | None) -> list[dict[str, Any]]:
    if route is None or not route.matches:
        return [{"prefix": "/"}]
    return [_match(one) for one in route.matches]


def _match(match: Match) -> dict[str, Any]:
    built = _path(match.path)
    built["headers"] = [_field(one) for one in match.headers]
    if match.method:
        built["headers"].append({"name": ":method", "string_match": {"exact": match.method}})
    if match.query or match.port:
        raise UntranslatableError("query and port matches")
    return built


def _path(path: StringMatch | None) -> dict[str, Any]:
    if path is None or path.comparison is Comparison.PRESENT:
        return {"prefix": "/"}
    if path.comparison is Comparison.SEGMENTS:
        return {"prefix": "/"} if path.value in ("", "/") else {"path_separated_prefix": path.value.rstrip("/")}
    kinds = {Comparison.EXACT: "path", Comparison.PREFIX: "prefix"}
    if path.comparison is Comparison.REGEX:
        return {"safe_regex": {"regex": path.value}}
    return {kinds[path.comparison]: path.value, "case_sensitive": not path.ignore_case}


def _field(match: FieldMatch) -> dict[str, Any]:
    value: dict[str, Any]
    if match.value.comparison is Comparison.PRESENT:
        value = {"present_match": True}
    elif match.value.comparison is Comparison.REGEX:
        value = {"string_match": {"safe_regex": {"regex": match.value.value}}}
    else:
        value = {"string_match": {match.value.comparison.value: match.value.value}}
    return {"name": match.name, "invert_match": match.invert, **value}


@contextlib.contextmanager
def run_envoy(policy_set: PolicySet, remote_keys: dict[str, str], upstream: int, key_server: int = 1) -> Iterator[int]:
    """A running Envoy; yields the port of its listener."""
    port, admin = free_port(), free_port()
    bootstrap = build_bootstrap(policy_set, remote_keys, port, admin, upstream, key_server)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(bootstrap))
        log = Path(folder) / "log"
        with log.open("w") as sink:
            process = subprocess.Popen(
                [ENVOY, "-c", config, "--disable-hot-restart", "--concurrency", "1", "-l", "error"],
                stdout=sink,
                stderr=sink,
            )
        try:
            _wait_until_ready(process, admin, log)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_ready(process: subprocess.Popen[bytes], admin: int, log: Path) -> None:
    ready = f"http://127.0.0.1:{admin}/ready"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"envoy did not start:\n{log.read_text()}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(ready, timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"envoy is not ready:\n{log.read_text()}")
