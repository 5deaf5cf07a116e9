-- Sends a request of three parts: what stands in two files, and between them a line of a third, another each time.
-- With "once" it stops behind the last line, else it begins anew.

local head, tail, lines, at, sent, once, spent = "", "", {}, 0, 0, false, false

-- say tells whoever started wrk what it cannot see: it times the turn, and ends it. In one piece, as wrk's own words
-- come from another thread.
local function say(word)
  io.write(word .. "\n")
  io.flush()
end

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
  sent = sent + 1
  if sent == 2 then -- wrk has made one before, to look at it
    say("begun")
  end
  if at > #lines then
    if once and not spent then
      spent = true
      say("spent")
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
