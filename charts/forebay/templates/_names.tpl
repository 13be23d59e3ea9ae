{{/* The name of everything that the chart makes for the operator. */}}
{{- define "forebay.name" -}}
{{- if contains "forebay" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-forebay{{ end }}
{{- end }}

{{- define "forebay.selector" -}}
app.kubernetes.io/name: forebay-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "forebay.gpuImage" -}}
{{ .Values.server.gpuImage | default (printf "ghcr.io/forebay-dev/forebay-server:%s" .Chart.AppVersion) }}
{{- end }}

{{- define "forebay.cpuImage" -}}
{{ .Values.server.cpuImage | default (printf "ghcr.io/forebay-dev/forebay-server-cpu:%s" .Chart.AppVersion) }}
{{- end }}
