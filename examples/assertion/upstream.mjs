// An upstream that believes the sidecar's signature and nothing else. Needs: npm install jose
//
//     node upstream.mjs http://127.0.0.1:2022/.well-known/jwks.json 8080
import { createServer } from "node:http";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const HEADER = "x-account-assertion"; // identity.assertion.header, in lower case
const [jwksUrl, port] = process.argv.slice(2);

// Fetches the keys when needed; an unknown kid fetches them again, at most every 30 seconds.
const keys = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: 5000 });

async function verify(assertion) {
  const { payload } = await jwtVerify(assertion, keys, {
    issuer: "sidecar", // jwt.issuer
    audience: "listener", // the name of this upstream in the sidecar's configuration
    typ: "assertion+jwt", // the same keys sign callers' own JWTs; only the type tells the two apart
    algorithms: ["EdDSA", "ES256", "RS256", "PS256"],
    requiredClaims: ["exp", "iat", "sub"],
  });
  return payload;
}

// Tells whether the keys could not be had: then nobody knows whether the assertion is good.
function isUnknowable(error) {
  const codes = ["ERR_JWKS_TIMEOUT", "ERR_JOSE_GENERIC"]; // the latter: an answer that is not 200
  return !(error instanceof errors.JOSEError) || codes.includes(error.code);
}

createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(body));
  };
  try {
    answer(200, { account: (await verify(request.headers[HEADER] ?? "")).sub });
  } catch (error) {
    if (isUnknowable(error)) answer(503, { detail: "The keys can't be fetched right now." });
    else answer(401, { detail: "This service is called through the sidecar." });
  }
}).listen(Number(port), "127.0.0.1");
