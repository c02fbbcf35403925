-- One load for wrk, told by `key=value` arguments after `--`, and one line of results at its end.
--
--   header=Name: value   sent with every request (repeatable)
--   tokens=FILE          one token a line, sent in turn as `Authorization: Bearer`
--   start=N              the first line of that file to use
--   paths=FILE           one path a line, the n-th with the n-th token
--   method=M             the method
--   body_bytes=N         a body of that many bytes
--   pause_ms=X           before each request, a pause of random length (exponential, mean X)
--   pipelined=N          so many requests at a time, in one write

local paused_ms = 0

local function read_lines(path, start)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  local turned = {}
  for i = 1, #lines do turned[i] = lines[(i + start - 2) % #lines + 1] end
  return turned
end

local function rotate(tokens)
  wrk.headers["Authorization"] = "Bearer @"
  local whole = wrk.format()
  local at = whole:find("Bearer @", 1, true) + #"Bearer "
  local head, tail = whole:sub(1, at - 1), whole:sub(at + 1)
  local turn = 0
  request = function()
    turn = turn % #tokens + 1
    return head .. tokens[turn] .. tail
  end
end

local function pair(paths, tokens)
  local requests = {}
  for i = 1, #tokens do
    wrk.headers["Authorization"] = "Bearer " .. tokens[i]
    requests[i] = wrk.format(nil, paths[(i - 1) % #paths + 1])
  end
  local turn = 0
  request = function()
    turn = turn % #requests + 1
    return requests[turn]
  end
end

local function pipeline(count)
  local whole = wrk.format()
  local once = request or function() return whole end
  request = function()
    local many = {}
    for i = 1, count do many[i] = once() end
    return table.concat(many)
  end
end

function init(arguments)
  local path, paths, start, pipelined = nil, nil, 1, 1
  math.randomseed(1)
  for _, argument in ipairs(arguments) do
    local key, value = argument:match("^(%w[%w_]*)=(.*)$")
    if key == "header" then
      local name, text = value:match("^([^:]+): (.*)$")
      wrk.headers[name] = text
    elseif key == "tokens" then path = value
    elseif key == "paths" then paths = value
    elseif key == "start" then start = tonumber(value)
    elseif key == "method" then wrk.method = value
    elseif key == "body_bytes" then wrk.body = string.rep("x", tonumber(value))
    elseif key == "pause_ms" then paused_ms = tonumber(value)
    elseif key == "pipelined" then pipelined = tonumber(value)
    end
  end
  if paused_ms > 0 then
    delay = function() return math.floor(-math.log(1 - math.random()) * paused_ms + 0.5) end
  end
  if paths then pair(read_lines(paths, 1), read_lines(path, start))
  elseif path then rotate(read_lines(path, start))
  end
  if pipelined > 1 then pipeline(pipelined) end
end

function done(summary, latency)
  io.write(string.format(
    "bench: requests=%d duration_us=%d p50_us=%d p99_us=%d refused=%d connect=%d read=%d write=%d timeout=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.status, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.timeout))
end
