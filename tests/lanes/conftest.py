"""Every test of the lanes begins with nothing remembered, so that what it wants to see called is called."""

from __future__ import annotations

import pytest

from eastgate.render import http as http_form
from sidecar.lanes import grammar
from sidecar.lanes.http1 import answers as http1_answers
from sidecar.lanes.http1 import requests as http1_requests
from sidecar.lanes.http2 import answers as http2_answers


@pytest.fixture(autouse=True)
def forget() -> None:
    grammar._fields.clear()
    http1_requests._sections.clear()
    http1_requests._seen.clear()
    for remembering in (http1_answers._write_around, http2_answers._lay_out, http_form._render):
        remembering.cache_clear()
