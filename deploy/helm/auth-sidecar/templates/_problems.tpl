{{/* What the schema can't say of the values. All problems are told together, each with what to do. */}}

{{/* Each takes the root and gives one problem a line. */}}
{{- define "auth-sidecar.layoutProblems" -}}
{{- if and (eq .Values.mode "podSidecar") (not .Values.app.containers) }}
app.containers: mode podSidecar runs your containers beside the sidecar; name at least one
{{- end }}
{{- if and (ne .Values.mode "podSidecar") (or .Values.app.containers .Values.app.initContainers .Values.app.volumes) }}
app: only mode podSidecar runs containers of yours; set mode=podSidecar, or use extraContainers
{{- end }}
{{- range concat .Values.app.containers .Values.app.initContainers .Values.extraContainers .Values.extraInitContainers }}
{{- if eq .name "sidecar" }}
{{ .name }}: is the chart's own container; give yours another name
{{- end }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if .subPath }}
extraVolumeMounts: {{ .mountPath }} has a subPath, whose files never change; mount a directory
{{- end }}
{{- end }}
{{- if and (eq .Values.mode "library") (not .Values.library.podLabels) }}
library.podLabels: name the labels of your pods: the NetworkPolicy and the operations Service find them by these
{{- end }}
{{- if and .Values.nativeSidecar (eq .Values.mode "standalone") }}
nativeSidecar: there is no container beside the sidecar in mode standalone; remove it
{{- end }}
{{- if and .Values.nativeSidecar (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
nativeSidecar: needs Kubernetes 1.29 or later, and this is {{ .Capabilities.KubeVersion.Version }}; remove it
{{- end }}
{{- if and (eq .Values.mode "library") (or .Values.ingress.enabled .Values.httpRoute.enabled .Values.autoscaling.enabled) }}
mode library: your own chart has the Service and the Deployment; put ingress, httpRoute and autoscaling there
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
autoscaling.minReplicas: is more than maxReplicas
{{- end }}
{{- range $name, $route := dict "ingress" .Values.ingress "portal.ingress" .Values.portal.ingress }}
{{- if and $route.enabled (not $route.hosts) }}
{{ $name }}.hosts: name at least one host
{{- end }}
{{- end }}
{{- range $name, $route := dict "httpRoute" .Values.httpRoute "portal.httpRoute" .Values.portal.httpRoute }}
{{- if and $route.enabled (not $route.parentRefs) }}
{{ $name }}.parentRefs: name at least one Gateway
{{- end }}
{{- end }}
{{- if and (or .Values.portal.ingress.enabled .Values.portal.httpRoute.enabled) (not .Values.portal.enabled) }}
portal.enabled: is false, and its ingress or httpRoute is on; set both or neither
{{- end }}
{{- $egress := .Values.networkPolicy.egress }}
{{- if and .Values.networkPolicy.enabled $egress.enabled (eq .Values.mode "standalone") (not $egress.upstream.to) (not $egress.upstream.ports) }}
networkPolicy.egress.upstream: says neither whereto nor at which ports, so the sidecar could not reach its service
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.operationsService.enabled) }}
serviceMonitor.enabled: Prometheus finds the pods by the operations Service; set operationsService.enabled=true
{{- end }}
{{- end -}}

{{- define "auth-sidecar.configurationProblems" -}}
{{- $config := include "auth-sidecar.configuration" . | fromYaml }}
{{- if hasKey $config "Error" }}
configText: is no YAML: {{ get $config "Error" | replace "\n" " " }}
{{- else }}
{{- $own := default dict .Values.config }}
{{- $store := default dict $config.store }}
{{- if not $config.routes }}
config.routes: name at least one: what no route names is never forwarded
{{- end }}
{{- if hasKey .Values.configFiles "sidecar.yaml" }}
configFiles: sidecar.yaml is what the chart makes of config; use configText to write it yourself
{{- end }}
{{- if eq (toString (default "embedded" $store.url)) "embedded" }}
config.store.url: each pod would have tokens of its own, and the image has no Redis; put the URL of yours into the Secret (key store-url), or set redis.enabled=true to try the sidecar
{{- end }}
{{- if and .Values.redis.enabled (or .Values.configText (and $own.store $own.store.url)) (not (contains (printf "%s-redis" (include "auth-sidecar.fullname" .)) (toString $store.url))) }}
redis.enabled: the configuration names another Redis (store.url); remove one of them
{{- end }}
{{- if not (include "auth-sidecar.proxyPort" .) }}
config.listen.address: no entry ends with a port, and the Service leads to one
{{- end }}
{{- if not (include "auth-sidecar.internalPort" (dict "root" . "section" "operations")) }}
config.operations.address: the kubelet's probes ask it at the pod's address; write 0.0.0.0:2022
{{- end }}
{{- if and .Values.portal.enabled (not (include "auth-sidecar.internalPort" (dict "root" . "section" "portal"))) }}
config.portal.address: the portal's Service can't reach it; write 0.0.0.0:2021
{{- end }}
{{- if and .Values.tls.existingSecret .Values.configText (not (contains "/etc/sidecar-tls/" .Values.configText)) }}
tls.existingSecret: configText names no certificate below /etc/sidecar-tls, where that Secret is mounted
{{- end }}
{{- if and .Values.tls.existingSecret (not .Values.configText) $own.listen $own.listen.tls }}
tls.existingSecret: config.listen.tls is there as well; use one of them
{{- end }}
{{- if and .Values.tls.clientCa (not .Values.tls.existingSecret) }}
tls.clientCa: the authorities are in tls.existingSecret, which is not set
{{- end }}
{{- $drain := include "auth-sidecar.drainSeconds" . }}
{{- if .Values.terminationGracePeriodSeconds }}
{{- if and $drain (lt (int .Values.terminationGracePeriodSeconds) (int $drain)) }}
terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }} seconds end before the drain does, which may take {{ $drain }}
{{- end }}
{{- else if not $drain }}
terminationGracePeriodSeconds: the chart can't read drain.delay and drain.timeout; set it to more than both
{{- end }}
{{- end }}
{{- end -}}

{{/* What everybody who may read ConfigMaps would see. */}}
{{- define "auth-sidecar.secretProblems" -}}
{{- if and .Values.existingSecret .Values.secrets }}
secrets: existingSecret is set as well; put the keys there, or remove it
{{- end }}
{{- if eq .Values.configKind "ConfigMap" }}
{{- $config := include "auth-sidecar.configuration" . | fromYaml }}
{{- $advice := "stands in a ConfigMap, which many may read; put it into the Secret and write ${file:/etc/sidecar-secrets/KEY}, or set configKind=Secret" }}
{{- $store := default dict $config.store }}
{{- if regexMatch "://[^/@]*:[^/@]+@" (regexReplaceAll "\\$\\{[^}]*\\}" (toString $store.url) "") }}
config.store.url: its password {{ $advice }}
{{- end }}
{{- range $name, $account := $config.accounts }}
{{- if kindIs "map" $account }}
{{- if not (hasPrefix "${" (default "${" $account.password_hash)) }}
config.accounts.{{ $name }}.password_hash: {{ $advice }}
{{- end }}
{{- end }}
{{- end }}
{{- $jwt := default dict $config.jwt }}
{{- range $index, $key := $jwt.keys }}
{{- if not (hasPrefix "${" (default "${" $key.private_key)) }}
config.jwt.keys[{{ $index }}].private_key: {{ $advice }}
{{- end }}
{{- end }}
{{- $tracing := default dict $config.tracing }}
{{- range $name, $text := $tracing.headers }}
{{- if and (regexMatch "(?i)authorization|key|password|secret|token" $name) (not (contains "${" (toString $text))) }}
config.tracing.headers.{{ $name }}: {{ $advice }}
{{- end }}
{{- end }}
{{- range $name, $text := .Values.configFiles }}
{{- if regexMatch "(?m)(^\\s*password_hash|^[^\\s:#]+):\\s*[\"']?\\$[0-9a-z]" $text }}
configFiles.{{ $name }}: a password hash in it {{ $advice }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "auth-sidecar.refuseProblems" -}}
{{- $text := printf "%s\n%s\n%s" (include "auth-sidecar.layoutProblems" .) (include "auth-sidecar.configurationProblems" .) (include "auth-sidecar.secretProblems" .) -}}
{{- $problems := list -}}
{{- range splitList "\n" $text -}}
{{- if trim . -}}{{- $problems = append $problems (trim .) -}}{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}
