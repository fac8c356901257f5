"""What vendors offer beside the operations that are understood, and where: by kind of provider.

`passes` maps an operation of `dialects.opaque` to a path below `base_url`; `keeps` is where the things a vendor keeps
for its callers are (files, batches, ...), with `{path}` for the rest of the caller's path; `responses` is where it
offers OpenAI's Responses interface, if it keeps responses. Kinds that are not listed offer nothing of this.
Sources: each vendor's API reference, as named in its row.
"""

from msgspec import Struct

IMAGES = ("images/generations", "images/edits", "images/variations")
SPEECH = ("audio/speech", "audio/transcriptions", "audio/translations")
HEARING = ("audio/transcriptions", "audio/translations")
RERANK = {"rerank": "/rerank", "v2/rerank": "/rerank"}

FAMILIES: dict[str, tuple[str, ...]] = {
    "openai": (
        *("files", "uploads", "batches", "fine_tuning", "vector_stores", "assistants", "threads", "conversations"),
        *("containers", "evals"),
    ),
    "anthropic": ("files", "batches"),
    "gemini": ("files", "cachedContents", "batches", "tunedModels", "operations"),
}
"""What may be switched on by a provider's `pass_through`, by the interface whose things these are."""


class Surface(Struct, frozen=True):
    """See the module. `family`: whose interface `keeps` is."""

    family: str = ""
    passes: dict[str, str] = {}
    keeps: str = ""
    responses: str = ""


def _passes(*operations: str, template: str = "/{}", **more: str) -> dict[str, str]:
    return {name: template.format(name) for name in operations} | more


def _openai(*operations: str, keeps: str = "", responses: str = "", **more: str) -> Surface:
    return Surface("openai", _passes(*operations, **more), keeps, responses)


OPEN = Surface("openai", _passes(*IMAGES, *SPEECH, "moderations") | RERANK, "/{path}")
"""A server whose abilities are not known: everything is asked for, and what it does not have it says itself."""
DEPLOYMENT = "/openai/deployments/{{model}}/{}?api-version={{api_version}}"

SURFACES: dict[str, Surface] = {
    "openai": _openai(*IMAGES, *SPEECH, "moderations", keeps="/{path}", responses="/responses"),
    "azure": Surface(
        "openai",
        _passes("images/generations", "images/edits", *SPEECH, template=DEPLOYMENT),
        "/openai/{path}?api-version={api_version}",
    ),
    "azure_foundry": Surface(
        "openai",
        _passes("images/generations", "images/edits", *SPEECH, template="/openai/v1/{}"),
        "/openai/v1/{path}",
        "/openai/v1/responses",
    ),
    "anthropic": Surface("anthropic", {"complete": "/v1/complete"}, "/v1/{path}"),
    "gemini": Surface(
        "gemini",
        _passes("predict", "generateAnswer", template="/v1beta/models/{{model}}:{}"),
        "/{path}",
    ),
    "xai": _openai("images/generations", responses="/responses"),
    "mistral": _openai("audio/transcriptions", "moderations"),
    "groq": _openai(*SPEECH),
    "together": _openai("images/generations", "audio/speech", *HEARING, "rerank"),
    "deepinfra": _openai("images/generations", "images/edits", "images/variations", *SPEECH),
    "siliconflow": _openai("images/generations", "audio/speech", "audio/transcriptions", "rerank"),
    "nebius": _openai("images/generations"),
    "novita": _openai("rerank"),
    "zai": _openai("images/generations"),
    **dict.fromkeys(
        ("openai_compatible", "vllm", "sglang", "lm_studio", "llama_cpp", "llamafile", "localai", "litellm"), OPEN
    ),
}
