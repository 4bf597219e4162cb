from __future__ import annotations

import hashlib
import logging
import os
import ssl
import time
import traceback
from datetime import UTC, datetime, timedelta

import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import StoreError
from market_pipeline.store.client import Store, open_store
from market_pipeline.store.objects import Patience, may_be_md5
from market_pipeline.telemetry.bridge.sums import Bridge
from market_pipeline.telemetry.metrics.recording import begin
from market_pipeline_tests.store.certificates import make_certificates
from market_pipeline_tests.store.proxy import Fault
from market_pipeline_tests.store.servers import ACCESS_KEY, SECRET_KEY, no_credentials
from market_pipeline_tests.telemetry.figures import names_of
from market_pipeline_tests.test_shown import acting
from market_pipeline_tests.tls_servers import serving_tls

ONCE = Patience(attempts=1, connect_seconds=2.0, read_seconds=5.0)
NOWHERE = "http://127.0.0.1:9"  # the discard port, which nobody serves


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A current folder without `.env`, and no credentials but those of the test."""
    no_credentials(monkeypatch, tmp_path)
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def keys(monkeypatch):
    """The owner's keys in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def address_of(server, bucket, prefix="", **more):
    endpoint = {"endpoint_url": server.endpoint_url, "region": "us-east-1"}
    return StoreAddress(bucket, prefix, **(endpoint | more))


def keys_of(store, *asked, **more):
    return [each.key for each in store.objects(*asked, **more)]


def failure(store, problem=None):
    """The error of a listing that must fail."""
    with pytest.raises(StoreError, match=problem) as caught:
        keys_of(store)
    return caught.value


class TestListing:
    KEYS = tuple(f"lake/trades/dt=2024-01-{day:02}/{n}" for day in range(1, 29) for n in range(90))

    @pytest.fixture(scope="class")
    @classmethod
    def bucket(cls, moto_server):
        """More keys than a page of the listing has, and some outside the lake."""
        moto_server.put_keys("listed", [*cls.KEYS, "lakes/x", "other", "lake/book/a b+c%.parquet"])
        return "listed"

    @pytest.fixture
    def store(self, moto_server, bucket, keys):
        with Store(address_of(moto_server, bucket, "lake")) as store:
            yield store

    def test_all_pages(self, store):
        """Every object below the prefix comes, over several pages, in the order of the keys."""
        below = sorted(key.removeprefix("lake/") for key in self.KEYS)
        assert ["book/a b+c%.parquet", *below] == keys_of(store)
        assert 3 == store.usage.requests

    def test_prefix(self, store):
        """A prefix limits the listing to the keys that begin so."""
        assert 90 == len(keys_of(store, "trades/dt=2024-01-05/"))
        assert [] == keys_of(store, "trades/dt=2025")

    def test_start_after(self, store):
        """A listing can begin after a key, so that a reader goes on where it stopped."""
        found = keys_of(store, "trades/", start_after="trades/dt=2024-01-28/88")
        assert ["trades/dt=2024-01-28/89", "trades/dt=2024-01-28/9"] == found

    def test_lazily(self, store):
        """Pages are asked for only when somebody goes on to them."""
        next(store.objects())
        assert 1 == store.usage.requests

    def test_folders(self, store):
        """The folders of a folder are listed by the store, not by reading every key."""
        assert ["book/", "trades/"] == list(store.folders())
        days = [f"trades/dt=2024-01-{day:02}/" for day in range(1, 29)]
        assert days == list(store.folders("trades/"))
        assert 2 == store.usage.requests

    def test_object(self, store):
        """An object comes with its size, its ETag without quotes and when it was stored."""
        (found,) = store.objects("book/")
        assert (0, hashlib.md5(b"").hexdigest()) == (found.size, found.etag)
        assert may_be_md5(found.etag)
        assert abs(datetime.now(UTC) - found.last_modified) < timedelta(hours=1)

    def test_is_recorded(self, moto_server, bucket, keys, tmp_path):
        """Every row of the table that is about stores is there, with what was asked and sent."""
        begin(load_settings(data_dir=tmp_path), "command")
        with Store(address_of(moto_server, bucket, "lake")) as store:
            keys_of(store)
        begin(load_settings(data_dir=tmp_path, metrics=False), "command")
        bridge = Bridge(tmp_path / "metrics")
        bridge.update()
        families = dict(bridge.families(0))
        assert names_of("store") == families.keys()
        assert [3, 3, 0] == [
            sum(each.value for each in families[f"market_pipeline.store.{name}"].series.values())
            for name in ("calls", "requests", "refusals")
        ]

    def test_empty_object(self, store, tmp_path):
        """An object of no bytes is downloaded like any other."""
        (found,) = store.objects("book/")
        done = store.download(found, tmp_path / "x")
        assert (b"", hashlib.sha256().hexdigest()) == ((tmp_path / "x").read_bytes(), done.sha256)

    def test_no_bucket(self, moto_server, keys):
        """A bucket that is not there is missing."""
        with Store(address_of(moto_server, "not-there")) as store:
            error = failure(store, "there is no such bucket")
        assert "missing" == error.kind


def test_start_after_a_folder(object_store, keys):
    """A real store lists a folder's keys after the folder's name with its slash, as S3 would."""
    names = [f"dt=2024-01-0{day}/{n}.parquet" for day in (1, 2, 3) for n in (1, 2)]
    for name in names:
        object_store.put("after", f"lake/{name}", b"")
    with Store(address_of(object_store, "after", "lake"), patience=ONCE) as store:
        assert names[2:] == keys_of(store, start_after="dt=2024-01-02/")
        assert names[3:] == keys_of(store, start_after="dt=2024-01-02/1.parquet")


class TestRights:
    def test_signed(self, object_store, keys):
        """With the owner's keys a private bucket can be listed."""
        object_store.put("private", "lake/a", b"a")
        with Store(address_of(object_store, "private", "lake"), patience=ONCE) as store:
            assert ["a"] == keys_of(store)
            assert "the environment" == store.credentials

    def test_anonymous(self, object_store, tmp_path):
        """A public bucket is listed and read without credentials."""
        address = address_of(object_store, object_store.public_bucket, anonymous=True)
        with Store(address, patience=ONCE) as store:
            (found,) = store.objects("ready")
            store.download(found, tmp_path / "ready")
            assert "none, as a public store" == store.credentials
        assert b"ready" == (tmp_path / "ready").read_bytes()

    def test_anonymous_at_a_private_bucket(self, object_store):
        """A private bucket refuses who is nobody, and the error says what to set."""
        object_store.put("private", "lake/a", b"a")
        with Store(address_of(object_store, "private", anonymous=True), patience=ONCE) as store:
            error = failure(store, "refuses access")
        assert ("forbidden", "403 AccessDenied") == (error.kind, error.found)

    def test_no_credentials(self, object_store):
        """Without any credentials the error says where they may stand."""
        with Store(address_of(object_store, "private"), patience=ONCE) as store:
            assert store.credentials is None
            error = failure(store, "no usable credentials")
        assert "forbidden" == error.kind
        assert "AWS_ACCESS_KEY_ID" in error.next_step
        assert "PIPELINE_LAKE_ANONYMOUS" in error.next_step

    def test_no_such_profile(self, object_store, monkeypatch):
        """A profile that does not exist is an error at once."""
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(StoreError, match="no usable credentials") as caught:
            Store(address_of(object_store, "private"))
        assert ("forbidden", "ProfileNotFound") == (caught.value.kind, caught.value.found)

    @pytest.mark.parametrize("where", ["environment", ".env", "session token"])
    def test_wrong_key_is_not_shown(
        self, object_store, tmp_path, monkeypatch, caplog, capsys, where
    ):
        """No error, repr, trace or log line, at the finest level, has a part of the credentials."""
        secrets = ("AKIAWRONGWRONGWRONG1", "wrong-secret-key", "wrong-session-token")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        given = dict(zip(names, secrets, strict=True))
        if where != "session token":
            del given["AWS_SESSION_TOKEN"]
        if where == ".env":
            lines = [f"{name}={value}" for name, value in given.items()]
            (tmp_path / ".env").write_text("\n".join(lines))
        else:
            for name, value in given.items():
                monkeypatch.setenv(name, value)
        settings = load_settings(
            lake_uri="s3://private/lake", lake_endpoint_url=object_store.endpoint_url
        )
        caplog.set_level(logging.DEBUG)
        object_store.put("private", "lake/a", b"a")
        caplog.clear()
        seen = [repr(settings), str(settings.model_dump())]
        with open_store(settings, patience=ONCE) as store:
            seen += [repr(store), repr(vars(store)), str(store.credentials), repr(store.address)]
            error = failure(store)
        assert "forbidden" == error.kind
        seen += [repr(vars(error)), *traceback.format_exception(error)]
        seen += [caplog.text, *capsys.readouterr()]
        assert [] == [secret for secret in secrets for text in seen if secret in text]


class TestTls:
    def test_own_authority(self, object_store, keys, tmp_path):
        """A store whose authority is named is read over TLS."""
        address = address_of(
            object_store,
            object_store.public_bucket,
            endpoint_url=object_store.tls_endpoint_url,
            ca_bundle=object_store.ca_bundle,
        )
        with Store(address, patience=ONCE) as store:
            (found,) = store.objects("ready")
            store.download(found, tmp_path / "ready")
        assert b"ready" == (tmp_path / "ready").read_bytes()

    def test_unknown_authority(self, object_store, keys):
        """A certificate of an unknown authority is not accepted, and the error says what to set."""
        address = address_of(object_store, "x12", endpoint_url=object_store.tls_endpoint_url)
        with Store(address, patience=ONCE) as store:
            error = failure(store, "certificate was not accepted")
        assert "unavailable" == error.kind
        assert "PIPELINE_LAKE_CA_BUNDLE" in error.next_step

    @pytest.mark.parametrize(("minimum", "told"), [("1.3", "TLS"), ("1.2", "does not answer")])
    def test_an_older_version(self, keys, tmp_path, minimum, told):
        """A store that offers TLS 1.2 is asked for nothing, unless the settings accept it."""
        certificates = make_certificates(tmp_path)
        with serving_tls(certificates, ssl.TLSVersion.TLSv1_2) as (url, asked):
            address = StoreAddress(
                "bucket",
                endpoint_url=url,
                region="us-east-1",
                ca_bundle=certificates.authority,
                tls_minimum=minimum,
            )
            with Store(address, patience=ONCE) as store:
                error = failure(store, told)
        assert ("PIPELINE_TLS_MINIMUM" in error.next_step) == (minimum == "1.3") == (not asked)

    @pytest.mark.parametrize("text", [None, "", "no certificate"])
    def test_unusable_bundle(self, object_store, tmp_path, text):
        """A file of authorities that is missing or holds none is an error at once."""
        bundle = tmp_path / "authority.pem"
        if text is not None:
            bundle.write_text(text)
        with pytest.raises(StoreError, match="certificate authorities") as caught:
            Store(address_of(object_store, "x12", ca_bundle=bundle))
        assert "unavailable" == caught.value.kind
        assert str(bundle) in caught.value.found


class TestReach:
    def test_nobody_there(self, keys):
        """A store that does not listen cannot be reached, and the error says so soon."""
        address = StoreAddress("x12", endpoint_url=NOWHERE, region="us-east-1")
        with Store(address, patience=ONCE) as store:
            error = failure(store, "cannot be reached")
        assert "unavailable" == error.kind

    @pytest.mark.parametrize("page", ["<html><p>Log in<br></html>", "<html><p>Log in</p></html>"])
    def test_no_store(self, faulty, keys, page):
        """An answer that is no store's, such as a log-in page, is an error and no empty listing."""
        faulty.plan(Fault("", page=page))
        with Store(address_of(faulty, "x12"), patience=ONCE) as store:
            assert "unavailable" == failure(store).kind

    @pytest.mark.parametrize("etag", ["&#x202e;", "&#x85;2J", "a b", "a" * 257])
    def test_no_etag(self, faulty, keys, etag):
        """A tag that is none is refused before it stands in a table, and its text written out."""
        page = (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>x12/1</Key>"
            f"<LastModified>2025-03-04T00:00:00.000Z</LastModified><ETag>{etag}</ETag>"
            "<Size>4</Size></Contents></ListBucketResult>"
        )
        faulty.plan(Fault("", page=page))
        with Store(address_of(faulty, "x12"), patience=ONCE) as store:
            error = failure(store, "an ETag of")
        assert "unavailable" == error.kind
        assert [] == acting(str(error))

    def test_unusable_address(self, keys):
        """A host name that boto3 does not accept is an error that names its setting."""
        with pytest.raises(StoreError, match="cannot be used") as caught:
            Store(StoreAddress("x12", endpoint_url="http://my_store:9000"))
        assert "unavailable" == caught.value.kind
        assert "PIPELINE_LAKE_ENDPOINT_URL" in caught.value.next_step

    def test_adaptive(self, keys):
        """Requests are repeated in boto3's adaptive mode, as often as the patience says."""
        with Store(StoreAddress("x12", region="us-east-1"), patience=Patience(7)) as store:
            retries = store._client.meta.config.retries
        assert {"mode": "adaptive", "total_max_attempts": 7} == retries


class TestSettings:
    def test_folder(self):
        """A lake in a folder has no store."""
        assert open_store(load_settings(lake_uri="/srv/lake")) is None

    def test_limits(self):
        """The settings' limits are those of the client."""
        settings = load_settings(
            lake_uri="sample",
            lake_requests_per_second=3,
            lake_megabytes_per_second=2,
            lake_parallel_downloads=7,
        )
        with open_store(settings) as store:
            assert 3 == store._requests_limit._per_second
            assert 2e6 == store._bytes_limit._per_second
            assert 7 == store._pool._count
            assert store.address.anonymous


def test_closed_soon(faulty, object_store, keys, tmp_path):
    """A client that is closed in the middle of a download does not wait for the store."""
    object_store.put("private", "slow", bytes(100_000))
    faulty.plan(Fault(bytes_per_second=2_000))
    with Store(address_of(faulty, "private"), patience=Patience(1)) as store:
        (found,) = store.objects("slow")

        def stop(_):
            raise KeyboardInterrupt

        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            store.download(found, tmp_path / "x", stop)
    assert time.monotonic() - began < 20
    assert not (tmp_path / "x").exists()
