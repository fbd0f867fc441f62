"""Takes a sample: a server, a process that waits, and a certificate that makes one trust the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.wait_contenders import Contender
from benchmarks.wait_figures import Sample
from benchmarks.wait_jobs import Conditions

_ROOT = Path(__file__).parents[1]
# What would change how the samples behave, or where their requests go.
_LEFT_OUT = (
    *("AIRFLOW_", "PYTHONDONTWRITEBYTECODE", "OPENAI_", "ANTHROPIC_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
)
_HANGS = 900.0  # seconds that a sample may take on top of what its jobs do
_LEAD = 0.3  # seconds from saying when to start until then


class SampleError(RuntimeError):
    """A sample has failed; the message has the process's last words."""


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that vouches for itself; return its file and its key's.

    :param directory: where to.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False),
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (own_id, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    key_file.write_bytes(secret)
    return certificate_file, key_file


class Bench:
    """Where samples are taken.

    :param home: a directory for what they need and leave.
    """

    def __init__(self, home: Path) -> None:
        self._certificate, self._key = make_certificate(home)
        self._errors = home / "errors.txt"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
        self._environment |= {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "REQUESTS_CA_BUNDLE": str(self._certificate),
            "SSL_CERT_FILE": str(self._certificate),
        }

    def sample(self, contender: Contender, conditions: Conditions) -> Sample:
        """Let a contender wait, in a process of its own.

        :param contender: who.
        :param conditions: for what.
        :raises SampleError: a process has failed.
        """
        with ExitStack() as stack:
            errors = stack.enter_context(self._errors.open("w", encoding="utf-8"))

            def run(module: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
                command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
                pipe, environment = subprocess.PIPE, self._environment | more
                process = subprocess.Popen(
                    command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True, cwd=_ROOT
                )
                stack.callback(process.wait)
                stack.callback(process.kill)
                return process

            conditions_text = conditions.dumps()
            server = run("wait_server", conditions_text, str(self._certificate), str(self._key))
            authority = f"127.0.0.1:{self._line(server).strip()}"
            waiting = run("wait_sample", contender.name, conditions_text, **contender.environment(authority))
            while self._line(waiting) != "ready\n":
                pass
            start = time.monotonic() + _LEAD
            assert server.stdin is not None
            server.stdin.write(f"{start}\n")
            server.stdin.flush()
            figures_of_waiting = self._end(waiting, conditions, f"{start}\n")
            counted = self._end(server, conditions)
        return Sample(
            **figures_of_waiting,
            requests=sum(counted["asked"].values()),
            server_cpu=counted.pop("cpu"),
            **counted,
        )

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise self._failure("it ended before it began")
        return line

    def _end(self, process: subprocess.Popen[str], conditions: Conditions, text: str | None = None) -> dict[str, Any]:
        try:
            said, _ = process.communicate(text, timeout=conditions.longest + _HANGS)
            answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise self._failure(str(error)) from error
        return answer

    def _failure(self, what: str) -> SampleError:
        words = self._errors.read_text(encoding="utf-8")[-3000:]
        return SampleError(f"{what}\n{words}")
