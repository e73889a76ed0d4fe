"""Side by side: Eastgate, a real Envoy and a bare mitmdump do the same job in one run, on the same machine.

The figure to trust on a shared machine is CPU per request, measured from the kernel's accounting of each proxy's
processes; requests a second are printed beside it. Nothing here is a test: a benchmark does not fail a build.
"""
