"""The command line: the door people and scripts come in by.

Knows: flags, files, the terminal, exit codes (0 fine, 1 the thing checked is not fine, 2 wrong usage).
Must not know: any rule of a policy; it reads with ``dialects``, asks ``compile`` and ``decide`` and prints what
``render`` wrote. What a command needs is imported inside it: ``eastgate --help`` and ``lint`` never load the proxy.
"""
