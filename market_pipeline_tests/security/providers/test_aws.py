from __future__ import annotations

import json

import boto3
import pytest

from market_pipeline.config.settings import load_settings
from market_pipeline.errors import SettingsError

HOOK = "https://hooks.example/services/T0K3Nabc"


@pytest.mark.slow
def test_secrets_manager(moto_server, setting, monkeypatch):
    """The newest text of the secret is read; one that is not there, or is no object, is refused."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKEYID0001")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-key")
    client = boto3.client(
        "secretsmanager", endpoint_url=moto_server.endpoint_url, region_name="eu-west-1"
    )
    text = json.dumps({"PIPELINE_ALERT_SLACK_URLS": HOOK})
    client.create_secret(Name="pipeline", SecretString=text)
    setting(provider="aws", address=moto_server.endpoint_url, path="pipeline", region="eu-west-1")
    setting(lifetime_seconds=1e-6)
    assert HOOK == load_settings().alert_slack_urls.get_secret_value()
    text = json.dumps({"alert_slack_urls": "https://rotated.example/x"})
    client.put_secret_value(SecretId="pipeline", SecretString=text)
    found = load_settings().alert_slack_urls.get_secret_value()
    assert "https://rotated.example/x" == found
    setting(path="another")
    with pytest.raises(SettingsError, match="PIPELINE_SECRETS__PATH: AWS refused it: Resource"):
        load_settings()
    client.create_secret(Name="list", SecretString='["planted"]')
    setting(path="list")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "planted" not in f"{raised.value.problems}{raised.value.__cause__}"
