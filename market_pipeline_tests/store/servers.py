"""Stores that tests start on loopback: a real one (SeaweedFS), a quick one (moto), a faulty one.

Fixtures for every test: `object_store`, `moto_server` and `faulty`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from market_pipeline_tests.ports import free_ports
from market_pipeline_tests.store.proxy import FaultyProxy

if TYPE_CHECKING:
    from botocore.client import BaseClient

ACCESS_KEY, SECRET_KEY = "TESTERSACCESSKEY", "testers-secret-that-must-not-be-seen"
PUBLIC_BUCKET = "public-lake"
_START_SECONDS = 40.0


@dataclass(frozen=True)
class MotoServer:
    """A store of moto's, without rights: any key and none may do anything."""

    endpoint_url: str

    def client(self) -> BaseClient:
        """A boto3 client that may do everything."""
        return _client(self.endpoint_url)

    def environment(self, uri: str) -> dict[str, str]:
        """The environment with which the pipeline has this store as its lake."""
        return _environment(uri, self.endpoint_url)

    def put_folder(self, local: Path, bucket: str) -> int:
        """Store every file below a folder with its path; how many."""
        return _put_folder(self.client(), local, bucket, "")

    def put_keys(self, bucket: str, keys: Iterable[str]) -> None:
        """Make a bucket with empty objects, 100 times as quickly as by requests."""
        from moto.s3.models import s3_backends

        client: Any = self.client()
        client.create_bucket(Bucket=bucket)
        backend = s3_backends["123456789012"]["aws"]
        for key in keys:
            backend.put_object(bucket, key, b"")


@dataclass(frozen=True)
class ObjectStore:
    """A running SeaweedFS: one owner with keys, and everybody may read the bucket `public-lake`.

    Buckets are made when something is put into them. The store lives as long as the test session:
    take a bucket or prefix of your own.
    """

    endpoint_url: str
    tls_endpoint_url: str
    ca_bundle: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    public_bucket: str = PUBLIC_BUCKET

    def client(self) -> BaseClient:
        """A boto3 client of the owner."""
        return _client(self.endpoint_url)

    def environment(self, uri: str, endpoint_url: str | None = None) -> dict[str, str]:
        """The environment with which the pipeline has this store as its lake."""
        return _environment(uri, endpoint_url or self.endpoint_url)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Store an object."""
        client: Any = self.client()
        _make_bucket(client, bucket)
        client.put_object(Bucket=bucket, Key=key, Body=body)

    def put_folder(self, local: Path, bucket: str, prefix: str) -> int:
        """Store every file below a folder, each with its path below the prefix; how many."""
        return _put_folder(self.client(), local, bucket, prefix)


def _environment(uri: str, endpoint_url: str) -> dict[str, str]:
    return {
        "PIPELINE_LAKE_URI": uri,
        "PIPELINE_LAKE_ENDPOINT_URL": endpoint_url,
        "PIPELINE_LAKE_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


def _put_folder(client: Any, local: Path, bucket: str, prefix: str) -> int:
    _make_bucket(client, bucket)
    files = sorted(path for path in local.rglob("*") if path.is_file())

    def put(file: Path) -> None:
        key = "/".join(filter(None, [prefix.strip("/"), file.relative_to(local).as_posix()]))
        client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, files))
    return len(files)


@cache
def _client(endpoint_url: str) -> BaseClient:
    # Here, because every test run loads this module, whether it needs a store or not.
    import boto3
    from botocore.config import Config

    client: BaseClient = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
    )
    return client


def _make_bucket(client: Any, bucket: str) -> None:
    with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket=bucket)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """A quick store in this process, for tests of the client alone."""
    from moto.server import ThreadedMotoServer  # takes a second

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield MotoServer(f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A real object store, a process of its own."""
    weed = _weed()
    if weed is None:
        pytest.skip("SeaweedFS is not installed")
    with running_store(weed) as store:
        yield store


@pytest.fixture
def faulty(object_store: ObjectStore) -> Iterator[FaultyProxy]:
    """A proxy before the real store that errs as it is told to."""
    with FaultyProxy(object_store.endpoint_url) as proxy:
        yield proxy


def _weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")  # without an activated environment
    return str(beside) if beside.is_file() else shutil.which("weed")


@contextmanager
def running_store(weed: str) -> Iterator[ObjectStore]:
    """Start the store in a folder of its own, and end it and remove the folder afterwards."""
    from market_pipeline_tests.store.certificates import make_certificates

    with ExitStack() as stack:
        # Not pytest's folder: the names of sockets must be short.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weed")))
        certificates = make_certificates(folder)
        (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        (folder / "s3.json").write_text(json.dumps(_RIGHTS))
        (folder / "data").mkdir()
        s3, https, *inner = free_ports(9)
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [
                *(weed, "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=200"),
                *(f"-master.port={inner[0]}", f"-master.port.grpc={inner[1]}"),
                *(f"-volume.port={inner[2]}", f"-volume.port.grpc={inner[3]}"),
                *(f"-filer.port={inner[4]}", f"-filer.port.grpc={inner[5]}"),
                *("-s3", f"-s3.port={s3}", f"-s3.port.https={https}", f"-s3.port.grpc={inner[6]}"),
                *("-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                *(f"-s3.cert.file={certificates.server}", f"-s3.key.file={certificates.key}"),
                *(f"-filer.localSocket={folder}/filer", f"-s3.localSocket={folder}/s3"),
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # one system call, no lock is taken
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        store = ObjectStore(
            f"http://127.0.0.1:{s3}", f"https://localhost:{https}", certificates.authority
        )
        _wait_until_it_stores(store, process, folder / "log")
        yield store


_RIGHTS = {
    "identities": [
        {
            "name": "tester",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        },
        {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]},
    ]
}


_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """The store must not outlive a test run that was killed."""
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait_until_it_stores(store: ObjectStore, process: subprocess.Popen[bytes], log: Path) -> None:
    """Its ports are open before it can keep anything: only an object in it proves that it runs."""
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            requests.get(store.endpoint_url, timeout=1)
            requests.get(store.tls_endpoint_url, timeout=1, verify=str(store.ca_bundle))
            store.put(PUBLIC_BUCKET, "ready", b"ready")
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the object store does not start:\n{tail}") from error
        time.sleep(0.1)


def no_credentials(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Take every credential that this machine may have out of boto3's sight."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
