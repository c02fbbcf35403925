// The other side of test_jose.py: signs or verifies with jose, told by one JSON object on standard input.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const jose = await import(pathToFileURL(process.argv[2]).href);
const task = JSON.parse(readFileSync(0, "utf8"));

async function verify({ token, jwks, secret, issuer, audience, typ, now }) {
  const key = secret ? new TextEncoder().encode(secret) : jose.createLocalJWKSet(jwks);
  const { payload } = await jose.jwtVerify(token, key, {
    issuer,
    audience,
    typ,
    currentDate: new Date(now * 1000),
  });
  return payload;
}

async function sign({ algorithm, claims }) {
  if (algorithm === "HS256") {
    const secret = await jose.generateSecret(algorithm, { extractable: true });
    const jwk = { ...(await jose.exportJWK(secret)), kid: "j1", alg: algorithm };
    return { jwks: { keys: [jwk] }, token: await write(algorithm, claims, secret) };
  }
  const { publicKey, privateKey } = await jose.generateKeyPair(algorithm);
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: "j1", use: "sig" };
  return { jwks: { keys: [jwk] }, token: await write(algorithm, claims, privateKey) };
}

function write(algorithm, claims, key) {
  return new jose.SignJWT(claims).setProtectedHeader({ alg: algorithm, kid: "j1" }).sign(key);
}

process.stdout.write(JSON.stringify(await { sign, verify }[task.do](task)));
