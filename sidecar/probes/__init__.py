"""The app's own probes and hooks, asked for on the kubelet's behalf.

A rewritten probe reaches the sidecar's admin port, because behind redirection the kubelet would be a client without a
token, and a TCP probe would find our listener and not the app's. Here the app is asked as the kubelet would have
asked, from inside the pod, where no policy stands between. Rules: Kubernetes' pkg/probe and pkg/kubelet/lifecycle.
"""
