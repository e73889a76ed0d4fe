"""The commands as people call them: output, streams and exit codes. In process, but for what only a process shows."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eastgate import __version__
from eastgate.cli.main import main
from eastgate.demonstrations.identity import Authority, KeyServer
from eastgate.demonstrations.signing import generate_key, public_key_set, public_pem, sign_token

type Run = Callable[..., tuple[int, str, str]]

ROUTES = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foo}
spec:
  parentRefs: [{name: eg}]
  hostnames: [www.example.com]
  rules:
  - backendRefs: [{name: backend, port: 3000}]
    matches: [{path: {type: PathPrefix, value: /foo}}]
"""
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  gatewayClassName: eg
  listeners: [{name: http, protocol: HTTP, port: 80}]
"""
POLICY = """\
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: jwt-example}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}
  jwt:
    providers:
    - name: example
      remoteJWKS: {uri: "https://keys.example.com/jwks.json"}
"""
URL = "https://keys.example.com/jwks.json"
KEY = generate_key("EC", "one")
TOKEN = sign_token(KEY, {"sub": "joe"})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in list(os.environ):
        if name.startswith("EASTGATE_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)

    def call(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "routes.yaml").write_text(f"{ROUTES}---\n{GATEWAY}")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "jwks").write_text(public_key_set(KEY))
    return tmp_path


# --- main ---


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"eastgate {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [(), ("serve",), ("explain",), ("lint",), ("demo",), ("token", "mint"), ("token", "keygen"), ("token", "inspect")],
)
def test_help_has_examples(run: Run, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Examples" in out
    assert "eastgate " + " ".join(command) in out


def test_unknown_command_is_wrong_usage(run: Run) -> None:
    code, out, err = run("sevre")
    assert (code, out) == (2, "")
    assert err.startswith("eastgate: error: No such command 'sevre'")


def test_help_is_quick_and_loads_no_proxy() -> None:
    """What is loaded decides how long it takes; the clock of a busy machine does not."""
    program = (
        "import sys, contextlib, io\n"
        "from eastgate.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        "heavy = {'mitmproxy', 'sidecar', 'cryptography', 'yaml', 'jwt', 're2', 'grpc', 'asyncio'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_lint_and_explain_load_no_proxy(files: Path) -> None:
    program = (
        "import sys\n"
        "from eastgate.cli.main import main\n"
        f"main(['lint', {str(files)!r}])\n"
        f"main(['explain', '-p', {str(files)!r}, '--request', 'GET http://a/foo', '--offline'])\n"
        "print({'mitmproxy', 'sidecar'} & {name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


# --- serve: what is refused before anything starts ---


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("--listen", "foo", "HOST:PORT"),
        ("--upstream", "https://127.0.0.1:1", "http://HOST:PORT"),
        ("--pod-labels", "x", "KEY=VALUE"),
        ("--service", "httpbin", "NAMESPACE/NAME"),
        ("--mode", "observe", "enforce"),
        ("--unmatched", "pass", "deny"),
        ("--keys-unavailable", "500", "503"),
        ("--workers", "0", "1"),
        ("--admin", "19020", "HOST:PORT"),
        ("--log-level", "loud", "info"),
        ("--log-allows", "2", "0"),
        ("--drain-seconds", "soon", "seconds"),
        ("--opaque-ports", "5-1", "ports"),
        ("--resolve", "a:1", "HOST:PORT:ADDRESS:PORT"),
        ("--trusted-ca", "/nowhere.pem", "/nowhere.pem"),
        ("--max-connections", "0", "1 to 1000000"),
        ("--policies", "a/b/c", "NAMESPACE/NAME"),
        ("--policy", "/nowhere", "/nowhere"),
    ],
)
def test_serve_refuses_values(run: Run, files: Path, flag: str, value: str, word: str) -> None:
    arguments = {"--policy": str(files), "--upstream": "http://127.0.0.1:1", "--listen": "127.0.0.1:0", flag: value}
    code, out, err = run("serve", *[part for pair in arguments.items() for part in pair])
    assert (code, out) == (2, "")
    assert err.startswith("eastgate serve: error: ")
    assert flag in err
    assert value in err
    assert word in err


PRIVATE = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("text", "word"), [("", "holds no certificate"), (Authority("x").pem + PRIVATE, "holds a private key")]
)
@pytest.mark.parametrize("command", ["serve", "controller", "sidecar run", "explain"])
def test_a_file_of_authorities_has_nothing_else_in_it(
    run: Run, files: Path, command: str, text: str, word: str
) -> None:
    ca = files / "ca.pem"
    ca.write_text(text)
    arguments = {
        "serve": ["--policy", str(files), "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"],
        "sidecar run": ["--namespace", "shop"],
        "explain": ["--policy", str(files), "--request", "GET http://a/"],
    }.get(command, [])
    code, out, err = run(*command.split(), *arguments, "--trusted-ca", str(ca))
    assert (code, out) == (2, "")
    assert f"`{ca}` {word}" in err
    assert "accepted: certificates in PEM (`-----BEGIN CERTIFICATE-----`), at most 256 with 512 KiB" in err
    assert "MHcCAQEEIA" not in err


def test_serve_needs_its_three_flags_and_names_the_variables(run: Run, files: Path) -> None:
    for given in ((), ("--policy", str(files)), ("--policy", str(files), "--upstream", "http://a:1")):
        code, _, err = run("serve", *given)
        assert code == 2
        assert "env var: 'EASTGATE_" in err


def test_serve_reads_the_environment(run: Run, files: Path) -> None:
    code, _, err = run("serve", EASTGATE_POLICY=str(files), EASTGATE_UPSTREAM="http://a:1", EASTGATE_LISTEN="bad")
    assert code == 2
    assert "`bad` is not accepted" in err


def test_serve_hands_over_every_flag(run: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sidecar.serve
    from sidecar.options import LogOptions, ServeOptions

    given: list[ServeOptions] = []

    def keep(options: ServeOptions) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr(sidecar.serve, "run", keep)
    ca = files / "ca.pem"
    ca.write_text(Authority("test").pem)
    code, _, err = run(
        *f"""serve --policy {files} -p {files}/routes.yaml --upstream http://127.0.0.1:80 --listen [::1]:0 --workers 2
        --service default/backend:3000 --policies a,b/c --pod-labels app=x --mode audit --unmatched allow
        --admin 127.0.0.1:19020 --log-level debug --log-allows 0.5 --drain-seconds 1m --stale-seconds 2h
        --keys-unavailable 401 --opaque-ports 1-3 --keys-directory /tmp/k --resolve a:443:127.0.0.1:1
        --trusted-ca {ca} --max-connections 500""".split()
    )
    assert (code, err) == (0, "")
    (options,) = given
    assert options.policies == (str(files), f"{files}/routes.yaml")
    assert options.upstream == ("127.0.0.1", 80)
    assert options.listen == ("::1", 0)
    assert options.admin == ("127.0.0.1", 19020)
    assert (options.workers, options.max_connections) == (2, 500)
    assert options.log == LogOptions("debug", 0.5)
    assert (options.drain_seconds, options.stale_seconds, options.keys_directory) == (60.0, 7200.0, "/tmp/k")
    assert options.opaque_ports == {1, 2, 3}
    assert options.resolve == (("a", 443, "127.0.0.1", 1),)
    assert options.trusted_ca == (str(ca),)
    workload = options.workload
    assert workload.services == (("default", "backend", 3000),)
    assert workload.policies == ("a", "b/c")
    assert (workload.mode, workload.unmatched, workload.keys_unavailable) == ("audit", "allow", "401")
    assert workload.one_port


# --- lint ---


def test_lint_fine(run: Run, files: Path) -> None:
    code, out, err = run("lint", str(files))
    assert (code, err) == (0, "")
    assert out == "ok: 1 policy and 1 route in 2 files\n"


def test_lint_error(run: Run, files: Path) -> None:
    bad = files / "policy.yaml"
    bad.write_text(POLICY.replace("providers:", "provider:"))
    code, out, err = run("lint", str(bad), str(files / "routes.yaml"))
    assert code == 1
    first = err.splitlines()[0]
    assert first.startswith(f"{bad}:8: error: SecurityPolicy default/jwt-example spec.jwt")
    assert "`provider`" in first
    assert "did you mean `providers`?" in err
    assert " error" in out.partition(":")[0]


def test_lint_json(run: Run, files: Path) -> None:
    bad = files / "policy.yaml"
    bad.write_text(POLICY.replace("providers:", "provider:"))
    code, out, err = run("lint", "--json", str(bad))
    assert (code, err) == (1, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [list(one) for one in found] == [["file", "line", "severity", "code", "object", "field", "message"]] * len(
        found
    )
    assert found[0]["file"] == str(bad)
    assert found[0]["object"] == "SecurityPolicy default/jwt-example"


def test_lint_stdin(run: Run) -> None:
    code, _, err = run("lint", "-", stdin="kind: [")
    assert code == 1
    assert err.startswith("<stdin>:")


def test_lint_wrong_usage(run: Run) -> None:
    assert run("lint")[0] == 2
    assert run("lint", "/nowhere")[0] == 2
    assert run("lint", "-", "-")[0] == 2


def test_lint_finds_nothing_to_read(run: Run, tmp_path: Path) -> None:
    code, _, err = run("lint", str(tmp_path))
    assert code == 1
    assert err == f"{tmp_path}:1: error: no policy file, `*.yaml`, `*.yml`, `*.json` are read\n"


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_text_is_no_policy_that_says_nothing(run: Run, files: Path, text: str) -> None:
    """A file that was cut off, or the pipe of a command that failed, would else mean that everything may pass."""
    (files / "policy.yaml").write_text(text)
    said = "error: empty: was it cut off? Accepted: objects, or a comment where none are meant\n"
    for command in ("lint", "convert"):
        code, _, err = run(command, "-", stdin=text)
        assert (code, err.splitlines(keepends=True)[0]) == (1, f"<stdin>:1: {said}")
    code, out, err = run("explain", "-p", str(files), "--request", "GET http://www.example.com/foo")
    assert (code, err) == (1, f"{files / 'policy.yaml'}:1: {said}")
    assert out.startswith("DENY 503 policy is unavailable")
    assert run("lint", "-", stdin="# none yet\n") == (0, "ok: 0 policies and 0 routes in 1 file\n", "")


def test_lint_unreadable_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    code, _, err = run("lint", str(file))
    assert code == 1
    assert err.startswith(f"{file}:1: error: ")


# --- explain ---


def explain(run: Run, files: Path, *more: str, **more_still: str) -> tuple[int, list[dict[str, Any]], str]:
    code, out, err = run("explain", "-p", str(files), "--json", *more, **more_still)
    return code, [json.loads(line) for line in out.splitlines()], err


def test_explain_with_a_given_key_set(run: Run, files: Path) -> None:
    given = f"{URL}={files / 'jwks'}"
    code, (line,), err = explain(
        run,
        files,
        "--request",
        "GET http://www.example.com/foo?x=1",
        "-H",
        f"Authorization: Bearer {TOKEN}",
        "--jwks",
        given,
    )
    assert (code, err) == (0, "")
    assert (line["decision"], line["status"], line["reason"]) == ("allow", 200, "allowed")
    assert line["policies"] == ["default/jwt-example"]
    assert line["upstream"]["path"] == "/foo?x=1"
    assert ["authorization", f"Bearer {TOKEN}"] in line["upstream"]["headers"]
    assert TOKEN not in json.dumps(line["trace"])


def test_explain_in_words(run: Run, files: Path) -> None:
    given = f"{URL}={files / 'jwks'}"
    for headers, first in (
        ([], "DENY 401 Jwt is missing  (jwt_missing)"),
        (["-H", f"Authorization: Bearer {TOKEN}"], "ALLOW  (allowed)"),
        (["-H", f"Authorization: Bearer {TOKEN}x"], "DENY 401 "),
    ):
        code, out, err = run(
            "explain", "-p", str(files), "--request", "GET http://www.example.com/foo", *headers, "--jwks", given
        )
        assert (code, err) == (0, "")
        assert out.startswith(first)
        assert "HTTPRoute default/foo" in out
        assert "eyJ" not in out


def test_explain_offline_has_no_keys(run: Run, files: Path) -> None:
    request = ("--request", "GET http://www.example.com/foo", "-H", f"Authorization: Bearer {TOKEN}", "--offline")
    _, (line,), _ = explain(run, files, *request)
    assert (line["status"], line["body"], line["reason"]) == (503, "Jwks remote fetch is failed", "keys_unavailable")
    _, (line,), _ = explain(run, files, *request, "--keys-unavailable", "401")
    assert line["status"] == 401


def test_explain_fetches_keys_for_real(run: Run, files: Path, tmp_path: Path) -> None:
    authority = Authority("test")
    (files / "ca.pem").write_text(authority.pem)
    with KeyServer(authority, ["keys.example.com"], {"/jwks.json": public_key_set(KEY)}, tmp_path) as keys:
        request = ("--request", "GET http://www.example.com/foo", "-H", f"Authorization: Bearer {TOKEN}")
        reach = ("--resolve", keys.resolutions()[0], "--trusted-ca", str(files / "ca.pem"))
        _, (line,), _ = explain(run, files, *request, *reach)
        assert (line["decision"], line["reason"]) == ("allow", "allowed")
        assert keys.answers == [200]
        _, (line,), err = explain(run, files, *request, *reach[:2])
        assert line["reason"] == "keys_unavailable"
        assert err.startswith("warning: keys not fetched from keys.example.com/jwks.json: ")
        assert len(err.splitlines()) == 1


def test_explain_many(run: Run, files: Path) -> None:
    lines = [
        {"id": "a", "method": "GET", "url": "http://www.example.com/foo", "headers": []},
        {"id": "b", "method": "GET", "url": "http://www.example.com/elsewhere", "headers": []},
        {"id": "c", "method": "GET", "url": "http://www.example.com/foo", "headers": [["x", "a\r\nb: c"]]},
        {"id": "d", "method": "G T", "url": "http://www.example.com/foo"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (files / "requests.jsonl").write_text(text)
    for source, stdin in ((str(files / "requests.jsonl"), ""), ("-", text)):
        code, found, _ = explain(run, files, "--requests", source, "--offline", stdin=stdin)
        assert code == 0
        assert [(one["id"], one["status"], one["reason"]) for one in found] == [
            ("a", 401, "jwt_missing"),
            ("b", 404, "route_not_found"),
            ("c", 400, "bad_request"),
            ("d", 400, "bad_request"),
        ]


def test_explain_at_another_time(run: Run, files: Path) -> None:
    token = sign_token(KEY, {"exp": 1_000_000_000})
    request = ("--request", "GET http://www.example.com/foo", "-H", f"Authorization: Bearer {token}")
    given = ("--jwks", f"{URL}={files / 'jwks'}")
    for now, reason in (
        ("999999999", "allowed"),
        ("2001-01-01T00:00:00Z", "allowed"),
        ("2020-01-01T00:00:00Z", "jwt_expired"),
    ):
        _, (line,), _ = explain(run, files, *request, *given, "--now", now)
        assert line["reason"] == reason


@pytest.mark.parametrize(
    "lost", ["spec: [", "just words", POLICY.replace("kind: SecurityPolicy", "kind: SecurityPolcy"), "kind: JWTPolicy"]
)
def test_explain_lets_nothing_pass_while_a_document_cannot_be_read(run: Run, files: Path, lost: str) -> None:
    (files / "policy.yaml").write_text(lost)
    code, out, err = run("explain", "-p", str(files), "--request", "GET http://www.example.com/foo", "--json")
    answer = json.loads(out)
    assert (code, answer["decision"], answer["status"], answer["reason"]) == (1, "deny", 503, "policy_unavailable")
    assert "policy.yaml:" in err


def test_json_is_one_line_wherever_lines_are_said_to_end(run: Run, files: Path) -> None:
    (files / "policy.yaml").write_text("# none\n")
    question = "GET http://www.example.com/foo"
    _, out, _ = run("explain", "-p", str(files), "--request", question, "-H", "x: a\u2028b\x85c", "--json")
    assert len(out.splitlines()) == 1
    assert ["x", "a\u2028b\x85c"] in json.loads(out)["upstream"]["headers"]


def test_explain_with_a_broken_policy_fails_closed(run: Run, files: Path) -> None:
    (files / "policy.yaml").write_text(POLICY.replace("providers:", "provider:"))
    code, (line,), err = explain(run, files, "--request", "GET http://www.example.com/foo", "--offline")
    assert code == 1
    assert "policy.yaml:8: error: " in err
    assert (line["status"], line["reason"]) == (503, "policy_unavailable")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--request", "GET http://a/", "--requests", "x"),
        ("--requests", "/nowhere.jsonl"),
        ("--requests", "-", "-H", "a: b"),
        ("--request", "http://a/"),
        ("--request", "GET /no-host"),
        ("--request", "GET http://a/", "-H", "nothing"),
        ("--request", "GET http://a/", "--peer", "localhost"),
        ("--request", "GET http://a/", "--now", "tomorrow"),
        ("--request", "GET http://a/", "--jwks", "x"),
        ("--request", "GET http://a/", "--jwks", "https://a=/nowhere"),
    ],
)
def test_explain_wrong_usage(run: Run, files: Path, arguments: tuple[str, ...]) -> None:
    code, _, err = run("explain", "-p", str(files), "--offline", *arguments)
    assert code == 2
    assert err.startswith("eastgate explain: error: ")


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--header", "X-Auth", "`X-Auth` is not accepted; accepted: 'Name: value'"),
        ("--peer", "client", "`client` is not accepted; accepted: an IP address, as 10.0.0.7 or fd00::7"),
    ],
)
def test_the_option_that_is_wrong_is_named(run: Run, files: Path, flag: str, value: str, said: str) -> None:
    _, _, err = run("explain", "-p", str(files), "--request", "GET http://a/", flag, value)
    assert err.splitlines()[0] == f"eastgate explain: error: Invalid value for {flag}: {said}"


def test_one_of_several_words_is_refused_as_every_other_value(run: Run, files: Path) -> None:
    code, _, err = run("explain", "-p", str(files), "--request", "GET http://a/", "--mode", "warn")
    said = "Invalid value for '--mode': `warn` is not accepted; accepted: enforce, audit"
    assert (code, err.splitlines()[0]) == (2, f"eastgate explain: error: {said}")


def test_convert_writes_into_no_file(run: Run, files: Path) -> None:
    output = files / "jwks"
    code, _, err = run("convert", str(files), "-o", str(output))
    assert code == 2
    assert f"Invalid value for --output: `{output}` is not accepted; accepted: a folder" in err


def test_a_key_set_that_is_none_is_wrong_usage_and_not_shown(run: Run, files: Path) -> None:
    (files / "bad").write_text('{"keys": "secret-text"}')
    code, _, err = run("explain", "-p", str(files), "--request", "GET http://a/", "--jwks", f"{URL}={files / 'bad'}")
    assert code == 2
    assert "is not a key set" in err
    assert "secret-text" not in err


# --- token ---


@pytest.mark.parametrize(("kind", "alg"), [("RSA", "RS256"), ("EC", "ES256"), ("OKP", "EdDSA")])
def test_keygen_mint_inspect(run: Run, tmp_path: Path, kind: str, alg: str) -> None:
    code, out, _ = run("token", "keygen", "--type", kind, "--out", str(tmp_path / "keys"))
    assert code == 0
    private, public, jwks = (Path(line) for line in out.splitlines())
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "PUBLIC" in public.read_text()
    kid = json.loads(jwks.read_text())["keys"][0]["kid"]
    code, out, _ = run(
        *f"token mint --key {private} --issuer i --audience a --audience b --subject s --expires 1h".split(),
        *("--claim", "org=internal", "--claim", 'roles=["x"]', "--claim", "n=1"),
    )
    assert code == 0
    token = out.strip()
    code, out, _ = run("token", "inspect", "-", "--json", "--jwks", str(jwks), stdin=f"Bearer {token}\n")
    assert code == 0
    shown = json.loads(out)
    assert shown["header"] == {"alg": alg, "kid": kid, "typ": "JWT"}
    claims = shown["claims"]
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("i", "s", ["a", "b"])
    assert (claims["org"], claims["roles"], claims["n"]) == ("internal", ["x"], 1)
    assert claims["exp"] - claims["iat"] == 3600
    assert shown["verified"] is True
    assert shown["warnings"] == []
    for file in (public,):
        assert run("token", "inspect", token, "--jwks", str(file))[0] == 0


def test_keygen_replaces_nothing_unasked(run: Run, tmp_path: Path) -> None:
    assert run("token", "keygen", "--type", "EC", "--out", str(tmp_path))[0] == 0
    before = (tmp_path / "private.pem").read_text()
    code, _, err = run("token", "keygen", "--type", "EC", "--out", str(tmp_path))
    assert code == 1
    assert "--force" in err
    assert (tmp_path / "private.pem").read_text() == before
    assert run("token", "keygen", "--type", "EC", "--out", str(tmp_path), "--force")[0] == 0
    assert (tmp_path / "private.pem").read_text() != before


def test_inspect_does_not_trust(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(public_pem(generate_key("EC", "one")))
    code, out, _ = run("token", "inspect", TOKEN, "--jwks", str(tmp_path / "other"))
    assert code == 1
    assert "does not verify" in out
    code, _, err = run("token", "inspect", "not.a.token")
    assert code == 1
    assert err.startswith("error: ")


def test_inspect_says_what_is_doubtful(run: Run) -> None:
    token = sign_token(
        KEY, {"exp": 1_000_000_000, "iss": "i", "x": "\x1b[31mred"}, header={"kid": None, "crit": ["b64"]}
    )
    code, out, _ = run("token", "inspect", token)
    assert code == 0
    assert "it has expired" in out
    assert "expired 2001-09-09 01:46:40 UTC" in out
    assert "it has no `kid`" in out
    assert "`crit`" in out
    assert "\x1b" not in out
    assert token.rpartition(".")[2] not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--key", "/nowhere.pem"),
        ("--key", "{jwks}"),
        ("--key", "{key}", "--alg", "HS256"),
        ("--key", "{key}", "--claim", "x"),
        ("--key", "{key}", "--expires", "soon"),
    ],
)
def test_mint_wrong_usage(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run("token", "keygen", "--type", "EC", "--out", str(tmp_path))
    names = {"key": str(tmp_path / "private.pem"), "jwks": str(tmp_path / "jwks.json")}
    code, out, err = run("token", "mint", *(argument.format(**names) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("eastgate token mint: error: ")


def test_a_reader_that_went_away_is_no_crash(files: Path) -> None:
    lines = "".join(json.dumps({"url": "http://www.example.com/foo"}) + "\n" for _ in range(3000))
    (files / "many.jsonl").write_text(lines)
    command = (
        f"{sys.executable} -m eastgate explain -p {files} --json --requests {files}/many.jsonl --offline | head -1"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_one_line() -> None:
    command = [sys.executable, "-m", "eastgate", "token", "mint", "--help"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "eastgate: error: cannot write: No space left on device\n")
