-- Asks for decisions: each request has a user of its own, and other metadata. Ends with one line of JSON.
-- CHECK=1 counts the replies that allow, which costs this side some time.
local actions = { "restart_pod", "scale_deployment", "rollback_deployment", "drain_node", "clear_cache" }
local severities = { "low", "medium", "high", "critical" }
local headers = { ["content-type"] = "application/json" }
local run, number = os.getenv("RUN") or "0", 0
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function request()
   number = number + 1
   local case = number % 400
   local frozen = math.floor(case / 80) % 5 == 4
   return wrk.format("POST", nil, headers, string.format(
      '{"action":"%s","resource":"pod:ns-%d/api-%d","type":"self_healing","context":{"userId":"u%s-%d","role":"service","metadata":{"severity":"%s","automated":true,"freeze":%s}}}',
      actions[case % 5 + 1], math.floor(case / 5) % 4, case, run, number, severities[math.floor(case / 20) % 4 + 1], tostring(frozen)
   ))
end

if os.getenv("CHECK") == "1" then
   allowed = 0
   function response(_, _, body)
      if body:find('"allowed":true', 1, true) then
         allowed = allowed + 1
      end
   end
end

function done(summary, latency)
   local failed, allows = summary.errors, 0
   for _, thread in ipairs(threads) do
      allows = allows + (thread:get("allowed") or 0)
   end
   print(string.format(
      '{"count": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "lost": %d, "allowed": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      failed.status, failed.connect + failed.read + failed.write + failed.timeout, allows
   ))
end
