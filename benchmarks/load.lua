-- wrk's script: sends the body in BENCH_BODY with the headers in BENCH_HEADERS, and prints one line of JSON.
-- Six # in the body become a number that counts up, so that no two requests are the same.
wrk.method = "POST"
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
for name, value in string.gmatch(os.getenv("BENCH_HEADERS"), "([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

if string.find(wrk.body, "######", 1, true) then
  local before, after
  local made = 0
  request = function()
    if not before then
      local whole = wrk.format()
      local first, last = string.find(whole, "######", 1, true)
      before, after = string.sub(whole, 1, first - 1), string.sub(whole, last + 1)
    end
    made = made + 1
    return before .. string.format("%06d", made % 1000000) .. after
  end
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
