-- Sends a request of three parts: what stands in two files, and between them a line of a third, another each time.
-- With "once" it stops behind the last line, else it begins anew.

local head, tail, lines, at, once, spent = "", "", {}, 0, false, false

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("*a")
  f:close()
  return text
end

function init(args)
  head, tail, once = read(args[1]), read(args[3]), args[4] == "once"
  for line in io.lines(args[2]) do
    lines[#lines + 1] = line
  end
end

function request()
  at = at + 1
  if at > #lines then
    if once and not spent then
      spent = true
      io.write("spent\n") -- wrk would sleep on: whoever started it ends it
      io.flush()
      wrk.thread:stop()
    end
    at = 1
  end
  return head .. lines[at] .. tail
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("bench %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout, e.status, latency:percentile(50), latency:percentile(99)))
end
