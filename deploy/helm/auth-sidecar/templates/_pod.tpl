{{/*
The sidecar in a pod: its container, its volumes, and the pod's own settings. A chart that has this one as a dependency
includes the first two in its own Deployment, with `index .Subcharts "auth-sidecar"` as the root.
*/}}

{{- define "auth-sidecar.container" -}}
{{- $operations := include "auth-sidecar.internalPort" (dict "root" . "section" "operations") -}}
{{- $portal := include "auth-sidecar.internalPort" (dict "root" . "section" "portal") -}}
name: sidecar
image: {{ include "auth-sidecar.image" (dict "image" .Values.image "tag" .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run]
{{- if .Values.nativeSidecar }}
restartPolicy: Always
{{- end }}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: proxy, containerPort: {{ include "auth-sidecar.proxyPort" . }}}
  - {name: operations, containerPort: {{ $operations }}}
  {{- with $portal }}
  - {name: portal, containerPort: {{ . }}}
  {{- end }}
startupProbe:
  httpGet: {path: /healthz, port: operations}
  {{- toYaml .Values.startupProbe | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: operations}
  {{- toYaml .Values.livenessProbe | nindent 2 }}
# Gives up after store.outage_grace. Sooner, an outage of Redis would take all pods out of the Service at
# once, and end what still works for known tokens.
readinessProbe:
  httpGet: {path: /readyz, port: operations}
  {{- $failures := dict "failureThreshold" (include "auth-sidecar.readinessFailures" . | int) }}
  {{- toYaml (merge (deepCopy .Values.readinessProbe) $failures) | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  # Directories: a subPath never changes, and the running sidecar picks changes up.
  {{- include "auth-sidecar.fileMounts" . | nindent 2 }}
  # For `kubectl exec -i … sidecar store import` alone.
  - {name: sidecar-tmp, mountPath: /tmp}
  {{- if .Values.app.socket }}
  {{- include "auth-sidecar.socketMount" . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "auth-sidecar.socketMount" -}}
- {name: app-socket, mountPath: {{ dir .Values.app.socket }}}
{{- end -}}

{{- define "auth-sidecar.volumes" -}}
{{- $names := dict "configuration" (include "auth-sidecar.configName" .) "secrets" (include "auth-sidecar.secretName" .) -}}
{{ include "auth-sidecar.fileVolumes" (dict "root" . "names" $names) }}
- name: sidecar-tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if .Values.app.socket }}
- name: app-socket
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- end -}}

{{/* Takes root and names, of the objects with the configuration and with the secrets. */}}
{{- define "auth-sidecar.fileVolumes" -}}
- name: sidecar-configuration
{{- if eq .root.Values.configKind "Secret" }}
  secret: {secretName: {{ .names.configuration }}, defaultMode: 0444}
{{- else }}
  configMap: {name: {{ .names.configuration }}}
{{- end }}
{{- if include "auth-sidecar.needsSecret" .root }}
- name: sidecar-secrets
  secret: {secretName: {{ .names.secrets }}, defaultMode: 0444}
{{- end }}
{{- with .root.Values.tls.existingSecret }}
- name: sidecar-tls
  secret: {secretName: {{ . }}, defaultMode: 0444}
{{- end }}
{{- end -}}

{{/* Where the container finds them. */}}
{{- define "auth-sidecar.fileMounts" -}}
- {name: sidecar-configuration, mountPath: /etc/sidecar, readOnly: true}
{{- if include "auth-sidecar.needsSecret" . }}
- {name: sidecar-secrets, mountPath: /etc/sidecar-secrets, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: sidecar-tls, mountPath: /etc/sidecar-tls, readOnly: true}
{{- end }}
{{- end -}}

{{/*
Takes root and container. Kubernetes tells all containers of a pod to end at the same time, so a container of yours
waits: as long as the drain may take; or, beside a native sidecar, which ends last, until the endpoint has gone.
*/}}
{{- define "auth-sidecar.appContainer" -}}
{{- $root := .root -}}
{{- $container := deepCopy .container -}}
{{- if and $root.Values.app.preStop (not $container.lifecycle) -}}
{{- $config := include "auth-sidecar.configuration" $root | fromYaml -}}
{{- $drain := default dict $config.drain -}}
{{- $seconds := include "auth-sidecar.drainSeconds" $root | int -}}
{{- if $root.Values.nativeSidecar -}}
{{- $seconds = include "auth-sidecar.seconds" (get $drain "delay" | default "0") | int -}}
{{- end -}}
{{- if gt $seconds 0 -}}
{{- $rest := dict "sleep" (dict "seconds" $seconds) -}}
{{- if semverCompare "<1.30.0-0" $root.Capabilities.KubeVersion.Version -}}
{{- $rest = dict "exec" (dict "command" (list "sleep" (toString $seconds))) -}}
{{- end -}}
{{- $_ := set $container "lifecycle" (dict "preStop" $rest) -}}
{{- end -}}
{{- end -}}
{{- if $root.Values.app.socket -}}
{{- $mount := include "auth-sidecar.socketMount" $root | fromYamlArray -}}
{{- $_ := set $container "volumeMounts" (concat (default list $container.volumeMounts) $mount) -}}
{{- end -}}
{{- toYaml (list $container) -}}
{{- end -}}

{{- define "auth-sidecar.spread" -}}
{{- $labels := dict "matchLabels" (include "auth-sidecar.selectorLabels" . | fromYaml) -}}
{{- $constraints := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (merge (deepCopy .) (dict "labelSelector" $labels)) -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}
