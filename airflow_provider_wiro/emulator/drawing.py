"""Draws videos: a process of its own that reads orders from its standard input. STUB."""
import json, sys, struct
for line in sys.stdin:
    out=json.dumps(line).encode()
    sys.stdout.buffer.write(struct.pack(">?Q", True, len(out))+out); sys.stdout.buffer.flush()
