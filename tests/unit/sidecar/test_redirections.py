"""The rules as text, and what is tried in which order. The kernel itself is asked in ``e2e/netns``."""

from __future__ import annotations

import json

import pytest

from eastgate.pods.ports import read_ports
from sidecar.redirections import kernel
from sidecar.redirections.kernel import Done, RedirectionError, apply_redirection
from sidecar.redirections.rules import Redirection, render_iptables, render_nft

LISTED = json.dumps({"nftables": [{"rule": {"chain": name}} for name in ("inbound", "guard", "proof")]})


class Kernel:
    """Answers by program; remembers what it was asked."""

    def __init__(self, **answers: Done) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, command: tuple[str, ...], text: str) -> Done:
        self.asked.append(command)
        return self.answers.get(command[0].replace("-", "_"), Done(127, "", f"{command[0]}: not in this image"))


def test_the_default_redirects_every_port_but_our_own() -> None:
    text = render_nft(Redirection())
    assert "tcp dport { 19001, 19006, 19020 } return" in text
    assert "meta l4proto tcp redirect to :19006" in text
    assert text.index("return") < text.index("redirect to")
    assert 'iifname != "lo" meta l4proto tcp ct original proto-dst { 19001, 19006 } reject with tcp reset' in text


def test_excluded_ports_come_before_included_ones() -> None:
    text = render_nft(Redirection(include=read_ports("8080-8090"), exclude=read_ports("8085,9000-9010")))
    assert text.index("tcp dport { 8085, 9000-9010, 19001, 19006, 19020 } return") < text.index(
        "tcp dport != { 8080-8090 } return"
    )


def test_a_long_list_is_split_where_multiport_ends() -> None:
    ranges = ",".join(f"{port}-{port + 1}" for port in range(1000, 1060, 3))
    text = render_iptables(Redirection(exclude=read_ports(ranges)), ipv6=False)
    lists = [line.split("--dports ")[1].split()[0] for line in text.splitlines() if "--dports" in line]
    assert all(one.count(",") + 1 + one.count(":") <= 15 for one in lists)
    assert sum(one.count(":") for one in lists) == 20


@pytest.mark.parametrize(("ipv6", "loopback"), [(False, "127.0.0.1/32"), (True, "::1/128")])
def test_both_families_have_the_same_rules(ipv6: bool, loopback: str) -> None:
    text = render_iptables(Redirection(), ipv6=ipv6)
    assert f"-d {loopback} -p tcp -m owner --uid-owner 19006 --dport 19019" in text
    assert text.count("COMMIT") == 2


def test_nft_is_preferred_and_read_back() -> None:
    asked = Kernel(nft=Done(0, LISTED, ""))
    assert apply_redirection(Redirection(), run=asked) == "nft"
    assert asked.asked[-1][:2] == ("nft", "--json")


def test_rules_that_cannot_be_found_again_are_an_error() -> None:
    with pytest.raises(RedirectionError, match="inbound, guard, proof"):
        apply_redirection(Redirection(), "nft", Kernel(nft=Done(0, '{"nftables": []}', "")))


def test_says_what_was_tried_and_what_would_help() -> None:
    denied = Done(1, "", "Operation not permitted (you must be root)\nnetlink: Error")
    with pytest.raises(RedirectionError, match=r"nft: Operation not permitted.*iptables: not in this image.*NET_ADMIN"):
        apply_redirection(Redirection(), run=Kernel(nft=denied))


def test_ipv6_without_its_rules_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_has_ipv6", lambda: True)
    fine = Done(0, "", "")
    with pytest.raises(RedirectionError, match="IPv6"):
        apply_redirection(Redirection(), "iptables", Kernel(iptables=fine, iptables_restore=fine))
