"""Paths that are not understood pass through: operations of a model by JSON and by form, and what vendors keep."""

import io
import json
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest
from google import genai

from tests.support.gateway import Node, node, unique
from tests.support.vendor import FILE, SOUND, Vendor, ask
from tests.support.vendor import KEY as VENDOR_KEY

MAIN, SHARING, ALSO = "fgw-main-0123456789abcdef", "fgw-sharing-0123456789abcd", "fgw-also-0123456789abcdefg"
LIMITED = "fgw-limited-0123456789abcd"
SOUND_FILE = zlib.compress(b"RIFF" * 1000, 0) + b"\r\n--not-the-boundary\r\n\x00\xff"
TRANSCRIBE = {"file": ("a.wav", SOUND_FILE, "audio/wav"), "model": "hear"}


def config(vendor: Vendor) -> str:
    port = vendor.url.partition("//")[2].partition("/")[0]
    return f"""
providers:
  up: {{kind: openai, base_url: "{vendor.url}", api_key: "{VENDOR_KEY}", pass_through: [files, batches]}}
  server: {{kind: openai_compatible, base_url: "{vendor.url}", api_key: "{VENDOR_KEY}"}}
  claude: {{kind: anthropic, base_url: "http://{port}", api_key: "{VENDOR_KEY}", pass_through: [batches]}}
  google: {{kind: gemini, base_url: "http://{port}", api_key: "{VENDOR_KEY}", pass_through: [files]}}
  wrong: {{kind: openai, base_url: "{vendor.url}", api_key: "sk-wrong-credential"}}
models:
  draw: {{targets: [{{provider: google, model: imagen-4}}]}}
  refused: {{targets: [{{provider: wrong, model: m}}]}}
  paint: {{targets: [{{provider: up, model: gpt-image-1, price: {{input: 5, output: 40}}}}]}}
  gpt-image-1: {{targets: [{{provider: up, model: gpt-image-1}}]}}
  hear: {{targets: [{{provider: up, model: gpt-4o-transcribe, price: {{input: 2.5, output: 10}}}}]}}
  say: {{targets: [{{provider: up, model: tts-1}}]}}
  omni-moderation-latest: {{targets: [{{provider: up, model: omni-moderation-2024-09-26}}]}}
  rank: {{targets: [{{provider: claude, model: x}}, {{provider: server, model: reranker, priority: 2}}],
          balance: priority}}
  claude: {{targets: [{{provider: claude, model: x}}]}}
keys:
  - {{name: main, secret: "{MAIN}", models: [draw, paint, hear, say, rank, claude, omni-moderation-latest]}}
  - {{name: sharing, secret: "{SHARING}", pass_through: true}}
  - {{name: also, secret: "{ALSO}", pass_through: true, default_model: hear}}
  - {{name: limited, secret: "{LIMITED}", pass_through: true, limits: {{requests: 1/min, burst: 1}}}}
bounds: {{body: 1MiB}}
"""


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Vendor() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory: Path = tmp_path_factory.mktemp("paths")
    with node(directory, config(vendor), key=MAIN) as made:
        yield made
    assert not made.log("internal_error"), made.log("internal_error")


@pytest.fixture
def client(gateway: Node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=MAIN, base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def sharing(gateway: Node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=SHARING, base_url=f"{gateway.url}/v1", max_retries=0, timeout=20) as made:
        yield made


def form(**fields: str | tuple[str, bytes, str]) -> tuple[bytes, str]:
    """A multipart body and its content-type; a tuple is a file: name, bytes, type."""
    out = b""
    for name, value in fields.items():
        head = f'--BOUNDARY\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(value, tuple):
            out += f'{head}; filename="{value[0]}"\r\nContent-Type: {value[2]}\r\n\r\n'.encode() + value[1] + b"\r\n"
        else:
            out += f"{head}\r\n\r\n{value}\r\n".encode()
    return out + b"--BOUNDARY--\r\n", "multipart/form-data; boundary=BOUNDARY"


# -- operations of a model -------------------------------------------------------------------------------------------


def test_an_image_is_made_and_metered(client, gateway, vendor):
    label = unique()
    reply = client.images.generate(model="paint", prompt="a cat", extra_headers={"x-request-id": label})
    assert reply.data[0].b64_json == "QUJD" * 1000
    seen = vendor.last("/images/generations")
    assert json.loads(seen.body) == {"model": "gpt-image-1", "prompt": "a cat"}
    row = gateway.record(label)
    assert (row["model"], row["target"], row["usage_source"]) == ("paint", "up/gpt-image-1", "upstream")
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano"]) == (10, 100, 10 * 5000 + 100 * 40000)
    assert (row["status"], row["stream"]) == (200, False)


def test_what_need_not_change_does_not(gateway, vendor):
    body = b'{ "model" : "gpt-image-1",\n"prompt":"\\u0041", "n": 1.50 }'
    status, headers, answer = ask(
        gateway.port, "POST", "/v1/images/generations", body, key=SHARING, content_type="application/json"
    )
    assert (status, headers["content-type"]) == (200, "application/json")
    assert vendor.last("/images/generations").body == body
    port = int(vendor.url.split(":")[2].split("/")[0])
    straight = ask(port, "POST", "/v1/images/generations", body, key=VENDOR_KEY, content_type="application/json")
    assert answer == straight[2]
    assert headers["x-fastgw-target"] == "up/gpt-image-1"


@pytest.mark.parametrize("prefix", ["/openai/v1", "/openai/deployments/paint"])
def test_the_other_places_of_the_same(gateway, vendor, prefix):
    body = {"prompt": "x"} | ({} if "deployments" in prefix else {"model": "paint"})
    assert ask(gateway.port, "POST", f"{prefix}/images/generations?api-version=1", body, key=MAIN)[0] == 200
    assert json.loads(vendor.last("/images/generations").body)["model"] == "gpt-image-1"


@pytest.mark.parametrize("said", [{}, {"model": "gpt-image-1"}, {"model": "something-dear"}])
@pytest.mark.parametrize("operation", ["images/generations", "chat/completions"])
def test_the_model_in_the_path_is_the_one_that_is_asked(gateway, vendor, operation, said):
    # The target's own name of the model is the path's: nothing is to be renamed, and still nobody else is to be asked.
    body = {"prompt": "x", "messages": []} | said
    ask(gateway.port, "POST", f"/openai/deployments/gpt-image-1/{operation}", body, key=SHARING)
    assert json.loads(vendor.last(operation).body)["model"] == "gpt-image-1"


def test_images_come_as_events(client, gateway):
    label = unique()
    stream = client.images.generate(
        model="paint", prompt="x", stream=True, partial_images=1, extra_headers={"x-request-id": label}
    )
    assert [event.type for event in stream] == ["image_generation.partial_image", "image_generation.completed"]
    row = gateway.record(label)
    assert (row["stream"], row["usage_source"], row["output_tokens"]) == (True, "upstream", 100)


@pytest.mark.parametrize("operation", ["edit", "create_variation"])
def test_an_image_in_a_form(client, gateway, vendor, operation):
    label = unique()
    more = {"prompt": "x"} if operation == "edit" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's, of variations
        reply = getattr(client.images, operation)(
            model="paint", image=("a.png", SOUND_FILE, "image/png"), n=2, extra_headers={"x-request-id": label}, **more
        )
    assert reply.data[0].b64_json
    seen = vendor.last("s" if operation == "edit" else "/variations")
    fields = seen.form()
    assert fields == {"model": b"gpt-image-1", "image": SOUND_FILE, "n": b"2"} | (
        {"prompt": b"x"} if operation == "edit" else {}
    )
    assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert gateway.record(label)["cost_nano"] == 10 * 5000 + 100 * 40000


def test_a_model_behind_a_wildcard(gateway, vendor):
    body, kind = form(model="up/whisper-1", file=("a.wav", SOUND_FILE, "audio/wav"))
    status, headers, _ = ask(gateway.port, "POST", "/v1/audio/transcriptions", body, key=SHARING, content_type=kind)
    assert (status, headers["x-fastgw-target"]) == (200, "up/whisper-1")
    assert vendor.last("/transcriptions").body == body.replace(b"up/whisper-1", b"whisper-1")


def test_a_form_without_a_model_means_the_keys_own(gateway, vendor):
    body, kind = form(file=("a.wav", SOUND_FILE, "audio/wav"))
    status, _, answer = ask(gateway.port, "POST", "/v1/audio/transcriptions", body, key=ALSO, content_type=kind)
    assert status == 200, answer
    assert vendor.last("/transcriptions").form() == {"file": SOUND_FILE, "model": b"gpt-4o-transcribe"}
    status, _, answer = ask(gateway.port, "POST", "/v1/audio/transcriptions", body, key=SHARING, content_type=kind)
    assert (status, json.loads(answer)["error"]["param"]) == (400, "model")


def test_sound_is_heard(client, gateway, vendor):
    label = unique()
    reply = client.audio.transcriptions.create(**TRANSCRIBE, extra_headers={"x-request-id": label})
    assert reply.text == "hello"
    assert vendor.last("/transcriptions").form() == {"file": SOUND_FILE, "model": b"gpt-4o-transcribe"}
    row = gateway.record(label)
    assert (row["model"], row["usage_source"]) == ("hear", "upstream")
    assert (row["input_tokens"], row["output_tokens"]) == (14, 45)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's, of translations
        assert client.audio.translations.create(**TRANSCRIBE).text == "hello"
    assert client.audio.transcriptions.create(**TRANSCRIBE, response_format="text") == "hello\n"


def test_a_transcript_comes_as_events(client, gateway):
    label = unique()
    stream = client.audio.transcriptions.create(**TRANSCRIBE, stream=True, extra_headers={"x-request-id": label})
    assert [event.type for event in stream] == ["transcript.text.delta", "transcript.text.done"]
    row = gateway.record(label)
    assert (row["stream"], row["input_tokens"], row["output_tokens"]) == (True, 14, 45)


def test_a_form_that_need_not_change_does_not(gateway, vendor):
    body, kind = form(prompt="x", image=("a.png", SOUND_FILE, "image/png"), model="gpt-image-1")
    assert ask(gateway.port, "POST", "/v1/images/edits", body, key=SHARING, content_type=kind)[0] == 200
    seen = vendor.last("/images/edits")
    assert (seen.body, seen.headers["content-type"]) == (body, kind)


def test_speech_passes_byte_for_byte(client, gateway):
    label = unique()
    with client.audio.speech.with_streaming_response.create(
        model="say", voice="alloy", input="hi", extra_headers={"x-request-id": label}
    ) as reply:
        assert reply.headers["content-type"] == "audio/mpeg"
        pieces = list(reply.iter_bytes(4096))
    assert b"".join(pieces) == SOUND
    row = gateway.record(label)
    assert (row["bytes_out"], row["usage_source"], row["cost_nano"]) == (len(SOUND), "none", None)


def test_a_client_that_leaves_ends_the_call_at_the_vendor(client, gateway, vendor):
    label = unique()
    vendor.hold = threading.Event()
    try:
        with client.audio.speech.with_streaming_response.create(
            model="say", voice="alloy", input="hi", extra_headers={"x-request-id": label}
        ) as reply:
            next(reply.iter_bytes(4096))
        row = gateway.record(label)
    finally:
        vendor.hold.set()
        vendor.hold = None
    assert (row["status"], row["error"], row["bytes_out"] < len(SOUND)) == (499, "client_closed", True)


def test_moderation_has_a_model_of_its_own(client, vendor):
    assert client.moderations.create(input="x").results[0].flagged is False
    assert json.loads(vendor.last("/moderations").body) == {"input": "x", "model": "omni-moderation-2024-09-26"}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_reranking_where_it_is_offered(gateway, vendor, path):
    label = unique()
    body = {"model": "rank", "query": "q", "documents": ["a", "b"]}
    status, headers, _ = ask(gateway.port, "POST", path, body, key=MAIN, x_request_id=label)
    assert (status, headers["x-fastgw-target"], headers["x-fastgw-attempts"]) == (200, "server/reranker", "2")
    assert json.loads(vendor.last("/rerank").body)["model"] == "reranker"
    row = gateway.record(label)
    assert (row["input_tokens"], [one["reason"] for one in row["attempts"]]) == (7, ["not_offered", ""])


def test_where_it_is_not_offered(gateway):
    body = {"model": "claude", "query": "q", "documents": ["a"]}
    status, _, answer = ask(gateway.port, "POST", "/v1/rerank", body, key=MAIN)
    assert (status, json.loads(answer)["error"]["code"]) == (404, "endpoint_not_enabled")
    assert b"does not offer" in answer


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/images/generations", {"model": "paint"}, 400, "missing_field"),
        ("/v1/images/generations", {"prompt": "x"}, 400, "missing_field"),
        ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "x"}, 403, "model_not_allowed"),
        ("/v1/images/generations", {"model": "nobody", "prompt": "x"}, 404, "model_not_found"),
        ("/v1/images/generations", {"model": "paint", "prompt": "x", "api_key": "sk-1"}, 400, "forbidden_field"),
        ("/v1/audio/transcriptions", form(model="hear"), 400, "missing_field"),
        ("/v1/audio/transcriptions", form(model="gpt-image-1", file=("a", b"x", "a/b")), 403, "model_not_allowed"),
        ("/v1/audio/transcriptions", form(model="hear", file=("a", b"x", "a/b"), api_base="http://x"), 400,
         "forbidden_field"),
        ("/v1/audio/transcriptions", (form(model="hear")[0][:-8], form()[1]), 400, "bad_request"),
        ("/v1/audio/transcriptions", (form(model="hear")[0], "multipart/form-data"), 400, "bad_request"),
        ("/v1/audio/transcriptions", (form(model="hear")[0] * 2, form()[1]), 400, "bad_request"),
        ("/v1/audio/speech", form(model="say", input="x"), 400, "bad_request"),
        ("/v1/audio/transcriptions", form(model="hear", file=("a", b"x" * 2**20, "a/b")), 413, "request_too_large"),
    ],
)  # fmt: skip
def test_what_is_refused_here(gateway, vendor, path, body, status, code):
    asked = len(vendor.seen)
    more = {}
    if isinstance(body, tuple):
        body, more["content_type"] = body
    got, _, answer = ask(gateway.port, "POST", path, body, key=MAIN, **more)
    assert (got, json.loads(answer)["error"]["code"]) == (status, code)
    assert len(vendor.seen) == asked


def test_a_model_named_twice_in_a_form_is_refused(gateway, vendor):
    asked = len(vendor.seen)
    body, kind = form(model="hear", file=("a", b"x", "a/b"))
    twice = body.replace(b"--BOUNDARY--", form(model="paint")[0].removesuffix(b"--BOUNDARY--\r\n") + b"--BOUNDARY--")
    status, _, answer = ask(gateway.port, "POST", "/v1/audio/transcriptions", twice, key=MAIN, content_type=kind)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "duplicate_field")
    other = twice.replace(b'name="model"\r\n\r\npaint', b'name="model[]"\r\n\r\npaint')
    assert other != twice
    status, _, answer = ask(gateway.port, "POST", "/v1/audio/transcriptions", other, key=MAIN, content_type=kind)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "duplicate_field")
    assert len(vendor.seen) == asked


def test_completions_as_anthropic_had_them(gateway, vendor):
    body = {"model": "claude", "prompt": "x", "max_tokens_to_sample": 1}
    status, _, answer = ask(gateway.port, "POST", "/v1/complete", body, key=MAIN)
    assert (status, json.loads(answer)["completion"]) == (200, " hi")
    assert json.loads(vendor.last("/complete").body)["model"] == "x"
    status, _, answer = ask(gateway.port, "POST", "/v1/complete", {"model": "claude"}, key=MAIN)
    assert (status, json.loads(answer)["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("prefix", ["/v1beta", "/genai/v1beta"])
def test_methods_of_a_gemini_model(gateway, vendor, prefix):
    body = b'{"instances": [{"prompt":"x"}], "parameters": {"sampleCount": 1}}'
    path = f"{prefix}/models/draw:predict"
    status, _, answer = ask(gateway.port, "POST", path, body, key=MAIN, content_type="application/json")
    assert (status, json.loads(answer)["method"]) == (200, "imagen-4:predict")
    seen = vendor.last(":predict")
    assert (seen.path, seen.body) == ("/v1beta/models/imagen-4:predict", body)
    status, _, answer = ask(gateway.port, "POST", f"{prefix}/models/nobody:predict", {}, key=MAIN)
    assert (status, json.loads(answer)["error"]["status"]) == (404, "NOT_FOUND")


def test_a_provider_that_refuses_our_key(gateway):
    body = {"model": "refused", "input": "x"}
    status, _, answer = ask(gateway.port, "POST", "/v1/moderations", body, key=SHARING)
    assert (status, json.loads(answer)["error"]["code"]) == (502, "upstream_auth_failed")


# -- what vendors keep -----------------------------------------------------------------------------------------------


def test_files_of_an_account(sharing, vendor):
    content = b'{"custom_id":"1"}\n' * 100
    made = sharing.files.create(file=("a.jsonl", content), purpose="batch")
    assert vendor.last("/files").form()["file"] == content
    assert sharing.files.retrieve(made.id).bytes == len(content)
    assert made.id in [one.id for one in sharing.files.list(purpose="batch", limit=7)]
    assert vendor.last("/files").query in ("purpose=batch&limit=7", "limit=7&purpose=batch")
    reply = sharing.files.content(made.id)
    assert reply.read() == FILE
    assert reply.response.headers["content-length"] == str(len(FILE))
    assert sharing.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        sharing.files.retrieve(made.id)
    assert "No such File object" in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
def test_batches_through_anthropics_sdk(gateway, vendor, prefix):
    with anthropic.Anthropic(api_key=SHARING, base_url=gateway.url + prefix, max_retries=0, timeout=20) as claude:
        ask_one = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        made = claude.messages.batches.create(requests=[{"custom_id": "1", "params": ask_one}])
        assert [one.id for one in claude.messages.batches.list(limit=2)] == [made.id]
        assert vendor.last("/batches").query == "limit=2"
        assert claude.messages.batches.cancel(made.id).id == made.id
    seen = vendor.last("/cancel")
    assert (seen.path, seen.headers["x-api-key"]) == ("/v1/messages/batches/msgbatch_1/cancel", VENDOR_KEY)
    assert seen.headers["anthropic-version"]
    claude = anthropic.Anthropic(api_key=MAIN, base_url=gateway.url, max_retries=0, timeout=20)
    with claude, pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.batches.list()
    assert "pass_through: true" in caught.value.message


@pytest.mark.parametrize(("prefix", "version"), [("", "v1beta"), ("/genai", "v1beta"), ("/genai", "v1")])
def test_files_through_googles_sdk(gateway, vendor, prefix, version):
    options = genai.types.HttpOptions(base_url=gateway.url + prefix, api_version=version, timeout=20_000)
    with genai.Client(api_key=SHARING, http_options=options) as google:
        assert [one.name for one in google.files.list()] == ["files/f1"]
        assert google.files.get(name="files/f1").mime_type == "text/plain"
        google.files.delete(name="files/f1")
    seen = vendor.seen[-1]
    assert (seen.method, seen.path, seen.headers["x-goog-api-key"]) == ("DELETE", f"/{version}/files/f1", VENDOR_KEY)
    body = b"--B\r\ncontent-type: application/json\r\n\r\n{}\r\n--B\r\n\r\nabc\r\n--B--"
    path = f"/upload/{version}/files?uploadType=multipart&key={SHARING}"
    kind = "multipart/related; boundary=B"
    status, _, answer = ask(gateway.port, "POST", prefix + path, body, key=SHARING, content_type=kind)
    assert (status, json.loads(answer)["file"]["name"]) == (200, "files/f1")
    seen = vendor.seen[-1]
    assert (seen.path, seen.query, seen.body) == (f"/upload/{version}/files", "uploadType=multipart", body)
    assert seen.headers["content-type"] == kind


def test_all_keys_that_may_share_it(sharing, gateway):
    made = sharing.files.create(file=("a", b"x"), purpose="batch")
    with openai.OpenAI(api_key=ALSO, base_url=f"{gateway.url}/openai/v1", max_retries=0, timeout=20) as also:
        assert also.files.retrieve(made.id).id == made.id


def test_a_key_that_may_not(client, vendor):
    asked = len(vendor.seen)
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.list()
    assert caught.value.code == "endpoint_not_enabled"
    assert "pass_through: true" in str(caught.value)
    assert len(vendor.seen) == asked


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/assistants", 404), ("POST", "/v1/vector_stores", 404), ("GET", "/v1/threads/t/messages", 404),
        ("GET", "/v1beta/operations/x", 404), ("GET", "/genai/v1beta/cachedContents/x", 404),
        ("PUT", "/v1/files/x", 405),
        ("GET", "/anthropic/v1/files", 404), ("GET", "/v1/files/%2e%2e/x", 400),
        ("GET", "/v1/files/../models", 400), ("GET", "/v1/files//x", 400), ("GET", "/v1/filesystem", 404),
    ],
)  # fmt: skip
def test_what_is_not_switched_on(gateway, vendor, method, path, status):
    asked = len(vendor.seen)
    got, _, answer = ask(gateway.port, method, path, None, key=SHARING)
    assert got == status
    if status == 404 and path != "/v1/filesystem":
        assert b"pass_through" in answer
    assert len(vendor.seen) == asked


def test_no_key_no_file(gateway, vendor):
    asked = len(vendor.seen)
    assert ask(gateway.port, "GET", "/v1/files", None, key="fgw-unknown-0123456")[0] == 401
    assert len(vendor.seen) == asked


def test_a_query_carries_no_credentials(gateway, vendor):
    path = f"/v1/files?key={SHARING}&limit=2&API_KEY=x&access_token=y&after=a%26b"
    assert ask(gateway.port, "GET", path, None, key=SHARING)[0] == 200
    seen = vendor.last("/files")
    assert seen.query == "limit=2&after=a%26b"
    assert "content-length" not in seen.headers
    assert "content-type" not in seen.headers


def test_a_limit_holds_here_too(gateway):
    assert ask(gateway.port, "GET", "/v1/files", None, key=LIMITED)[0] == 200
    status, headers, _ = ask(gateway.port, "GET", "/v1/files", None, key=LIMITED)
    assert status == 429
    assert int(headers["retry-after"]) > 1


def test_what_is_recorded_of_a_file(gateway):
    label = unique()
    ask(gateway.port, "GET", "/v1/files", None, key=SHARING, x_request_id=label)
    row = gateway.record(label)
    assert (row["model"], row["target"], row["provider"]) == ("(files)", "up/(files)", "up")
    assert (row["usage_source"], row["cost_nano"], row["key"]) == ("none", None, "sharing")


def test_a_download_that_breaks_off_shows(gateway, vendor, sharing):
    made = sharing.files.create(file=io.BytesIO(b"x"), purpose="batch")
    label = unique()
    vendor.cut_after = 100_000
    try:
        with pytest.raises(openai.APIConnectionError):
            sharing.files.content(made.id, extra_headers={"x-request-id": label}).read()
    finally:
        vendor.cut_after = None
    assert gateway.record(label)["error"] == "upstream_invalid_response"
