"""Pods without a cluster: network namespaces joined by veth pairs, the kernel's real rules, the real sidecar.

``lab`` makes the namespaces; ``app`` is the protected application. Needs root and nftables; skips, loudly, without.
"""
