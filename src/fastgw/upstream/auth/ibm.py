"""IBM Cloud: an API key is exchanged for an IAM token, which holds for an hour.

Source: https://cloud.ibm.com/docs/account?topic=account-iamtoken_from_apikey.
"""

from fastgw.plan.credentials import Ibm
from fastgw.upstream.auth.base import Fetch
from fastgw.upstream.auth.tokens import post, renewing

GRANT = "urn:ibm:params:oauth:grant-type:apikey"


def fetcher(credential: Ibm) -> Fetch:
    """See `base.fetcher`."""
    form = {"grant_type": GRANT, "apikey": credential.api_key}
    return renewing(lambda: post(credential.url, form))
