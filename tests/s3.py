"""A real S3 of this machine: SeaweedFS from a wheel, in a folder, on ports of the loopback."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from scripts.local_airflow import HOST, free_ports
from scripts.processes import Processes

KEY, SECRET = "local-access-key", "canary-store-secret-5d83"
BUCKET = "films"
_PATIENCE = 30.0
_PARTS = ("master", "volume", "filer", "s3")
# Nothing of it may reach out, and what a bucket is called is its owner's to say.
_OPTIONS = (
    "-s3",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=64",
    "-volume.max=50",
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
)


@dataclass(frozen=True)
class S3:
    """A running server."""

    port: int

    def connection(self, key: str = KEY, secret: str = SECRET, port: int | None = None) -> str:
        """Return an Airflow connection to it, for an environment variable."""
        extra = {
            "endpoint_url": f"http://{HOST}:{port or self.port}",
            "region_name": "us-east-1",
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        return json.dumps({"conn_type": "aws", "login": key, "password": secret, "extra": extra})

    @cached_property
    def client(self) -> Any:
        """The owner's own way to the server, past all that is tested."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{self.port}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]]

    def keys(self, prefix: str) -> list[str]:
        """Return the names below a prefix, without it."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(each["Key"].removeprefix(f"{prefix}/") for each in listed)

    def unfinished(self) -> list[str]:
        """Return the keys of uploads that were begun and not ended."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def head(self, key: str) -> dict[str, Any]:
        return dict(self.client.head_object(Bucket=BUCKET, Key=key))


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """Run the server; where it is not installed, fail under ``CI=true`` and skip elsewhere.

    :param folder: an empty one.
    """
    program = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if program is None:
        _do_without("SeaweedFS is not installed (make venv): NOTHING OF S3 IS TESTED")
    ports = dict(zip([f"{part}.port{kind}" for part in _PARTS for kind in ("", ".grpc")], free_ports(8), strict=True))
    identity = {"name": "owner", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    data = folder / "data"
    data.mkdir()
    options = [*_OPTIONS, f"-dir={data}", f"-s3.config={config}", *(f"-{name}={port}" for name, port in ports.items())]
    processes = Processes(folder / "processes")
    processes.open()
    try:
        processes.start("s3", [str(program), "server", *options], cwd=folder)
        server = S3(ports["s3.port"])
        _wait_for_bucket(server, processes)
        yield server
    finally:
        # It would take half a minute to say goodbye, and its folder goes anyway; only its sockets are elsewhere.
        processes.kill("s3")
        processes.stop()
        for port in ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)


def _do_without(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def _wait_for_bucket(server: S3, processes: Processes) -> None:
    import botocore.exceptions

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if BUCKET not in server.buckets():
                server.client.create_bucket(Bucket=BUCKET)
            server.client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
            return
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            processes.check()
            if time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS does not answer: {error}\n{processes.tail('s3')}")
            time.sleep(0.1)
