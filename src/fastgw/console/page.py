"""The status page: one file without a request to anybody else, and the policy that lets it be nothing more."""

import base64
import hashlib

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1f26; --dim: #5d6875; --ground: #f6f7f9; --card: #fff; --line: #dde2e8;
  --good: #177245; --bad: #b3261e; --busy: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #98a3b0; --ground: #12161b; --card: #1b2129;
  --line: #2e3742; --good: #58c48a; --bad: #ff8a80; --busy: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem; }
header { display: flex; align-items: baseline; gap: 1rem; flex-wrap: wrap; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
section, form { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem;
  margin-top: 1rem; overflow-x: auto; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem 1.5rem; margin: 0; }
dt { color: var(--dim); font-size: .85rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--dim); font-weight: normal; font-size: .85rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
input { font: inherit; padding: .35rem .5rem; width: 100%; max-width: 26rem; color: inherit;
  background: var(--ground); border: 1px solid var(--line); border-radius: 6px; }
button { font: inherit; padding: .35rem 1rem; margin-top: .5rem; cursor: pointer; color: inherit;
  background: var(--ground); border: 1px solid var(--line); border-radius: 6px; }
.good { color: var(--good); } .bad { color: var(--bad); } .busy { color: var(--busy); } .dim { color: var(--dim); }
[hidden] { display: none !important; }
"""

_SCRIPT = """
"use strict";
const KEY = "fastgw-admin-key";
const byId = (id) => document.getElementById(id);
const show = (id, on) => { byId(id).hidden = !on; };
const size = (n) => {
  if (n === undefined) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return (at ? n.toFixed(1) : n) + " " + units[at];
};
const since = (then) => {
  if (then === null || then === undefined) return "";
  let s = Math.max(0, Math.round(Date.now() / 1000 - then));
  const d = Math.floor(s / 86400); s -= d * 86400;
  const h = Math.floor(s / 3600); s -= h * 3600;
  const m = Math.floor(s / 60); s -= m * 60;
  return d ? d + " d " + h + " h" : h ? h + " h " + m + " min" : m ? m + " min " + s + " s" : s + " s";
};
const say = (text, kind) => { const at = byId("state"); at.textContent = text; at.className = kind; };
const facts = (id, pairs) => {
  const list = byId(id);
  list.replaceChildren(...pairs.map(([name, value]) => {
    const item = document.createElement("div");
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    item.append(dt, dd);
    return item;
  }));
};
const rows = (id, lines) => {
  byId(id).replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const td = document.createElement("td");
      td.textContent = cell;
      row.append(td);
    }
    return row;
  }));
};
const draw = (s) => {
  if (!s.pid) { say("the supervisor has ended or is starting", "bad"); return; }
  if (s.draining) say("draining", "busy");
  else if (s.ready) say(s.demo ? "ready (demo: answers come from the built-in mock)" : "ready", "good");
  else say("not ready", "bad");
  const errors = s.config_error || [];
  show("error", errors.length > 0);
  byId("errors").textContent = errors.join("\\n");
  const r = s.requests || {};
  facts("node", [["Revision", s.revision], ["Config", s.config_path || "none (environment)"], ["Version", s.version],
    ["Up for", since(s.started)], ["Process", s.pid], ["Listens at", s.listeners.join(", ")],
    ["Data directory", s.data_dir]]);
  facts("requests", ["2xx", "4xx", "429", "499", "5xx"].map((name) => [name, (r[name] || 0).toLocaleString("en")]));
  facts("spool", [["On disk", size(s.spool.bytes)], ["Files", s.spool.segments],
    ["Records dropped", s.spool.dropped], ["Problem", s.spool.problem || "none"],
    ["Recorded", s.recorder.records], ["Behind", s.recorder.behind_s + " s"],
    ["Recorder's problem", s.recorder.problem || "none"],
    ["Disk free", size(s.disk.free) + " of " + size(s.disk.total)]]);
  rows("workers", s.workers.map((w) => [w.index, w.pid || "", w.lane === null ? "" : w.lane,
    w.error ? w.state + ": " + w.error : w.state, w.revision,
    since(w.started), w.restarts, w.live, w.idle + " / " + w.busy]));
  show("facts", true);
};
const askForKey = (text) => {
  sessionStorage.removeItem(KEY);
  show("ask", true);
  show("facts", false);
  byId("refused").textContent = text;
};
const look = async () => {
  const key = sessionStorage.getItem(KEY);
  try {
    if (!key) {
      const live = await fetch("/health/live");
      say(live.ok ? "live" : "not live", live.ok ? "good" : "bad");
      show("ask", true);
      return;
    }
    const answer = await fetch("/status.json", { headers: { Authorization: "Bearer " + key } });
    if (answer.status === 401) { askForKey("This key was refused."); return; }
    if (!answer.ok) { say("the console answers " + answer.status, "bad"); return; }
    show("ask", false);
    draw(await answer.json());
  } catch (error) {
    say("the console cannot be reached", "bad");
  }
};
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  // A header takes no other characters; what else was pasted is no key of ours.
  const key = byId("key").value.trim().replace(/[^\\x21-\\x7e]/g, "");
  byId("key").value = "";
  byId("refused").textContent = "";
  if (key) { sessionStorage.setItem(KEY, key); look(); }
});
look();
setInterval(look, 2000);
"""

_BODY = """
<main>
<header><h1>fastgw</h1><span id="state" class="dim">looking</span></header>
<form id="ask" hidden>
<h2><label for="key">Admin key</label></h2>
<input id="key" type="password" autocomplete="off" spellcheck="false" required>
<br><button type="submit">Show status</button> <span id="refused" class="bad" role="alert"></span>
<p class="dim">It is in the file admin.key in the data directory. This tab keeps it until it is closed.</p>
</form>
<div id="facts" hidden>
<section id="error" hidden><h2 class="bad">The config was refused; the plan before it is in force</h2>
<pre id="errors"></pre></section>
<section><h2>Node</h2><dl id="node"></dl></section>
<section><h2>Requests</h2><dl id="requests"></dl></section>
<section><h2>Workers</h2><table><thead><tr><th>#<th>Process<th>Lane<th>State<th>Revision<th>Up for<th>Restarts
<th>Calls now<th>Upstream idle / busy</tr></thead><tbody id="workers"></tbody></table></section>
<section><h2>Records</h2><dl id="spool"></dl></section>
</div>
<noscript><section>This page needs JavaScript; <code>/status.json</code> and <code>/metrics</code> do not.</section>
</noscript>
</main>
"""


def _digest(text: str) -> str:
    """A CSP source expression that allows exactly this inline text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>fastgw</title>'
    f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
    f"<body>{_BODY}<script>{_SCRIPT}</script></body></html>\n"
).encode()
"""The page, complete; without the admin key it shows no more than that the console lives."""

POLICY = (
    f"default-src 'none'; script-src {_digest(_SCRIPT)}; style-src {_digest(_STYLE)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
"""Its Content-Security-Policy: our script and our style by their digests, requests to ourselves only."""
