<?php
// The http wrapper of PHP's streams (file_get_contents), which makes a connection for each request.
require __DIR__ . '/php_cases.php';

function ask(object $request, string $authority, bool $has_login): array
{
    if ($request->chunked) {
        throw new Cannot('sends no chunked bodies');
    }
    if ($request->expect) {
        throw new Cannot('does not wait for 100 (Continue)');
    }
    $fields = [];
    foreach ($request->headers as [$name, $value]) {
        // The wrapper reads until the connection ends. It asks for that end, unless there is a
        // Connection field of the caller's, who has to ask then.
        $fields[] = $name === 'Connection' ? "$name: $value, close" : "$name: $value";
    }
    if ($has_login) {
        $fields[] = 'Authorization: Basic ' . base64_encode("$request->user:$request->password");
    }
    if ($request->gzip) {
        $fields[] = 'Accept-Encoding: gzip';
    }
    $options = [
        'method' => $request->method,
        'ignore_errors' => true,
        'protocol_version' => 1.1,
        'follow_location' => (int) $request->follow,
    ];
    $body = body_of($request);
    if ($body !== null) {
        $options['content'] = $body;
        $fields[] = 'Content-Type: text/plain';
    }
    $options['header'] = $fields;
    $context = stream_context_create(['http' => $options, 'ssl' => ['cafile' => $authority]]);
    $received = @file_get_contents($request->url, false, $context);
    if ($received === false) {
        throw new RuntimeException(error_get_last()['message'] ?? 'no response');
    }
    $heads = preg_grep('#^HTTP/#', $http_response_header);
    $status = (int) explode(' ', end($heads))[1];
    $told = last_fields($http_response_header);
    if ($request->gzip && in_array(['content-encoding', 'gzip'], $told, true)) {
        $received = gzdecode($received);
    }
    return response($status, $told, $received);
}

run(function (array $requests, string $authority): array {
    $answers = [];
    foreach ($requests as $request) {
        $has_login = $request->user !== '' || $request->password !== '';
        $answer = ask($request, $authority, $has_login && !$request->challenge);
        if ($request->challenge && $answer['status'] === 401) {
            $answer = ask($request, $authority, true);
        }
        $answers[] = $answer;
    }
    return $answers;
});
