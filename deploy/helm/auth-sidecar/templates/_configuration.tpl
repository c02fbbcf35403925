{{/* The sidecar's configuration: what the values say, what the chart adds to it, and what can be read off it. */}}

{{/* The whole configuration as YAML, for the chart's own eyes: ports, times, what is secret. */}}
{{- define "auth-sidecar.configuration" -}}
{{- if .Values.configText -}}
{{- .Values.configText -}}
{{- else -}}
{{- $config := deepCopy (default dict .Values.config) -}}
{{- if not $config.upstreams -}}
{{- $url := .Values.upstreamUrl -}}
{{- if ne .Values.mode "standalone" -}}
{{- $url = ternary (printf "unix:%s" .Values.app.socket) (printf "http://127.0.0.1:%d" (int .Values.app.port)) (ne .Values.app.socket "") -}}
{{- end -}}
{{- $_ := set $config "upstreams" (dict "listener" (dict "url" $url)) -}}
{{- end -}}
{{- $store := default dict $config.store -}}
{{- if not $store.url -}}
{{- $url := "${file:/etc/sidecar-secrets/store-url}" -}}
{{- if .Values.redis.enabled -}}
{{- $url = printf "redis://sidecar:${file:/etc/sidecar-secrets/redis-password}@%s-redis:6379/0" (include "auth-sidecar.fullname" .) -}}
{{- end -}}
{{- $_ := set $config "store" (merge (dict "url" $url) $store) -}}
{{- end -}}
{{- if .Values.tls.existingSecret -}}
{{- $tls := dict "certificate" "/etc/sidecar-tls/tls.crt" "private_key" "/etc/sidecar-tls/tls.key" -}}
{{- if .Values.tls.clientCa -}}
{{- $_ := set $tls "client_ca" "/etc/sidecar-tls/ca.crt" -}}
{{- end -}}
{{- $_ := set $config "listen" (merge (dict "tls" $tls) (default dict $config.listen)) -}}
{{- end -}}
{{- if and .Values.portal.enabled (not $config.portal) -}}
{{- $_ := set $config "portal" (dict "address" "0.0.0.0:2021") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
{{- end -}}

{{/*
The same as the file that the sidecar reads. `sidecar check` warns of an internal listener at every address; the
comment tells it, and the reader, that this is meant.
*/}}
{{- define "auth-sidecar.file" -}}
{{- if .Values.configText -}}
{{- .Values.configText -}}
{{- else -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml -}}
{{- range $section, $value := $config -}}
{{- if and (has $section (list "operations" "portal")) (kindIs "map" $value) -}}
{{ $section }}:
{{- range $key, $text := $value }}
  {{ $key }}: {{ $text | quote }}  # deliberate: the pod's own network, see the NetworkPolicy
{{- end }}
{{ else -}}
{{ toYaml (dict $section $value) }}
{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* All files of the configuration, as the data of a ConfigMap or a Secret. */}}
{{- define "auth-sidecar.files" -}}
{{- $file := include "auth-sidecar.file" . | trimAll "\n" -}}
{{ ternary "stringData" "data" (eq .Values.configKind "Secret") }}:
  {{- if hasPrefix " " $file }}
  # A block can't begin with white space.
  sidecar.yaml: {{ printf "%s\n" $file | quote }}
  {{- else }}
  sidecar.yaml: |
    {{- $file | nindent 4 }}
  {{- end }}
  {{- range $name, $text := .Values.configFiles }}
  {{ $name | quote }}: {{ $text | quote }}
  {{- end }}
{{- end -}}

{{/* The port of host:port; nothing for a unix socket, or what only the environment knows. */}}
{{- define "auth-sidecar.port" -}}
{{- if not (hasPrefix "unix:" .) -}}{{- regexFind "[0-9]+$" . -}}{{- end -}}
{{- end -}}

{{/* The first port that the proxy listens on. */}}
{{- define "auth-sidecar.proxyPort" -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml -}}
{{- $address := "0.0.0.0:2020" -}}
{{- with $config.listen -}}{{- $address = default $address .address -}}{{- end -}}
{{- $found := "" -}}
{{- range (ternary $address (list $address) (kindIs "slice" $address)) -}}
{{- $found = default (include "auth-sidecar.port" .) $found -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Takes a dictionary: root, and the section, `operations` or `portal`. Empty: off, loopback or a socket. */}}
{{- define "auth-sidecar.internalPort" -}}
{{- $config := include "auth-sidecar.configuration" .root | fromYaml -}}
{{- $section := get $config .section -}}
{{- if kindIs "map" $section -}}
{{- $address := toString (default "127.0.0.1" $section.address) -}}
{{- if not (regexMatch "^(127\\.|localhost|\\[::1\\])" $address) -}}
{{- include "auth-sidecar.port" $address -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whole seconds of a duration such as 1.5m, rounded up; nothing for what can't be read (`${NAME}`). */}}
{{- define "auth-sidecar.seconds" -}}
{{- $text := toString . -}}
{{- if eq $text "0" -}}0
{{- else if regexMatch "^[0-9.]+(ms|s|m|h|d)$" $text -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) | ceil | int -}}
{{- end -}}
{{- end -}}

{{/* Seconds that a drain may take; nothing if that can't be read. */}}
{{- define "auth-sidecar.drainSeconds" -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml -}}
{{- $drain := default dict $config.drain -}}
{{- $delay := include "auth-sidecar.seconds" (get $drain "delay" | default "0") -}}
{{- $timeout := include "auth-sidecar.seconds" (ternary (get $drain "timeout") "30s" (hasKey $drain "timeout")) -}}
{{- if and $delay $timeout -}}{{- add (int $delay) (int $timeout) -}}{{- end -}}
{{- end -}}

{{- define "auth-sidecar.terminationGracePeriodSeconds" -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- int . -}}
{{- else -}}
{{- add (include "auth-sidecar.drainSeconds" . | int) 15 -}}
{{- end -}}
{{- end -}}

{{/* How often readiness may fail: as long as known tokens pass while Redis is away. */}}
{{- define "auth-sidecar.readinessFailures" -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml -}}
{{- $store := default dict $config.store -}}
{{- $grace := ternary (get $store "outage_grace") "30s" (hasKey $store "outage_grace") -}}
{{- $seconds := include "auth-sidecar.seconds" $grace | default "30" | float64 -}}
{{- $period := float64 (default 10 .Values.readinessProbe.periodSeconds) -}}
{{- max 1 (divf $seconds $period | ceil | int) -}}
{{- end -}}

{{- define "auth-sidecar.needsSecret" -}}
{{- $uses := contains "/etc/sidecar-secrets/" (include "auth-sidecar.configuration" .) -}}
{{- if or $uses .Values.existingSecret .Values.secrets -}}yes{{- end -}}
{{- end -}}

{{/*
A changed annotation rolls the pods. The sidecar applies a changed file by itself, within two minutes or so (the
kubelet's time to put it in place), so only what it can't change while it runs counts: the sections that
docs/reference/configuration.md lists under "a restart".
*/}}
{{- define "auth-sidecar.podAnnotations" -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml -}}
{{- if .Values.reloadInPlace -}}
{{- $listen := default dict $config.listen -}}
{{- $fixed := pick $config "operations" "portal" "workers" "store" -}}
{{- $_ := set $fixed "listen" (pick $listen "address" "mode" "group" "proxy_protocol") -}}
{{- $_ := set $fixed "isTls" (not (empty $listen.tls)) -}}
checksum/restart: {{ toJson $fixed | sha256sum }}
{{- else -}}
checksum/configuration: {{ printf "%s%s%s" (include "auth-sidecar.file" .) (toJson .Values.configFiles) (toJson .Values.secrets) | sha256sum }}
{{- end -}}
{{- end -}}
