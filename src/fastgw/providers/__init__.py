"""Vendors, as data: where a vendor is, which dialects it speaks and how it wants to be asked.

Adding one is a file with a `PROVIDER` and its row in `PROVIDERS`, plus the recorded fixture that shows its quirks.
"""

from fastgw.providers import azure, openai, openai_compatible
from fastgw.providers.base import Provider

PROVIDERS: dict[str, Provider] = {
    module.PROVIDER.kind: module.PROVIDER for module in (openai, azure, openai_compatible)
}
