-- Asks the sidecar whether a call may pass: http-request lua.sidecar ADDRESS IDENTITY-HEADERS
--
-- ADDRESS is that of the operations listener; commas separate IDENTITY-HEADERS. A 200 lets the call
-- pass, with the identity and with the target that was judged, without the credentials in its query.
-- The caller gets any other answer; if there is none at all, it gets 503.

local PATIENCE_MS = 2000 -- HAProxy tries four times

-- Fields of one connection (RFC 9110 section 7.6.1), or of the body, which is not sent along.
local LEFT_OUT = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
    ["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true, ["expect"] = true,
}

local PASSED_ON = {
    "www-authenticate", "retry-after", "allow", "cache-control", "content-type", "x-request-id",
    "x-auth-code",
}

local FOR_THE_CALLER = {
    ["x-token-expires"] = "txn.token_expires", ["x-auth-cache-control"] = "txn.cache_control",
}

local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not LEFT_OUT[name] then
            local copied = {}
            for index = 0, #values do
                copied[#copied + 1] = values[index]
            end
            headers[name] = copied
        end
    end
    headers["x-original-method"] = { txn.sf:method() }
    headers["x-original-uri"] = { txn.sf:url() }
    return headers
end

local function refuse(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    for name, value in pairs(headers) do
        reply:add_header(name, value)
    end
    reply:set_body(body or "")
    txn:done(reply)
end

local function first(response, name)
    local values = response.headers[name]
    return values and (values[0] or values[1])
end

local function pass(txn, response, identity)
    txn.http:req_set_uri(first(response, "x-auth-uri"))
    for name in identity:gmatch("[^,%s]+") do
        local value = first(response, name:lower())
        if value then
            txn.http:req_set_header(name, value)
        end
    end
    txn.http:req_set_header("X-Request-Id", first(response, "x-request-id"))
    for name, variable in pairs(FOR_THE_CALLER) do
        local value = first(response, name)
        if value then
            txn:set_var(variable, value)
        end
    end
end

local function sidecar(txn, address, identity)
    local response = core.httpclient():get({
        url = "http://" .. address .. "/auth?statuses=all",
        headers = question(txn),
        timeout = PATIENCE_MS,
    })
    -- Only an answer that names the target that was judged lets the call pass, whoever else says 200.
    local judged = response and response.status == 200 and first(response, "x-auth-uri")
    if judged and judged:sub(1, 1) == "/" then
        return pass(txn, response, identity)
    end
    if not response or not response.headers or not first(response, "x-auth-code") then
        return refuse(txn, 503, { ["retry-after"] = "1", ["cache-control"] = "no-store" })
    end
    local headers = {}
    for _, name in ipairs(PASSED_ON) do
        headers[name] = first(response, name)
    end
    return refuse(txn, response.status, headers, response.body)
end

core.register_action("sidecar", { "http-req" }, sidecar, 2)
