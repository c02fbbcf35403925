{{/* How a Service is reached from outside: an Ingress or a route of the Gateway API, for the proxy and the portal. */}}

{{- define "auth-sidecar.servicePort" -}}
{{- int (default (ternary 443 80 (ne .Values.tls.existingSecret "")) .Values.service.port) -}}
{{- end -}}

{{- define "auth-sidecar.servicePortName" -}}
{{- ternary "https" "http" (ne .Values.tls.existingSecret "") -}}
{{- end -}}

{{/* Takes root, suffix (of the name), port and ingress. */}}
{{- define "auth-sidecar.ingress" -}}
{{- $name := printf "%s%s" (include "auth-sidecar.fullname" .root) .suffix -}}
{{- $backend := dict "service" (dict "name" $name "port" (dict "number" (int .port))) -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ $name }}
  labels:
    {{- include "auth-sidecar.labels" (dict "root" .root) | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    {{- range .ingress.hosts }}
    - host: {{ .host | quote }}
      http:
        paths:
          {{- range default (list (dict "path" "/")) .paths }}
          - path: {{ .path }}
            pathType: {{ default "Prefix" .pathType }}
            backend: {{ toJson $backend }}
          {{- end }}
    {{- end }}
  {{- with .ingress.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Takes root, suffix (of the name), port and route. */}}
{{- define "auth-sidecar.httpRoute" -}}
{{- $name := printf "%s%s" (include "auth-sidecar.fullname" .root) .suffix -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ $name }}
  labels:
    {{- include "auth-sidecar.labels" (dict "root" .root) | nindent 4 }}
  {{- with .route.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  parentRefs:
    {{- toYaml .route.parentRefs | nindent 4 }}
  {{- with .route.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        - path: {type: PathPrefix, value: /}
      backendRefs:
        - {name: {{ $name }}, port: {{ int .port }}}
{{- end -}}
