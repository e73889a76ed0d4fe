"""What the webhook and the sidecar agreed on: names, annotations, mounted files, the app's own probes, the bundle.

The two are built apart and deployed at different times, and neither imports the other; this room is their contract,
so a change here is a change of what running pods carry. Knows: texts and dicts in the shape in which they stand in a
pod. Must not know: Flask, the Kubernetes API, mitmproxy, or how anything is decided. Pure: no file is opened here.
"""
