<?php
// The curl extension of PHP: one handle a case.
require __DIR__ . '/php_cases.php';

function ask(CurlHandle $handle, object $request, string $authority): array
{
    $lines = [];
    $fields = array_map(fn ($pair) => "$pair[0]: $pair[1]", $request->headers);
    curl_reset($handle); // keeps its connections
    $options = [
        CURLOPT_URL => $request->url,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CAINFO => $authority,
        CURLOPT_FOLLOWLOCATION => $request->follow,
        CURLOPT_HEADERFUNCTION => function ($_, $line) use (&$lines) {
            $lines[] = rtrim($line);
            return strlen($line);
        },
    ];
    if ($request->user !== '' || $request->password !== '') {
        $options[CURLOPT_USERPWD] = "$request->user:$request->password";
        $options[CURLOPT_HTTPAUTH] = $request->challenge ? CURLAUTH_ANY : CURLAUTH_BASIC;
    }
    $body = body_of($request);
    if ($body !== null) {
        $options[CURLOPT_POST] = true;
        $fields[] = 'Content-Type: text/plain';
        if ($request->chunked) {
            $fields[] = 'Transfer-Encoding: chunked';
            $sent = fopen('php://memory', 'r+');
            fwrite($sent, $body);
            rewind($sent);
            $options[CURLOPT_READFUNCTION] = fn ($_, $__, $size) => (string) fread($sent, $size);
        } else {
            $options[CURLOPT_POSTFIELDS] = $body;
        }
        if ($request->expect) {
            $fields[] = 'Expect: 100-continue';
        }
    }
    if ($request->method === 'HEAD') {
        $options[CURLOPT_NOBODY] = true;
    }
    if ($request->gzip) {
        $options[CURLOPT_ENCODING] = 'gzip';
    }
    $options[CURLOPT_HTTPHEADER] = $fields;
    curl_setopt_array($handle, $options);
    $received = curl_exec($handle);
    if ($received === false) {
        throw new RuntimeException(curl_error($handle));
    }
    $status = curl_getinfo($handle, CURLINFO_RESPONSE_CODE);
    return response($status, last_fields($lines), (string) $received);
}

run(function (array $requests, string $authority): array {
    $handle = curl_init();
    return array_map(fn ($request) => ask($handle, $request, $authority), $requests);
});
