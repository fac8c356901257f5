"""The recorded shapes of vendors: what a caller asks, what they are sent for it, and what they answer.

`tests/fixtures/vendors/KIND/`: `client.json` (a request in the vendor's own dialect), `request.json` (what must leave
for it), `reply.json`, `stream.sse`, `error.json`, and `about.json` with the sources, what was left out, and what the
answers mean.
"""

import json
from pathlib import Path

from fastgw.dialects import framing, hub

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vendors"
KINDS = sorted(path.name for path in FIXTURES.iterdir())


class Vendor:
    """The fixture of one kind."""

    def __init__(self, kind):
        self.kind = kind
        self.about = json.loads((FIXTURES / kind / "about.json").read_bytes())
        self.model = self.about["model"]
        self.client, self.request, self.reply, self.error = (
            (FIXTURES / kind / f"{name}.json").read_bytes() for name in ("client", "request", "reply", "error")
        )
        self.stream = (FIXTURES / kind / "stream.sse").read_bytes()

    def status(self):
        """The status of `error`."""
        return self.about["error"]["status"]


def meaning(reply):
    """What matters of a `hub.Reply`, as `about.json` writes it."""
    (choice,) = reply.choices
    parts = choice.parts
    used = reply.usage
    return {
        "text": "".join(part.text for part in parts if type(part) is hub.Text),
        "thinking": "".join(part.text for part in parts if type(part) is hub.Thinking),
        "tools": [[part.name, json.loads(part.arguments)] for part in parts if type(part) is hub.ToolCall],
        "stop": choice.stop,
        "usage": used and [used.input, used.output, used.cached, used.cache_write, used.reasoning],
    }


def read(codec, raw):
    """The events of a whole stream."""
    reader, events = codec.reader(), []
    for event in framing.events(raw):
        payload = framing.payload(event)
        if payload is not None:
            events += reader.feed(framing.name(event), payload)
    return events + reader.end()
