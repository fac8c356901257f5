"""Users for Locust, against a gateway of yours: chats, some of them streamed, with a pause between two.

    pip install 'fastgw[load]'
    BENCH_KEY=fgw-... BENCH_MODEL=fast locust -f bench/locustfile.py --host http://127.0.0.1:4000

BENCH_KEY is the caller's key, BENCH_MODEL the model to ask for, BENCH_SIZE the bytes of the prompt, BENCH_WAIT the
seconds between two requests of one user ("0.5,1"; "0" for none). A stream's first event is reported as `first event`.
"""

import os
import time

from locust import FastHttpUser, between, constant, events, task

KEY = os.environ.get("BENCH_KEY", "sk-bench-caller-0123456789")
MODEL = os.environ.get("BENCH_MODEL", "bench")
SIZE = int(os.environ.get("BENCH_SIZE", "300"))
WAIT = [float(part) for part in os.environ.get("BENCH_WAIT", "0.5,1").split(",")]
PATH = "/v1/chat/completions"
WORDS = "Tell me about the weather in Paris during the spring. "
MESSAGES = [{"role": "user", "content": (WORDS * (SIZE // len(WORDS) + 1))[:SIZE]}]
HEADERS = {"authorization": f"Bearer {KEY}"}


class Caller(FastHttpUser):
    """Nine whole answers for one stream."""

    wait_time = between(*WAIT) if len(WAIT) == 2 else constant(WAIT[0])

    @task(9)
    def whole(self):
        body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 16}
        with self.client.post(PATH, json=body, headers=HEADERS, catch_response=True, name="chat") as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {(answer.text or '')[:200]}")
            elif not answer.json().get("choices"):
                answer.failure("no choices in the answer")

    @task(1)
    def streamed(self):
        body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 64, "stream": True}
        started = time.perf_counter()
        with self.client.post(
            PATH, json=body, headers=HEADERS, stream=True, catch_response=True, name="stream"
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
                return
            self._read(answer, started)

    def _read(self, answer, started):
        seen, first = b"", True
        for piece in answer.iter_content(chunk_size=None):
            if first:
                first = False
                taken = (time.perf_counter() - started) * 1000
                events.request.fire(
                    request_type="SSE", name="first event", response_time=taken, response_length=0, exception=None
                )
            seen = (seen + piece)[-64:]
        if b"[DONE]" not in seen:
            answer.failure("the stream was cut")
