// The loop of the programs for Node.js; the protocol is told in tests/clients/program.py.
import { createHash } from "node:crypto";

const PATTERN = "abcdefghijklmnopqrstuvwxyz0123456789-";

export class Cannot extends Error {}

export function bodyOf(request) {
  if (request.size < 0) return undefined;
  const times = Math.floor(request.size / PATTERN.length) + 1;
  return Buffer.from(PATTERN.repeat(times)).subarray(0, request.size);
}

export function* piecesOf(body) {
  for (let start = 0; start < body.length; start += 65536) yield body.subarray(start, start + 65536);
}

export function basic(request) {
  return "Basic " + Buffer.from(`${request.user}:${request.password}`).toString("base64");
}

export function response(status, headers, body) {
  return {
    status,
    headers: headers.map(([name, value]) => [name.toLowerCase(), value]),
    text: body.length <= 65536 ? body.toString() : "",
    size: body.length,
    sha256: createHash("sha256").update(body).digest("hex"),
  };
}

function reasonOf(error) {
  const cause = error.cause ? ` (${error.cause.code ?? ""} ${error.cause.message})` : "";
  return `${error.name}: ${error.code ?? ""} ${error.message}${cause}`;
}

/** Play every case; `play` takes requests and the text of the authority's certificate. */
export async function run(play) {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  const told = JSON.parse(Buffer.concat(parts));
  for (const { name, requests } of told.cases) {
    const line = { name, responses: [], error: "", cannot: "" };
    try {
      line.responses = await play(requests, told.ca);
    } catch (error) {
      line[error instanceof Cannot ? "cannot" : "error"] =
        error instanceof Cannot ? error.message : reasonOf(error);
    }
    process.stdout.write(JSON.stringify(line) + "\n");
  }
}
