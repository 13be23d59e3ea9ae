{{/* Parts of the pods of the chart's components. Each takes `root`; `own` has the values of the component, which are those of
the top level for the operator; `selector` names the template with the labels of its pods, and `spread` has its default constraints. */}}

{{- define "forebay.podMetadata" -}}
labels:
  {{- merge (include .labels .root | fromYaml) .own.podLabels | toYaml | nindent 2 }}
{{- with merge (deepCopy .own.podAnnotations) .root.Values.commonAnnotations }}
annotations: {{ toJson . }}
{{- end }}
{{- end }}

{{/* Placement. The gateway and Valkey use the operator's values where their own are empty. */}}
{{- define "forebay.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with (index $.own $key) | default (index $.root.Values $key) }}
{{ $key }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- with .own.priorityClassName | default .root.Values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- $pods := dict "matchLabels" (include .selector .root | fromYaml) }}
{{- with .own.topologySpreadConstraints | default $.spread }}
topologySpreadConstraints:
  {{- range . }}
  - {{ hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $pods) | toJson }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The variables of a container: those of the template `variables`, then extraEnv, which replaces them by name. */}}
{{- define "forebay.env" -}}
{{- $extra := .own.extraEnv }}
{{- $names := list }}
{{- range $extra }}
{{- $names = append $names .name }}
{{- end }}
{{- range include .variables .root | fromYamlArray }}
{{- if not (has .name $names) }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- range $extra }}
- {{ toJson . }}
{{- end }}
{{- end }}

{{/* The proxies, as a list of variables. Addresses inside the cluster never go through a proxy. */}}
{{- define "forebay.proxyVariables" -}}
{{- with .Values.proxy }}
{{- if or .httpProxy .httpsProxy }}
{{- $inside := "localhost,127.0.0.1,::1,169.254.0.0/16,.svc,.cluster.local" }}
{{- $values := dict "HTTP_PROXY" .httpProxy "HTTPS_PROXY" .httpsProxy "NO_PROXY" (list $inside .noProxy | compact | join ",") }}
{{- range $name, $value := $values }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
- {name: {{ lower $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The variables by which libraries find the CA bundle. The names are those of operator/src/forebay_operator/spec/defaults.py. */}}
{{- define "forebay.caVariables" -}}
{{- if .Values.caBundle.configMap }}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" "AWS_CA_BUNDLE" }}
- {name: {{ . }}, value: /etc/forebay/ca/ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{/* The volumes of the operator and the gateway, and their mounts. */}}
{{- define "forebay.volumes" -}}
{{- $volumes := list }}
{{- with .root.Values.caBundle }}
{{- if .configMap }}
{{- $items := list (dict "key" .key "path" "ca.crt") }}
{{- $volumes = append $volumes (dict "name" "forebay-ca" "configMap" (dict "name" .configMap "items" $items)) }}
{{- end }}
{{- end }}
{{- with concat $volumes .own.extraVolumes }}
volumes: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "forebay.volumeMounts" -}}
{{- $mounts := list }}
{{- if .root.Values.caBundle.configMap }}
{{- $mounts = append $mounts (dict "name" "forebay-ca" "mountPath" "/etc/forebay/ca" "readOnly" true) }}
{{- end }}
{{- with concat $mounts .own.extraVolumeMounts }}
volumeMounts: {{ toJson . }}
{{- end }}
{{- end }}

{{/* The defaults of all endpoints, in JSON, for the operator. server.env replaces the proxies by name. */}}
{{- define "forebay.endpointDefaults" -}}
{{- $server := .Values.server }}
{{- $defaults := dict }}
{{- $names := list }}
{{- range $server.env }}
{{- $names = append $names .name }}
{{- end }}
{{- $env := $server.env }}
{{- range include "forebay.proxyVariables" . | fromYamlArray }}
{{- if not (has .name $names) }}
{{- $env = append $env . }}
{{- end }}
{{- end }}
{{- with $env }}{{ $_ := set $defaults "env" . }}{{ end }}
{{- with $server.envFrom }}{{ $_ := set $defaults "envFrom" . }}{{ end }}
{{- with include "forebay.pullSecrets" (list .Values.global.imagePullSecrets $server.imagePullSecrets) }}
{{- $_ := set $defaults "imagePullSecrets" (fromJsonArray .) }}
{{- end }}
{{- $resources := dict }}
{{- range $kind := list "gpu" "cpu" }}
{{- with index ($server.resources | default dict) $kind }}{{ $_ := set $resources $kind . }}{{ end }}
{{- end }}
{{- with $resources }}{{ $_ := set $defaults "resources" . }}{{ end }}
{{- $cache := dict }}
{{- range $key, $value := $server.cache }}
{{- with $value }}{{ $_ := set $cache $key . }}{{ end }}
{{- end }}
{{- if or $cache.size $cache.claimName }}{{ $_ := set $defaults "cache" $cache }}{{ end }}
{{- with .Values.caBundle }}
{{- if .configMap }}{{ $_ := set $defaults "caBundle" (dict "configMap" .configMap "key" .key) }}{{ end }}
{{- end }}
{{- if $defaults }}{{ toJson $defaults }}{{ end }}
{{- end }}
