// fetch, as Node.js has it. It trusts the authority by NODE_EXTRA_CA_CERTS.
import { basic, bodyOf, Cannot, piecesOf, response, run } from "./node_cases.mjs";

async function send(request, authorization) {
  const headers = new Headers(request.headers);
  if (headers.has("upgrade")) throw new Cannot("allows no Upgrade field");
  if (request.expect) throw new Cannot("allows no Expect field");
  if (authorization) headers.set("Authorization", authorization);
  let body = bodyOf(request)?.toString();
  if (body) headers.set("Content-Type", "text/plain");
  const options = { method: request.method, headers, redirect: request.follow ? "follow" : "manual" };
  if (body && request.chunked) {
    body = ReadableStream.from(piecesOf(Buffer.from(body)));
    options.duplex = "half";
  }
  const answer = await fetch(request.url, { ...options, body });
  const received = Buffer.from(await answer.arrayBuffer());
  // A connection is given back a moment after the body has been: callers rarely ask so fast.
  await new Promise((resolve) => setTimeout(resolve, 100));
  return response(answer.status, [...answer.headers], received);
}

await run(async (requests) => {
  const answers = [];
  for (const request of requests) {
    const login = request.user || request.password ? basic(request) : "";
    let answer = await send(request, request.challenge ? "" : login);
    if (request.challenge && answer.status === 401) answer = await send(request, login);
    answers.push(answer);
  }
  return answers;
});
