# Net::HTTP of Ruby's standard library: one started session a case.
require "digest"
require "json"
require "net/http"
require "stringio"

PATTERN = "abcdefghijklmnopqrstuvwxyz0123456789-".freeze

class Cannot < StandardError; end

def response_of(answer)
  body = answer.body || ""
  fields = answer.to_hash.flat_map { |name, values| values.map { |value| [name, value] } }
  {
    status: answer.code.to_i,
    headers: fields,
    text: body.bytesize <= 65_536 ? body.dup.force_encoding("UTF-8").scrub : "",
    size: body.bytesize,
    sha256: Digest::SHA256.hexdigest(body)
  }
end

def build(request, target, has_login)
  body = request["size"].negative? ? nil : (PATTERN * (request["size"] / PATTERN.size + 1))[0, request["size"]]
  asked = Net::HTTPGenericRequest.new(
    request["method"], !body.nil?, request["method"] != "HEAD", target,
    request["gzip"] ? {} : { "Accept-Encoding" => "identity" }
  )
  request["headers"].each { |name, value| asked[name] = value }
  asked.basic_auth(request["user"], request["password"]) if has_login
  if body
    asked["Content-Type"] = "text/plain"
    if request["chunked"]
      asked["Transfer-Encoding"] = "chunked"
      asked.body_stream = StringIO.new(body)
    else
      asked.body = body
    end
    asked["Expect"] = "100-continue" if request["expect"]
  end
  asked
end

def ask(session, request)
  has_login = request["user"] != "" || request["password"] != ""
  uri = URI(request["url"])
  answer = session.request(build(request, uri.request_uri, has_login && !request["challenge"]))
  if request["challenge"] && answer.code == "401"
    answer = session.request(build(request, uri.request_uri, true))
  end
  if request["follow"] && %w[302 307].include?(answer.code)
    nextone = answer.code == "307" ? request : request.merge("method" => "GET", "size" => -1)
    answer = session.request(build(nextone, URI(answer["location"]).request_uri, has_login))
  end
  response_of(answer)
end

def play(requests, authority)
  uri = URI(requests[0]["url"])
  session = Net::HTTP.new(uri.host, uri.port, nil)
  session.use_ssl = uri.scheme == "https"
  session.ca_file = authority
  session.continue_timeout = 10
  session.max_retries = 0
  session.start { requests.map { |request| ask(session, request) } }
end

$stdout.sync = true
told = JSON.parse($stdin.read)
told["cases"].each do |one|
  line = { name: one["name"], responses: [], error: "", cannot: "" }
  begin
    line[:responses] = play(one["requests"], told["ca"])
  rescue Cannot => e
    line[:cannot] = e.message
  rescue StandardError => e
    line[:error] = "#{e.class}: #{e.message}"
  end
  puts JSON.generate(line)
end
