{{/* The image of Forebay's server, which pods add to an image of vLLM. By default it lies beside the operator's image. */}}
{{- define "forebay.overlay.image" -}}
{{- $image := .Values.server.image }}
{{- $repository := $image.repository | default (regexReplaceAll "[^/]*$" .Values.image.repository "forebay-server") }}
{{- $registry := $image.registry }}
{{- if $registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" $registry) $repository }}{{ end }}
{{- if $image.digest }}{{ printf "%s@%s" $repository $image.digest }}{{ else }}{{ printf "%s:%s" $repository $image.tag }}{{ end }}
{{- end }}
