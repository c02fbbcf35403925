"""nginx + Lua + Redis: a GET of the token's digest per request, over pooled connections.

SHA-256 is OpenSSL's, called by FFI, and base64 is nginx's own C function: both are faster than the
usual Lua libraries.
"""

from __future__ import annotations

from benchmarks.peers import Place, Running
from benchmarks.peers.nginx import http_block, run
from benchmarks.processes import free_port

EXTRA = """
  lua_package_path "/usr/share/lua/5.1/?.lua;;";
  lua_socket_log_errors on;
  init_by_lua_block {{
    local ffi = require "ffi"
    local redis = require "nginx.redis"
    ffi.cdef "unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);"
    local digest = ffi.new("unsigned char[32]")
    local sub, lower = string.sub, string.lower

    local function refuse()
      ngx.status = 401
      ngx.header["WWW-Authenticate"] = 'Bearer realm="listener", error="invalid_token"'
      ngx.header["Content-Type"] = "application/problem+json"
      ngx.header["Cache-Control"] = "no-store"
      ngx.print('{{"title":"Unauthorized","status":401,"code":"invalid_token"}}')
      return ngx.exit(401)
    end

    function authorize()
      local given = ngx.var.http_authorization
      if not given or lower(sub(given, 1, 7)) ~= "bearer " then return refuse() end
      local token = sub(given, 8)
      ffi.C.SHA256(token, #token, digest)
      local connection = redis:new()
      connection:set_timeout(250)
      local connected = connection:connect("127.0.0.1", {redis_port})
      if not connected then return ngx.exit(503) end
      local account, failure = connection:get("bench:" .. ngx.encode_base64(ffi.string(digest, 32)))
      if failure then return ngx.exit(503) end
      connection:set_keepalive(60000, 256)
      if account == ngx.null then return refuse() end
      ngx.var.account = account
    end
  }}
"""

ACCESS = 'set $account ""; access_by_lua_block { authorize() }'


def start(place: Place) -> Running:
    """Start nginx with the Lua module. Raises ``UnavailableError`` without it."""
    port = free_port()
    extra = EXTRA.format(redis_port=place.redis_port)
    http = http_block(place, port, access=ACCESS, extra=extra)
    return run(place, port, http, ("ndk_http_module", "ngx_http_lua_module"))
