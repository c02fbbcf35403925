{{/* Names and labels of everything. */}}

{{- define "auth-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "auth-sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that find the pods. They never change: a Deployment can't change its selector. */}}
{{- define "auth-sidecar.selectorLabels" -}}
{{- if eq .Values.mode "library" -}}
{{- toYaml .Values.library.podLabels -}}
{{- else -}}
app.kubernetes.io/name: {{ include "auth-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{/* Takes a dictionary: root, and name if it is not that of the chart. */}}
{{- define "auth-sidecar.labels" -}}
{{- $root := .root -}}
app.kubernetes.io/name: {{ .name | default (include "auth-sidecar.name" $root) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "auth-sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "auth-sidecar.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "auth-sidecar.secretName" -}}
{{- default (include "auth-sidecar.fullname" .) .Values.existingSecret -}}
{{- end -}}

{{/* A configuration that is a Secret needs a name that the Secret of passwords does not have. */}}
{{- define "auth-sidecar.configName" -}}
{{- include "auth-sidecar.fullname" . -}}{{- if eq .Values.configKind "Secret" -}}-configuration{{- end -}}
{{- end -}}

{{/* Takes image and tag: the digest counts more than the tag. */}}
{{- define "auth-sidecar.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}
