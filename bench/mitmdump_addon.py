"""What somebody would write for a stock mitmdump to do Eastgate's job: the equivalent addon of the comparison.

It remembers verified tokens, as Eastgate does, so that the comparison is between proxies and not between RSA calls.
"""

import json
import os
import time
from pathlib import Path

import jwt
from mitmproxy import http

KEYS = {jwk["kid"]: jwt.PyJWK(jwk).key for jwk in json.loads(Path(os.environ["JWKS"]).read_text())["keys"]}
VERIFIED: dict[str, dict] = {}


def refuse(flow: http.HTTPFlow, status: int, text: str) -> None:
    flow.response = http.Response.make(status, text, {"content-type": "text/plain"})


class Guard:
    def request(self, flow: http.HTTPFlow) -> None:
        value = flow.request.headers.get("authorization", "")
        if not value.startswith("Bearer "):
            return refuse(flow, 401, "Jwt is missing")
        token = value[7:]
        claims = VERIFIED.get(token)
        if claims is None or claims["exp"] < time.time():
            try:
                kid = jwt.get_unverified_header(token)["kid"]
                claims = jwt.decode(token, KEYS[kid], algorithms=["RS256"], issuer=os.environ["ISSUER"])
            except Exception:
                return refuse(flow, 401, "Jwt verification fails")
            VERIFIED[token] = claims
        if claims.get("org") != "internal":
            return refuse(flow, 403, "RBAC: access denied")
        flow.request.headers["x-org"] = claims["org"]
        flow.request.headers["x-email"] = claims["email"]
        return None


addons = [Guard()]
