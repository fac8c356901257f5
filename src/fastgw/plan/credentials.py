"""Credentials that are more than a fixed key, as the data plane reads them: what tokens are had by or requests signed.

Equal credentials are one: their token outlives a plan. Files are read where the token is fetched, each time anew.
"""

from msgspec import Struct

from fastgw.secret import veiled


class Aws(Struct, frozen=True, tag_field="scheme", tag="aws"):
    """Signature Version 4. Without keys those of `profile`, without one botocore's own chain."""

    region: str
    service: str = "bedrock"
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    profile: str = ""

    def __repr__(self) -> str:
        return veiled(self, "secret_access_key", "session_token")


class Google(Struct, frozen=True, tag_field="scheme", tag="google"):
    """OAuth tokens of Google Cloud; without a file application default credentials."""

    credentials_file: str = ""


class AzureAd(Struct, frozen=True, tag_field="scheme", tag="azure_ad"):
    """Tokens of Microsoft Entra ID: of an application, by whichever proof is given, else of a managed identity."""

    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    certificate_file: str = ""
    federated_token_file: str = ""
    scope: str = ""
    authority: str = ""

    def __repr__(self) -> str:
        return veiled(self, "client_secret")


class Ibm(Struct, frozen=True, tag_field="scheme", tag="ibm"):
    """IAM tokens of IBM Cloud, for an API key."""

    api_key: str
    url: str

    def __repr__(self) -> str:
        return veiled(self, "api_key")


Credential = Aws | Google | AzureAd | Ibm
