// axios on Node.js; AXIOS names the folder where it is installed.
const { readFileSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { Readable } = require("node:stream");
const axios = require(process.env.AXIOS);

function pairsOf(headers) {
  return Object.entries(headers).flatMap(([name, value]) =>
    Array.isArray(value) ? value.map((one) => [name, one]) : [[name, value]],
  );
}

async function main() {
  const { bodyOf, Cannot, piecesOf, response, run } = await import("./node_cases.mjs");

  async function send(client, request, hasLogin) {
    if (request.expect) throw new Cannot("does not wait for 100 (Continue)");
    let data = bodyOf(request);
    const headers = Object.fromEntries(request.headers);
    if (data) headers["Content-Type"] = "text/plain";
    if (data && request.chunked) data = Readable.from(piecesOf(data));
    const answer = await client.request({
      method: request.method,
      url: request.url,
      headers,
      data,
      auth: hasLogin ? { username: request.user, password: request.password } : undefined,
      maxRedirects: request.follow ? 5 : 0,
    });
    return response(answer.status, pairsOf(answer.headers), Buffer.from(answer.data));
  }

  await run(async (requests, ca) => {
    const agents = {
      httpAgent: new http.Agent({ keepAlive: true }),
      httpsAgent: new https.Agent({ keepAlive: true, ca: readFileSync(ca) }),
    };
    const client = axios.create({
      ...agents,
      proxy: false,
      responseType: "arraybuffer",
      validateStatus: () => true,
      maxBodyLength: Infinity,
      maxContentLength: Infinity,
    });
    const answers = [];
    try {
      for (const request of requests) {
        const hasLogin = Boolean(request.user || request.password);
        let answer = await send(client, request, hasLogin && !request.challenge);
        if (request.challenge && answer.status === 401) answer = await send(client, request, true);
        answers.push(answer);
      }
    } finally {
      Object.values(agents).forEach((agent) => agent.destroy());
    }
    return answers;
  });
}

main();
