-- Chat requests for wrk. For a gateway of yours (see README.md in this directory):
--
--     BENCH_KEY=fgw-... BENCH_MODEL=fast wrk -t2 -c64 -d10s --latency -s bench/wrk.lua http://127.0.0.1:4000/v1/chat/completions
--
-- BENCH_KEY    the caller's key               BENCH_MODEL  the model to ask for
-- BENCH_KEYS   ask by so many keys in turn (sk-bench-numbered-000000 and on) instead of by one
-- BENCH_DELAY  milliseconds that each connection waits before it asks again
-- BENCH_SIZE   bytes of the prompt, about     BENCH_BODY   a file to send instead of all that
-- The last line printed is JSON: times in microseconds, `status` counts answers of 400 and above.

local key = os.getenv("BENCH_KEY") or "sk-bench-caller-0123456789"
local file = os.getenv("BENCH_BODY")

local function prompt(size)
  local words = "Tell me about the weather in Paris during the spring. "
  return string.sub(string.rep(words, math.floor(size / #words) + 1), 1, size)
end

if file then
  local source = assert(io.open(file, "rb"))
  wrk.body = source:read("*a")
  source:close()
else
  local text = prompt(tonumber(os.getenv("BENCH_SIZE") or 300))
  wrk.body = string.format('{"model":"%s","messages":[{"role":"user","content":"%s"}],"max_tokens":16}',
    os.getenv("BENCH_MODEL") or "bench", text)
end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. key

local pause = tonumber(os.getenv("BENCH_DELAY") or 0)
if pause > 0 then
  function delay()
    return pause
  end
end

local keys = tonumber(os.getenv("BENCH_KEYS") or 0)
local number, before, after = 0, nil, nil

-- Far apart in number, each of them once before any comes again: keys is never a multiple of this prime.
if keys > 0 then
  function init()
    wrk.headers["authorization"] = "Bearer sk-bench-numbered-NUMBER"
    local whole = wrk.format()
    local first, last = string.find(whole, "NUMBER", 1, true)
    before, after = string.sub(whole, 1, first - 1), string.sub(whole, last + 1)
  end
  function request()
    number = (number + 7919) % keys
    return before .. string.format("%06d", number) .. after
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,' ..
    '"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.timeout,
    errors.status, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
