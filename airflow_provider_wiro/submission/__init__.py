"""One logical task, one paid run, whatever crashes.

``record`` is what is remembered, ``decision`` what follows from it (pure), ``driver`` does it.
``docs/exactly-once.md`` explains the protocol.
"""
