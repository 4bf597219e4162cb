"""Secrets of AWS Secrets Manager: one secret whose text is names and values as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from market_pipeline.security.providers.checked import refused, required, texts

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings

__all__ = ["read"]

_NAME = "aws"
_object = msgspec.json.Decoder(dict[str, str])


def read(settings: Settings) -> dict[str, str]:
    """What the secret that `PIPELINE_SECRETS__PATH` names holds now.

    The credentials for that are those of the environment, of the files of the AWS tools or of the
    machine's role.

    Raises:
        SettingsError: AWS cannot be asked, or what it has is not usable.
    """
    # boto3 takes half a second to load.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from market_pipeline.security.tls import require_tls  # noqa: PLC0415

    secrets = settings.secrets
    path = required(_NAME, "path", secrets.path)
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
    try:
        client: Any = boto3.Session().client(
            "secretsmanager",
            region_name=secrets.region,
            endpoint_url=secrets.address,
            verify=str(secrets.ca_bundle) if secrets.ca_bundle else None,
            config=config,
        )
        require_tls(client, settings.tls_minimum)
        text = client.get_secret_value(SecretId=path)["SecretString"]
    except ClientError as error:  # its text may repeat the request
        code = error.response.get("Error", {}).get("Code", "Unknown")
        raise refused(_NAME, "path", f"AWS refused it: {code}") from None
    except BotoCoreError as error:
        raise refused(_NAME, "region", f"AWS cannot be asked: {type(error).__name__}") from None
    except KeyError:
        raise refused(_NAME, "path", "the secret is binary and no text") from None
    try:
        return texts(_NAME, _object.decode(text))
    except msgspec.DecodeError:  # its text shows a part
        raise refused(_NAME, "path", "expected names of settings, each with a text") from None
