{{/* The name of everything that the chart makes for the operator. With a suffix it names Services and a StatefulSet: so it
begins with a letter, has no dots, and has at most 45 characters, which leaves room for the labels of Valkey's pod. */}}
{{- define "forebay.name" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name }}
{{- $base := .Values.nameOverride | default .Chart.Name }}
{{- if not (or .Values.fullnameOverride (contains $base $name)) }}
{{- $name = printf "%s-%s" $name $base }}
{{- end }}
{{- if not (regexMatch "^[a-z]" $name) }}
{{- fail "the release's name must begin with a letter, as Services are named after it; or set fullnameOverride" }}
{{- end }}
{{- $name | replace "." "-" | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- define "forebay.selector" -}}
app.kubernetes.io/name: forebay-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "forebay.gateway.selector" -}}
app.kubernetes.io/name: forebay-gateway
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "forebay.valkey.selector" -}}
app.kubernetes.io/name: forebay-valkey
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: valkey
{{- end }}

{{/* The labels of all objects of a release. The chart's own labels win over commonLabels. */}}
{{- define "forebay.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "forebay.labels" -}}
{{- merge (include "forebay.selector" . | fromYaml) (include "forebay.releaseLabels" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{- define "forebay.gateway.labels" -}}
{{- merge (include "forebay.gateway.selector" . | fromYaml) (include "forebay.releaseLabels" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{/* Without versions, as each change of its pod's labels would restart Valkey. */}}
{{- define "forebay.valkey.labels" -}}
{{- $own := dict "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge (include "forebay.valkey.selector" . | fromYaml) $own .Values.commonLabels | toYaml }}
{{- end }}

{{/* The line with the annotations of an object: its own (`own`) and commonAnnotations; nothing where there are none. */}}
{{- define "forebay.annotations" -}}
{{- with merge (deepCopy (.own | default dict)) .root.Values.commonAnnotations }}
{{- printf "\n  annotations: %s" (toJson .) }}
{{- end }}
{{- end }}

{{- define "forebay.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "forebay.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "forebay.gateway.serviceAccount" -}}
{{- if .Values.gateway.serviceAccount.create }}{{ .Values.gateway.serviceAccount.name | default (printf "%s-gateway" (include "forebay.name" .)) }}
{{- else }}{{ .Values.gateway.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* The URLs of the gateways for clients: those of their Service, of gateway.ingress with TLS, and of gateway.urls. Other
proxies may serve HTTP or HTTPS, as their annotations or listeners say. */}}
{{- define "forebay.gateway.urls" -}}
{{- $port := int .Values.gateway.service.port }}
{{- $service := printf "http://%s-gateway.%s.svc" (include "forebay.name" .) .Release.Namespace }}
{{- if ne $port 80 }}
{{- $service = printf "%s:%d" $service $port }}
{{- end }}
{{- $urls := list $service }}
{{- with .Values.gateway.ingress }}
{{- range ternary .hosts list (and .enabled (not (empty .tls))) }}
{{- if and (not (hasPrefix "*" .host)) (or (not .paths) (has "/" (pluck "path" .paths))) }}
{{- $urls = append $urls (printf "https://%s" .host) }}
{{- end }}
{{- end }}
{{- end }}
{{- concat $urls .Values.gateway.urls | uniq | join "," }}
{{- end }}

{{/* The items of inheritLabels or inheritAnnotations. The operator checks them too, and gives a reason for each. */}}
{{- define "forebay.inherited" -}}
{{- $value := index . 0 }}
{{- range index . 1 }}
{{- if regexMatch "^[*]" . }}
{{- fail (printf "%s: %s is not possible, as children never get all keys; give keys, or a domain such as example.com/*" $value .) }}
{{- end }}
{{- if regexMatch "^(argocd[.]argoproj[.]io|(kustomize|helm)[.]toolkit[.]fluxcd[.]io|(meta[.])?helm[.]sh|cli-utils[.]sigs[.]k8s[.]io|config[.]k8s[.]io|kapp[.]k14s[.]io|forebay[.]dev|((applyset|controller|deployment|endpointslice|kubectl)[.])?kubernetes[.]io)/|^app[.]kubernetes[.]io/(instance|name|managed-by|[*])$" . }}
{{- fail (printf "%s: %s cannot be inherited, as Argo CD, Flux, Helm, kubectl, Kubernetes or the operator tracks objects by it and would delete or mistake the children" $value .) }}
{{- end }}
{{- end }}
{{- join "," (index . 1) }}
{{- end }}

{{/* The peers that may reach the servers' ops port, in JSON: operator, gateways, and readers of metrics. */}}
{{- define "forebay.opsPeers" -}}
{{- $peers := list }}
{{- $here := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) }}
{{- range list "forebay.selector" "forebay.gateway.selector" }}
{{- $pods := dict "matchLabels" (include . $ | fromYaml) }}
{{- $peers = append $peers (dict "namespaceSelector" $here "podSelector" $pods) }}
{{- end }}
{{- concat $peers .Values.networkPolicy.from | toJson }}
{{- end }}

{{/* The name of the chart's own Valkey and of the Secret with its password; empty where the chart makes none. */}}
{{- define "forebay.valkey.name" -}}
{{- if and .Values.gateway.enabled .Values.valkey.create (not .Values.valkey.existingSecret) }}
{{- include "forebay.name" . }}-valkey
{{- end }}
{{- end }}

{{/* Whether there may be more than one gateway; empty for one. */}}
{{- define "forebay.gateway.several" -}}
{{- if .Values.gateway.autoscaling.enabled }}
{{- if gt (int .Values.gateway.autoscaling.maxReplicas) 1 }}true{{ end }}
{{- else if or (kindIs "invalid" .Values.gateway.replicas) (gt (int .Values.gateway.replicas) 1) }}true
{{- end }}
{{- end }}

{{/* Where jobs are: in Valkey, in the memory of the one gateway, or nowhere. */}}
{{- define "forebay.jobs" -}}
{{- if or .Values.valkey.create .Values.valkey.existingSecret }}valkey
{{- else if include "forebay.gateway.several" . }}off
{{- else }}memory
{{- end }}
{{- end }}

{{/* The Secrets with the digests of keys: the operator writes them, the gateway reads them. */}}
{{- define "forebay.digests" -}}
- forebay-gateway
{{- range until 16 }}
- forebay-gateway-keys-{{ printf "%x" . }}
{{- end }}
{{- end }}
