"""A CDN of this machine: sends files straight from the disk's cache, after a pause like a distant one's.

Says its port when it is ready. ``GET /SIZE/NAME`` is answered with the file ``SIZE`` of its folder.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path


def answer(connection: socket.socket, folder: Path, latency: float) -> None:
    """Answer what is asked through a connection, until it ends.

    :param connection: the caller's.
    :param folder: where the files are.
    :param latency: seconds between a request and the first byte of its answer.
    """
    with connection, connection.makefile("rb") as lines:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := lines.readline():
            closes = False
            while (line := lines.readline()) not in (b"\r\n", b""):
                closes |= line.lower().strip() == b"connection: close"
            time.sleep(latency)
            with (folder / request.split()[1].decode().split("/")[1]).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {size}\r\n"
                head += f'ETag: "{size}"\r\nConnection: {"close" if closes else "keep-alive"}\r\n\r\n'
                connection.sendall(head.encode())
                connection.sendfile(file)
            if closes:
                return


def main() -> None:
    """Serve until ended."""
    folder, latency = Path(sys.argv[1]), float(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, folder, latency), daemon=True).start()


if __name__ == "__main__":
    main()
