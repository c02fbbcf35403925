// http and https of Node.js.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { gunzipSync } from "node:zlib";
import { basic, bodyOf, piecesOf, response, run } from "./node_cases.mjs";

function pairs(raw) {
  const found = [];
  for (let at = 0; at < raw.length; at += 2) found.push([raw[at], raw[at + 1]]);
  return found;
}

function send(agent, library, ca, request, url, authorization) {
  return new Promise((resolve, reject) => {
    const headers = Object.fromEntries(request.headers);
    const body = bodyOf(request);
    if (authorization) headers.Authorization = authorization;
    if (request.gzip) headers["Accept-Encoding"] = "gzip";
    if (body) headers["Content-Type"] = "text/plain";
    if (body && !request.chunked) headers["Content-Length"] = body.length;
    if (request.expect) headers.Expect = "100-continue";
    const options = { method: request.method, headers, agent };
    const asked = library.request(url, options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        let received = Buffer.concat(parts);
        if (answer.headers["content-encoding"] === "gzip") received = gunzipSync(received);
        resolve(response(answer.statusCode, pairs(answer.rawHeaders), received));
      });
    });
    asked.on("error", reject);
    const sendBody = () => {
      if (body && request.chunked) for (const piece of piecesOf(body)) asked.write(piece);
      asked.end(request.chunked ? undefined : body);
    };
    if (request.expect) asked.on("continue", sendBody).flushHeaders();
    else sendBody();
  });
}

async function ask(agent, library, ca, request) {
  const login = request.user || request.password ? basic(request) : "";
  let answer = await send(agent, library, ca, request, request.url, request.challenge ? "" : login);
  if (request.challenge && answer.status === 401) {
    answer = await send(agent, library, ca, request, request.url, login);
  }
  if (request.follow && [302, 307].includes(answer.status)) {
    const place = answer.headers.find(([name]) => name === "location")[1];
    const next = answer.status === 307 ? request : { ...request, method: "GET", size: -1 };
    answer = await send(agent, library, ca, next, place, login);
  }
  return answer;
}

await run(async (requests, ca) => {
  const library = requests[0].url.startsWith("https:") ? https : http;
  const agent = new library.Agent({ keepAlive: true, ca: readFileSync(ca) });
  const answers = [];
  try {
    for (const request of requests) answers.push(await ask(agent, library, ca, request));
  } finally {
    agent.destroy();
  }
  return answers;
});
