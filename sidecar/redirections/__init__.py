"""Redirection: the kernel's rules that send a pod's inbound TCP to the sidecar, and the proof that they hold.

``rules`` says what they are, as data and as the text that ``nft`` or ``iptables-restore`` takes; ``kernel`` finds which
of them this kernel and image have, applies the text in one transaction and reads it back; ``proof`` is how a process
without any rights tells that the rules are there. Run once, by the init container, as root with NET_ADMIN.

Only inbound traffic is redirected, in the pod's own network namespace. A redirected connection to a proxy that is not
there is refused by the kernel: closed. What the pod's own processes send to each other over the loopback interface is
not touched (as with Istio and Linkerd); what the pod sends to itself through a Service comes in from outside, and is.
Must not know: policies, or what the proxy does with a connection.
"""
