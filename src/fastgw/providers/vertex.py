"""Google Cloud's Vertex AI: Gemini in its own dialect, Claude in Anthropic's.

Sources: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (Gemini),
https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai (Claude: the model's name stands in the path,
the version in the body) and https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations (addresses).
"""

from fastgw.providers import anthropic, gemini
from fastgw.providers.base import Provider

MODEL = "/v1/projects/{project}/locations/{location}/publishers/%s/models/{model}"
BASE_URL = "https://{location}-aiplatform.googleapis.com"
BASE_URLS = {
    "global": "https://aiplatform.googleapis.com",
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
NOTE = "Needs `project` and `location`; signs in as Google Cloud does by default, or see `auth` (credentials.md)."

GEMINI = Provider(
    kind="vertex",
    base_url=BASE_URL,
    base_urls=BASE_URLS,
    speaks={"gemini": f"{MODEL % 'google'}:generateContent"},
    stream_speaks={"gemini": f"{MODEL % 'google'}:streamGenerateContent?alt=sse"},
    auth_header="x-goog-api-key",
    auth_scheme="",
    auth="google",
    features=gemini.PROVIDER.features,
    models=gemini.PROVIDER.models,
    title="Google Vertex AI (Gemini)",
    docs="https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
    note=NOTE,
)
ANTHROPIC = Provider(
    kind="vertex_anthropic",
    base_url=BASE_URL,
    base_urls=BASE_URLS,
    speaks={"anthropic_messages": f"{MODEL % 'anthropic'}:rawPredict"},
    stream_speaks={"anthropic_messages": f"{MODEL % 'anthropic'}:streamRawPredict"},
    auth_header="x-goog-api-key",
    auth_scheme="",
    auth="google",
    drop_fields=("model",),
    set_fields={"anthropic_version": '"vertex-2023-10-16"'},
    features=anthropic.PROVIDER.features,
    models=anthropic.PROVIDER.models,
    title="Google Vertex AI (Claude)",
    docs="https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai",
    note=NOTE,
)
