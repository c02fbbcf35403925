<?php
// The loop of the programs for PHP; the protocol is told in tests/clients/program.py.

class Cannot extends Exception {}

function body_of(object $request): ?string
{
    if ($request->size < 0) {
        return null;
    }
    $pattern = 'abcdefghijklmnopqrstuvwxyz0123456789-';
    return substr(str_repeat($pattern, intdiv($request->size, 37) + 1), 0, $request->size);
}

/** Read the fields of the last head of several: interim ones, challenges, redirects. */
function last_fields(array $lines): array
{
    $fields = [];
    foreach ($lines as $line) {
        if (str_starts_with($line, 'HTTP/')) {
            $fields = [];
        } elseif (str_contains($line, ':')) {
            [$name, $value] = explode(':', $line, 2);
            $fields[] = [strtolower($name), trim($value)];
        }
    }
    return $fields;
}

function response(int $status, array $fields, string $body): array
{
    return [
        'status' => $status,
        'headers' => $fields,
        'text' => strlen($body) <= 65536 ? $body : '',
        'size' => strlen($body),
        'sha256' => hash('sha256', $body),
    ];
}

/** Play every case; $play takes requests and the authority's file. */
function run(callable $play): void
{
    ini_set('memory_limit', '-1');
    $told = json_decode(stream_get_contents(STDIN));
    foreach ($told->cases as $case) {
        $line = ['name' => $case->name, 'responses' => [], 'error' => '', 'cannot' => ''];
        try {
            $line['responses'] = $play($case->requests, $told->ca);
        } catch (Cannot $reason) {
            $line['cannot'] = $reason->getMessage();
        } catch (Throwable $error) {
            $line['error'] = get_class($error) . ': ' . $error->getMessage();
        }
        echo json_encode($line, JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR), "\n";
    }
}
