"""Whole decisions: what a client is told, and what the application sees."""

from __future__ import annotations

import dataclasses

import pytest

from eastgate.decide.memory import TokenMemory
from eastgate.model.decisions import Decision, KeysNeeded
from eastgate.model.keys import RemoteKeys
from eastgate.model.policies import (
    Authorization,
    ClaimHeader,
    HeaderSource,
    Requirement,
    Rule,
    RuleAction,
    TokenCondition,
    TokenSources,
)
from eastgate.model.routes import Action, Comparison, FieldMatch, Match, StringMatch
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched, Workload
from tests.unit.decide.scenes import (
    NOW,
    REMOTE,
    Ring,
    answer,
    ask,
    bearer,
    claim,
    claims_policy,
    compiled,
    exact,
    http_route,
    key_set,
    local_keys,
    policy,
    prefix,
    provider,
    request,
    segments,
    selecting,
    table,
    targeting,
    token,
    upstream,
)

TO_X_ORG = ClaimHeader("x-org", "org", ("org",))
SEED_SOURCES = TokenSources(headers=(HeaderSource("x-auth", "Bearer "),), query=("auth_token",))


def www(decision: Decision) -> bytes:
    return dict(decision.headers)[b"www-authenticate"]


class TestTokens:
    plan = compiled(policy())

    def test_missing(self) -> None:
        decision = answer(self.plan, request("/get?access=1"))
        assert (decision.allowed, decision.status, decision.reason) == (False, 401, "jwt_missing")
        assert decision.body == b"Jwt is missing"
        assert decision.headers == (
            (b"www-authenticate", b'Bearer realm="http://www.example.com/get"'),
            (b"content-type", b"text/plain"),
        )
        assert decision.policies == ("default/jwt",)
        assert decision.route == "implicit"
        assert decision.denied_by_policy

    def test_a_cookie_is_taken_out_of_each_requests_own_cookies(self) -> None:
        sources = TokenSources(cookies=("session",))
        plan, memory = compiled(policy(provider(sources=sources))), TokenMemory()
        for others in (b"a=1", b"b=2"):
            asked = request("/get", (b"cookie", others + b"; session=" + token()))
            assert upstream(answer(plan, asked, memory=memory), asked) == [(b"cookie", others)]
        forwarding = compiled(policy(provider(sources=sources, forward_token=True)))
        assert upstream(answer(forwarding, asked), asked) == list(asked.headers)

    def test_good(self) -> None:
        asked = request("/get", bearer(token()), (b"accept", b"*/*"))
        decision = answer(self.plan, asked)
        assert (decision.allowed, decision.status, decision.reason) == (True, 200, "allowed")
        assert upstream(decision, asked) == [(b"accept", b"*/*")]
        assert not decision.denied_by_policy

    @pytest.mark.parametrize(
        ("claims", "status", "body"),
        [
            ({"exp": int(NOW) - 61}, 401, b"Jwt is expired"),
            ({"nbf": int(NOW) + 61}, 401, b"Jwt not yet valid"),
            ({"iss": "https://other.example"}, 401, b"Jwt issuer is not configured"),
            ({"iss": ...}, 401, b"Jwt issuer is not configured"),
        ],
    )
    def test_bad_claims(self, claims: dict[str, object], status: int, body: bytes) -> None:
        decision = answer(self.plan, request("/", bearer(token("first", None, **claims))))
        assert (decision.allowed, decision.status, decision.body) == (False, status, body)
        assert www(decision) == b'Bearer realm="http://www.example.com/", error="invalid_token"'

    def test_audience_is_403_with_challenge(self) -> None:
        plan = compiled(policy(provider(audiences=("https://api.example/",))))
        decision = answer(plan, request("/", bearer(token(aud="other"))))
        assert (decision.status, decision.body) == (403, b"Audiences in Jwt are not allowed")
        assert www(decision).endswith(b'error="invalid_token"')
        assert answer(plan, request("/", bearer(token(aud=["x", "api.example"])))).allowed

    def test_signature_of_another_key(self) -> None:
        decision = answer(self.plan, request("/", bearer(token("second"))))
        assert (decision.status, decision.body) == (401, b"Jwt verification fails")

    def test_garbage(self) -> None:
        decision = answer(self.plan, request("/", bearer(b"a.b")))
        assert decision.reason == "jwt_bad_format"

    def test_expiry_has_clock_skew_to_the_end_of_its_second(self) -> None:
        memory = TokenMemory()
        asked = request("/", bearer(token(exp=int(NOW))))
        for now, good in [(NOW, True), (NOW + 60.9, True), (NOW + 61, False), (NOW + 62, False)]:
            assert answer(self.plan, asked, now=now, memory=memory).allowed is good
            assert answer(self.plan, asked, now=now).allowed is good

    def test_a_remembered_token_is_not_good_before_its_time(self) -> None:
        memory = TokenMemory()
        asked = request("/", bearer(token(nbf=int(NOW))))
        assert answer(self.plan, asked, now=NOW, memory=memory).allowed
        assert answer(self.plan, asked, now=NOW - 61, memory=memory).body == b"Jwt not yet valid"

    def test_every_token_of_a_provider_must_be_good(self) -> None:
        plan = compiled(policy(provider(sources=SEED_SOURCES)))
        good, bad = token(), token("second")
        header = (b"x-auth", b"Bearer " + good)
        assert answer(plan, request(b"/?auth_token=" + good, header)).allowed
        assert not answer(plan, request(b"/?auth_token=" + bad, header)).allowed
        assert not answer(plan, request(b"/?auth_token=" + good, (b"x-auth", b"Bearer " + bad))).allowed
        assert not answer(plan, request(b"/?auth_token=" + good + b"&auth_token=" + bad)).allowed
        assert not answer(plan, request("/", header, (b"x-auth", b"Bearer " + bad))).allowed

    def test_last_extracted_answers_first(self) -> None:
        plan = compiled(policy(provider(sources=SEED_SOURCES)))
        asked = request(b"/?auth_token=" + token(exp=1), (b"x-auth", b"Bearer " + token("second")))
        assert answer(plan, asked).body == b"Jwt is expired"

    def test_configured_places_replace_the_default_ones(self) -> None:
        plan = compiled(policy(provider(sources=SEED_SOURCES)))
        assert answer(plan, request("/", bearer(token()))).reason == "jwt_missing"
        assert answer(plan, request(b"/?access_token=" + token())).reason == "jwt_missing"

    def test_default_places(self) -> None:
        assert answer(self.plan, request(b"/?access_token=" + token())).allowed
        assert answer(self.plan, request("/", (b"authorization", b"bearer " + token()))).allowed

    def test_claim_that_is_no_header_value_is_refused(self) -> None:
        plan = compiled(policy(provider(claim_headers=(TO_X_ORG,))))
        decision = answer(plan, request("/", bearer(token(org="a\r\nx-admin: 1"))))
        assert (decision.allowed, decision.status, decision.reason) == (False, 401, "jwt_claim_unusable")
        assert decision.edits is None

    def test_an_enormous_token_is_not_even_hashed(self) -> None:
        decision = answer(self.plan, request("/", bearer(b"a" * 20_000)))
        assert (decision.status, decision.reason) == (401, "jwt_too_large")

    def test_required_claims(self) -> None:
        plan = compiled(policy(provider(required_claims=("jti",))))
        assert not answer(plan, request("/", bearer(token()))).allowed
        assert answer(plan, request("/", bearer(token(jti="1")))).allowed


class TestChallenge:
    plan = compiled(policy())

    def test_a_client_cannot_end_the_realm(self) -> None:
        asked = request('/a"b', host=b'evil"\\, x="\xff')
        assert www(answer(self.plan, asked)) == b'Bearer realm="http://evil%22%5C,%20x=%22%FF/a%22b"'

    def test_a_long_path_is_cut(self) -> None:
        assert (
            www(answer(self.plan, request("/" + "p" * 400))).count(b"p") == 255 + b"Bearer realm=http".count(b"p") + 1
        )

    def test_the_query_with_its_token_is_left_out(self) -> None:
        assert b"secret" not in www(answer(self.plan, request("/a?access_token=secret")))


class TestRequirement:
    def test_missing_allowed(self) -> None:
        plan = compiled(policy(requirement=Requirement((provider(),), missing_allowed=True)))
        assert answer(plan, request("/")).allowed
        assert answer(plan, request("/", bearer(token()))).allowed
        assert not answer(plan, request("/", bearer(token("second")))).allowed
        # A token of an unknown issuer is not a missing one (CVE-2021-21378).
        assert answer(plan, request("/", bearer(token(iss="x")))).body == b"Jwt issuer is not configured"

    def test_missing_allowed_does_not_meet_a_rule_over_claims(self) -> None:
        rules = Authorization((Rule("r", RuleAction.ALLOW, TokenCondition(claims=(claim("org", not_values=("x",)),))),))
        plan = compiled(policy(requirement=Requirement((provider(),), missing_allowed=True), authorization=rules))
        decision = answer(plan, request("/"))
        assert (decision.status, decision.body, decision.reason) == (403, b"RBAC: access denied", "rbac_access_denied")
        assert decision.headers == ((b"content-type", b"text/plain"),)
        assert answer(plan, request("/", bearer(token()))).allowed

    def test_failed_allowed_passes_without_claims(self) -> None:
        requirement = Requirement((provider(claim_headers=(TO_X_ORG,)),), missing_allowed=True, failed_allowed=True)
        plan = compiled(policy(requirement=requirement))
        asked = request("/", bearer(token("second", org="evil")), (b"x-org", b"spoofed"))
        assert upstream(answer(plan, asked), asked) == [asked.headers[0]]
        asked = request("/", bearer(token(org="good")))
        assert upstream(answer(plan, asked), asked) == [(b"x-org", b"good")]

    def test_any_provider_will_do(self) -> None:
        other = provider("other", issuer="https://other.example", keys=local_keys("second"))
        plan = compiled(policy(provider(), other))
        assert answer(plan, request("/", bearer(token()))).allowed
        assert answer(plan, request("/", bearer(token("second", iss="https://other.example")))).allowed
        assert answer(plan, request("/", bearer(token(iss="third")))).body == b"Jwt issuer is not configured"
        # The error that says something about the token answers, not the other provider's "unknown issuer".
        assert answer(plan, request("/", bearer(token(exp=1)))).body == b"Jwt is expired"
        assert answer(plan, request("/")).body == b"Jwt is missing"

    def test_providers_may_share_an_issuer(self) -> None:
        plan = compiled(policy(provider("a"), provider("b", keys=local_keys("second"))))
        assert answer(plan, request("/", bearer(token()))).allowed
        assert answer(plan, request("/", bearer(token("second")))).allowed
        assert not answer(plan, request("/", bearer(token("third")))).allowed

    @pytest.mark.parametrize("every_token", [True, False])
    def test_every_token_looks_in_all_places(self, every_token: bool) -> None:
        first = provider("first", sources=TokenSources(headers=(HeaderSource("x-first"),)))
        second = provider(
            "second", keys=local_keys("second"), sources=TokenSources(headers=(HeaderSource("x-second"),))
        )
        plan = compiled(policy(requirement=Requirement((first, second), every_token=every_token)))
        good, also_good = (b"x-first", token()), (b"x-second", token("second"))
        assert answer(plan, request("/", good)).allowed
        assert answer(plan, request("/", also_good)).allowed
        assert answer(plan, request("/", good, also_good)).allowed
        assert answer(plan, request("/", good, (b"x-second", token("third")))).allowed is not every_token

    @pytest.mark.parametrize("turned", [False, True])
    def test_one_value_is_one_token_however_many_read_it(self, turned: bool) -> None:
        """A provider that wants no prefix reads `Bearer x` whole. As in Envoy, that does not spoil the other's token."""
        prefixed = provider("prefixed", sources=TokenSources(headers=(HeaderSource("x-auth", "Bearer "),)))
        bare = provider("bare", keys=local_keys("second"), sources=TokenSources(headers=(HeaderSource("x-auth"),)))
        third = provider("third", keys=local_keys("third"), sources=TokenSources(headers=(HeaderSource("x-third"),)))
        two = (bare, prefixed) if turned else (prefixed, bare)
        plan = compiled(policy(requirement=Requirement((third, *two))))
        after_prefix, whole = (b"x-auth", b"Bearer " + token()), (b"x-auth", token("second"))
        assert answer(plan, request("/", after_prefix)).allowed
        assert answer(plan, request("/", whole)).allowed
        assert answer(plan, request("/", after_prefix, whole)).allowed
        assert answer(plan, request("/", (b"x-third", token("third")), after_prefix)).allowed
        # A value that nobody can read as a good token spoils the request as ever.
        for bad in (b"Bearer " + token("second"), token(), b"Bearer x", b""):
            assert not answer(plan, request("/", (b"x-auth", bad))).allowed
            assert not answer(plan, request("/", after_prefix, (b"x-auth", bad))).allowed
            assert not answer(plan, request("/", (b"x-third", token("third")), (b"x-auth", bad))).allowed

    def test_claims_of_several_tokens(self) -> None:
        header = ClaimHeader("x-org", "org", ("org",))
        for append, delimiter, expected in [
            (False, ",", [b"first"]),
            (True, ",", [b"second,first"]),
            (True, "", [b"second", b"first"]),
        ]:
            to_header = dataclasses.replace(header, append=append, delimiter=delimiter)
            plan = compiled(policy(provider(sources=SEED_SOURCES, claim_headers=(to_header,))))
            asked = request(
                b"/?auth_token=" + token(org="second"),
                (b"x-auth", b"Bearer " + token(org="first")),
                (b"x-org", b"spoof"),
            )
            assert upstream(answer(plan, asked), asked) == [(b"x-org", value) for value in expected]


class TestEdits:
    def test_the_token_is_taken_out_of_the_query_byte_for_byte(self) -> None:
        plan = compiled(policy(provider(sources=SEED_SOURCES)))
        good = token()
        for before, after in [
            (b"/?a=1&auth_token=%b&b=2", b"/?a=1&b=2"),
            (b"/?auth_token=%b", b"/"),
            (b"/?auth_token=%b&", b"/?"),
            (b"/?&&auth%%5Ftoken=%b&a=%%zz+;c=", b"/?&&a=%zz+;c="),
            (b"/?auth_token=%b&auth_token=%b&x", b"/?x"),
        ]:
            target = before.replace(b"%b", good).replace(b"%%", b"%")
            decision = answer(plan, request(target))
            assert decision.allowed, target
            assert decision.edits is not None
            assert decision.edits.target == after

    def test_forwarding_keeps_header_and_query(self) -> None:
        plan = compiled(policy(provider(forward_token=True)))
        good = token()
        asked = request(b"/?access_token=" + good, bearer(good))
        decision = answer(plan, asked)
        assert upstream(decision, asked) == [bearer(good)]
        assert decision.edits is not None
        assert decision.edits.target == asked.target

    def test_an_unused_place_is_left_alone(self) -> None:
        plan = compiled(policy(provider()))
        asked = request(b"/?access_token=" + token(), (b"authorization", b"Basic abc"))
        assert upstream(answer(plan, asked), asked) == [(b"authorization", b"Basic abc")]

    def test_payload_header(self) -> None:
        plan = compiled(policy(provider(payload_header="X-Payload")))
        good = token()
        asked = request("/", bearer(good), (b"x-payload", b"spoof"), (b"x_payload", b"spoof"))
        assert upstream(answer(plan, asked), asked) == [(b"x-payload", good.split(b".")[1])]

    def test_asserted_headers_go_on_every_route(self) -> None:
        guarded = policy(provider(claim_headers=(TO_X_ORG,)), routes=selecting(app="a"))
        plan = compiled(
            guarded,
            table(prefix("/public"), name="open"),
            table(prefix("/a"), labels=(("app", "a"),)),
            unmatched=Unmatched.ALLOW,
        )
        spoofed = ((b"x-org", b"1"), (b"x_org", b"2"), (b"x-other", b"3"))
        for path in ("/public", "/elsewhere"):
            asked = request(path, *spoofed)
            assert upstream(answer(plan, asked), asked) == [(b"x-other", b"3")]
        asked = request("/a", bearer(token()), *spoofed)
        assert upstream(answer(plan, asked), asked) == [(b"x-other", b"3")]

    def test_a_canonical_target_is_forwarded(self) -> None:
        plan = compiled(policy(provider()))
        decision = answer(plan, request("/a/./b/..//c/%7e?x=%7e", bearer(token())))
        assert decision.edits is not None
        assert decision.edits.target == b"/a/c/~?x=%7e"


class TestRoutes:
    def test_unmatched(self) -> None:
        plan = compiled(policy(), table(prefix("/a")))
        decision = answer(plan, request("/b"))
        assert (decision.status, decision.reason, decision.body, decision.headers) == (404, "route_not_found", b"", ())
        decision = answer(compiled(policy(), table(prefix("/a")), unmatched=Unmatched.ALLOW), request("/b"))
        assert (decision.allowed, decision.reason) == (True, "unmatched_allowed")

    def test_a_route_without_policy_passes(self) -> None:
        foo, bar = http_route(segments("/foo"), name="foo"), http_route(segments("/bar"), name="bar")
        plan = compiled(policy(dialect="envoy_gateway", targets=(targeting("HTTPRoute", "foo"),)), foo, bar)
        assert answer(plan, request("/foo")).status == 401
        decision = answer(plan, request("/bar"))
        assert (decision.allowed, decision.reason, decision.route) == (True, "no_policy", "HTTPRoute default/bar [0]")

    def test_nothing_at_all_passes(self) -> None:
        assert answer(compiled(), request("/")).reason == "no_policy"

    def test_a_request_the_sender_should_have_answered(self) -> None:
        plan = compiled(policy(), table(prefix("/old"), action=Action.ANSWER))
        decision = answer(plan, request("/old", bearer(token())))
        assert (decision.status, decision.reason) == (404, "route_not_found")
        assert "should have answered" in decision.checks[-1].detail

    def test_an_invalid_policy_refuses_what_it_selects(self) -> None:
        broken = policy(routes=selecting(app="a"), invalid=("spec.x: unknown field `x`",))
        plan = compiled(broken, table(prefix("/a"), labels=(("app", "a"),)), table(prefix("/b"), name="b"))
        decision = answer(plan, request("/a", bearer(token())))
        assert (decision.status, decision.reason, decision.body) == (
            503,
            "policy_unavailable",
            b"policy is unavailable",
        )
        assert answer(plan, request("/b")).allowed

    def test_a_policy_that_does_not_exist_refuses_everything(self) -> None:
        plan = compiled(policy(), policies=("other",))
        decision = answer(plan, request("/", bearer(token())))
        assert (decision.status, decision.reason) == (503, "policy_unavailable")
        assert plan.summary()["refusing"] == "the workload asks for `other`, and there is no such policy"

    def test_an_invalid_route_refuses_what_could_be_meant_for_it(self) -> None:
        broken = table(exact("/x"), invalid=("spec.http[0].matchers[1]: nonsense",), hosts=("a.example",))
        good = table(prefix("/"), name="later", hosts=("a.example", "b.example"))
        plan = compiled(broken, good)
        assert answer(plan, request("/y", host=b"a.example")).reason == "policy_unavailable"
        assert answer(plan, request("/y", host=b"b.example")).allowed

    def test_a_path_with_parameters_meets_both_readings(self) -> None:
        plan = compiled(
            policy(dialect="envoy_gateway", targets=(targeting("HTTPRoute", "admin"),)),
            http_route(exact("/admin"), name="admin"),
            http_route(segments("/"), name="open"),
        )
        assert answer(plan, request("/admin")).status == 401
        assert answer(plan, request("/admin;x=1")).status == 401
        assert answer(plan, request("/other;x=1")).allowed

    def test_a_path_with_parameters_that_no_route_expects(self) -> None:
        plan = compiled(table(exact("/health")))
        assert answer(plan, request("/health")).allowed
        assert answer(plan, request("/health;x=1")).reason == "route_not_found"
        lenient = compiled(policy(), table(exact("/health")), unmatched=Unmatched.ALLOW)
        assert answer(lenient, request("/health;x=1")).reason == "jwt_missing"
        assert answer(lenient, request("/other;x=1")).allowed

    def test_both_families_hold(self) -> None:
        gloo = claims_policy(claim("org", "a"), name="gloo", routes=selecting(app="a"))
        envoy = claims_policy(
            claim("team", "b"), name="envoy", dialect="envoy_gateway", targets=(targeting("HTTPRoute", "route"),)
        )
        plan = compiled(gloo, envoy, table(prefix("/"), labels=(("app", "a"),)), http_route(segments("/foo")))
        assert answer(plan, request("/foo", bearer(token(org="a", team="b")))).allowed
        assert not answer(plan, request("/foo", bearer(token(org="a")))).allowed
        assert not answer(plan, request("/foo", bearer(token(team="b")))).allowed
        both = answer(plan, request("/foo"))
        assert both.policies == ("default/envoy", "default/gloo")
        assert both.route == "RouteTable default/table [0] + HTTPRoute default/route [0]"
        assert answer(plan, request("/bar", bearer(token(org="a")))).allowed

    def test_routing_never_trusts_an_asserted_header(self) -> None:
        admin = Match(headers=(FieldMatch("x-org", StringMatch(Comparison.EXACT, "admin")),))
        plan = compiled(
            policy(provider(claim_headers=(TO_X_ORG,)), routes=selecting(app="a")),
            table(admin, name="open"),
            table(prefix("/"), name="guarded", labels=(("app", "a"),)),
        )
        assert answer(plan, request("/", (b"x-org", b"admin"))).status == 401


class TestRulesOnHeaders:
    def test_rules_see_claims_not_the_clients_copy(self) -> None:
        rule = Rule("admins", RuleAction.ALLOW, header_values=(("x-org", ("admin",)),))
        plan = compiled(policy(provider(claim_headers=(TO_X_ORG,)), authorization=Authorization((rule,))))
        assert answer(plan, request("/", bearer(token(org="admin")))).allowed
        assert answer(plan, request("/", bearer(token(org="user")), (b"x-org", b"admin"))).status == 403
        assert answer(plan, request("/", bearer(token()), (b"x_org", b"admin"))).status == 403

    def test_a_ruling_on_the_request_is_not_remembered(self) -> None:
        memory = TokenMemory()
        rule = Rule("get", RuleAction.ALLOW, token=TokenCondition(), methods=("GET",))
        plan = compiled(policy(provider(), authorization=Authorization((rule,))))
        good = bearer(token())
        assert answer(plan, request("/", good), memory=memory).allowed
        assert answer(plan, request("/", good, method=b"POST"), memory=memory).status == 403
        assert answer(plan, request("/", good), memory=memory).allowed


class TestAudit:
    def test_passes_and_says_so(self) -> None:
        plan = compiled(policy(provider(claim_headers=(TO_X_ORG,))), mode=Mode.AUDIT)
        asked = request("/a/../b", (b"x-org", b"spoof"))
        decision = answer(plan, asked)
        assert (decision.allowed, decision.denied_by_policy) == (True, True)
        assert (decision.status, decision.reason) == (401, "jwt_missing")
        assert upstream(decision, asked) == []
        assert decision.edits is not None
        assert decision.edits.target == b"/b"

    def test_a_good_request_is_not_denied(self) -> None:
        decision = answer(compiled(policy(), mode=Mode.AUDIT), request("/", bearer(token())))
        assert (decision.allowed, decision.denied_by_policy) == (True, False)

    def test_unmatched_and_unavailable_pass_too(self) -> None:
        assert answer(compiled(table(prefix("/a")), mode=Mode.AUDIT), request("/b")).allowed
        assert answer(compiled(policies=("x",), mode=Mode.AUDIT), request("/b")).allowed

    def test_what_cannot_be_understood_does_not(self) -> None:
        decision = answer(compiled(mode=Mode.AUDIT), request("/%2f"))
        assert (decision.allowed, decision.status, decision.reason) == (False, 400, "bad_request")

    def test_keys_are_waited_for(self) -> None:
        plan = compiled(policy(provider(keys=REMOTE)), mode=Mode.AUDIT)
        asked = request("/", bearer(token()))
        assert ask(plan, asked, ring=Ring()) == KeysNeeded((REMOTE,))
        decision = answer(plan, asked, ring=Ring(), last_try=True)
        assert (decision.allowed, decision.reason) == (True, "keys_unavailable")


class TestKeys:
    plan = compiled(policy(provider(keys=REMOTE)))

    def test_missing_keys_are_asked_for_once(self) -> None:
        asked = request("/", bearer(token()))
        assert ask(self.plan, asked, ring=Ring()) == KeysNeeded((REMOTE,))
        assert answer(self.plan, asked, ring=Ring().put(REMOTE, key_set()), last_try=True).allowed
        failed = Ring().put(REMOTE, None, problem="Jwks remote fetch is failed")
        decision = answer(self.plan, asked, ring=failed, last_try=True)
        assert (decision.status, decision.reason) == (503, "keys_unavailable")
        assert decision.body == b"Jwks remote fetch is failed"
        assert (b"retry-after", b"1") in decision.headers

    def test_keys_unavailable_may_be_401(self) -> None:
        plan = compiled(policy(provider(keys=REMOTE)), keys_unavailable=KeysUnavailable.UNAUTHORIZED)
        decision = answer(plan, request("/", bearer(token())), ring=Ring(), last_try=True)
        assert (decision.status, decision.reason) == (401, "keys_unavailable")
        assert www(decision).endswith(b'error="invalid_token"')

    @pytest.mark.parametrize("raw", [b"a.b", token(exp=1), token(iss="x")])
    def test_a_dead_token_needs_no_keys(self, raw: bytes) -> None:
        assert answer(self.plan, request("/", bearer(raw)), ring=Ring()).status == 401
        assert answer(self.plan, request("/"), ring=Ring()).status == 401

    def test_unknown_kid_is_worth_one_fetch(self) -> None:
        asked = request("/", bearer(token(kid="new")))
        ring = Ring().put(REMOTE, key_set(kid="old"))
        assert ask(self.plan, asked, ring=ring) == KeysNeeded((REMOTE,))
        assert ring.asked == [(REMOTE, "new")]
        decision = answer(self.plan, asked, ring=ring, last_try=True)
        assert (decision.status, decision.reason) == (401, "jwks_kid_alg_mismatch")
        assert answer(self.plan, asked, ring=Ring().put(REMOTE, key_set(kid="new")), last_try=True).allowed

    def test_unknown_kid_without_fetch_is_401(self) -> None:
        ring = Ring(refetch=False).put(REMOTE, key_set(kid="old"))
        decision = answer(self.plan, request("/", bearer(token(kid="new"))), ring=ring)
        assert decision.body == b"Jwks doesn't have key to match kid or alg from Jwt"

    def test_keys_that_change_forget_tokens(self) -> None:
        memory, asked = TokenMemory(), request("/", bearer(token()))
        assert answer(self.plan, asked, ring=Ring().put(REMOTE, key_set()), memory=memory).allowed
        assert answer(self.plan, asked, ring=Ring().put(REMOTE, key_set(), 2), memory=memory).allowed
        rotated = Ring().put(REMOTE, key_set("second"), 3)
        assert not answer(self.plan, asked, ring=rotated, memory=memory).allowed
        assert isinstance(ask(self.plan, asked, ring=Ring(), memory=memory), KeysNeeded)

    def test_a_provider_that_accepts_makes_up_for_one_without_keys(self) -> None:
        plan = compiled(policy(provider("away", keys=REMOTE), provider("here")))
        assert answer(plan, request("/", bearer(token())), ring=Ring()).allowed
        other = request("/", bearer(token("second")))
        assert ask(plan, other, ring=Ring()) == KeysNeeded((REMOTE,))
        assert answer(plan, other, ring=Ring(), last_try=True).status == 503

    def test_all_keys_are_asked_for_at_once(self) -> None:
        second = RemoteKeys("https://other.example/jwks.json")
        gloo = policy(provider(keys=REMOTE), name="a")
        own = policy(provider(keys=second), name="b", dialect="eastgate")
        plan = compiled(gloo, own)
        assert ask(plan, request("/", bearer(token())), ring=Ring()) == KeysNeeded((REMOTE, second))

    def test_a_definite_refusal_comes_before_waiting(self) -> None:
        gloo = policy(provider(keys=REMOTE), name="a")
        own = policy(provider(issuer="https://other.example"), name="b", dialect="eastgate")
        assert answer(compiled(gloo, own), request("/", bearer(token())), ring=Ring()).status == 401

    def test_failed_allowed_waits_and_then_passes(self) -> None:
        plan = compiled(policy(requirement=Requirement((provider(keys=REMOTE),), failed_allowed=True)))
        asked = request("/", bearer(token()))
        assert isinstance(ask(plan, asked, ring=Ring()), KeysNeeded)
        assert answer(plan, asked, ring=Ring(), last_try=True).allowed

    def test_a_source_that_cannot_be_fetched_is_not_waited_for(self) -> None:
        lost = RemoteKeys("https://lost.example/jwks", unresolved="Backend default/x is not there")
        decision = answer(compiled(policy(provider(keys=lost))), request("/", bearer(token())), ring=Ring())
        assert (decision.status, decision.reason) == (503, "keys_unavailable")

    def test_sources_of_the_plan(self) -> None:
        assert self.plan.sources == (REMOTE,)
        assert compiled(policy()).sources == ()


class TestExplain:
    plan = compiled(claims_policy(claim("org", "internal", "partner"), scopes=("is:developer",)))

    def test_a_refusal_says_which_claim(self) -> None:
        raw = token(org="external", scope="is:user")
        decision = answer(self.plan, request("/", bearer(raw)), explain=True)
        text = [str((check.kind, check.subject, check.passed, check.detail)) for check in decision.checks]
        assert "('claim', 'org', False, \"found 'external', expected one of internal, partner\")" in text
        assert "('scope', 'is:developer', False, 'found is:user')" in text
        assert decision.checks[-1].detail == "claim org is not one of internal, partner"
        assert not any(raw.decode()[:20] in line for line in text)

    def test_a_pass_is_explained_too(self) -> None:
        raw = token(org="internal", scope="is:developer")
        kinds = [check.kind for check in answer(self.plan, request("/", bearer(raw)), explain=True).checks]
        assert kinds == ["target", "route", "selection", "token", "verify", "claim", "scope", "rule"]

    def test_nothing_is_said_twice(self) -> None:
        plan = compiled(policy(provider(keys=REMOTE)))
        ring = Ring(refetch=False).put(REMOTE, key_set(kid="old"))
        decision = answer(plan, request("/", bearer(token(kid="new"))), ring=ring, explain=True)
        assert len(set(decision.checks)) == len(decision.checks)

    def test_without_it_a_refusal_is_short(self) -> None:
        decision = answer(self.plan, request("/"))
        assert [check.kind for check in decision.checks] == ["route", "verify"]

    def test_explained_and_unexplained_agree(self) -> None:
        for asked in [request("/"), request("/", bearer(token())), request("/", bearer(token(org="internal")))]:
            assert answer(self.plan, asked) == answer(self.plan, asked, explain=True)


def test_a_memory_serves_one_plan() -> None:
    memory = TokenMemory()
    one = compiled(policy(provider("a")))
    other = compiled(policy(provider("b", keys=local_keys("second"))))
    asked = request("/", bearer(token()))
    assert answer(one, asked, memory=memory).allowed
    assert not answer(other, asked, memory=memory).allowed
    assert answer(one, asked, memory=memory).allowed


def test_public_requests_need_no_memory() -> None:
    memory = TokenMemory()
    assert answer(compiled(), request("/"), memory=memory).allowed
    assert len(memory) == 0


def test_an_ignored_header_does_not_reach_the_decision() -> None:
    # CVE-2023-27487: what the client says about the original path is not believed.
    plan = compiled(policy(), table(prefix("/a")), workload=Workload())
    assert answer(plan, request("/b", (b"x-envoy-original-path", b"/a"))).status == 404
