"""The command ``wiro-local``: a local Wiro until Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_wiro.emulator.faults import KINDS, FaultSpecError
from airflow_provider_wiro.emulator.local import LocalWiro

_GLANCE = 0.5


def _parser() -> argparse.ArgumentParser:
    points = "\n".join(f"  {point}: {', '.join(kinds)}" for point, kinds in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="wiro-local",
        description="A server that behaves like Wiro's API and draws real MP4s: no account needed.",
        epilog=f"POINT:KIND of a fault:\n{points}\n"
        "Options of a fault: rate=0..1, times=N, seconds=S, match=TEXT (for run).\n"
        "Example: run:error_after:rate=0.1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--api-key", default="local-key", help="the project's API key (default: %(default)s)")
    parser.add_argument(
        "--api-secret",
        default="local-secret",
        help="empty: a project that takes the key alone (default: %(default)s)",
    )
    parser.add_argument(
        "--speed", type=float, default=60.0, help="Wiro seconds that pass in a second (default: %(default)s)"
    )
    parser.add_argument("--balance", metavar="USD", default="500", help="the account's balance (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="tasks alive at once (default: by the balance)")
    parser.add_argument(
        "--clock-offset",
        metavar="SECONDS",
        type=float,
        default=0.0,
        help="how wrong the clock is that callers see: task times and Date headers (default: %(default)s)",
    )
    parser.add_argument(
        "--cdn-host",
        metavar="ADDRESS",
        default="",
        help="another loopback address for the output files, at the same port (default: the API's)",
    )
    parser.add_argument(
        "--fault",
        metavar="SPEC",
        action="append",
        default=[],
        help="POINT:KIND[:option=value...], may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="makes rates of faults repeatable (default: %(default)s)")
    return parser


def _banner(wiro: LocalWiro) -> str:
    return (
        f"The local Wiro is up: {wiro.base_url}\n\n"
        "Airflow's connection to it:\n\n"
        f"export AIRFLOW_CONN_WIRO_DEFAULT={shlex.quote(wiro.connection_json())}\n\n"
        f"Videos:  {wiro.url}/\n"
        f"Ledger:  {wiro.url}/ledger\n"
        "Ctrl-C stops it."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :param argv: the arguments, the command line's by default.
    :return: the exit code: 0 after a stop by signal, 1 if the server cannot run. Bad options exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        wiro = LocalWiro(
            api_key=options.api_key,
            api_secret=options.api_secret,
            speed=options.speed,
            balance=options.balance,
            host=options.host,
            port=options.port,
            faults=options.fault,
            seed=options.seed,
            limit=options.limit,
            clock_offset=options.clock_offset,
            cdn_host=options.cdn_host,
        )
    except (FaultSpecError, ValueError) as wrong:
        parser.error(str(wrong))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with wiro:
            print(_banner(wiro), flush=True)
            while wiro.alive and not stop.wait(_GLANCE):
                pass
            return 0 if stop.is_set() else 1
    except (ImportError, OSError, RuntimeError) as problem:
        print(f"wiro-local: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
