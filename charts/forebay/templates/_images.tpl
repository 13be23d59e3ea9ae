{{/* A reference with the registry global.imageRegistry, if that is set. `reference` may name a registry, which is replaced. */}}
{{- define "forebay.mirrored" -}}
{{- $registry := .root.Values.global.imageRegistry | default "" | trimSuffix "/" }}
{{- $first := first (splitList "/" .reference) }}
{{- $named := and (contains "/" .reference) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}
{{- if not (and $registry .reference) }}{{ .reference }}
{{- else if $named }}{{ printf "%s/%s" $registry (trimPrefix (printf "%s/" $first) .reference) }}
{{- else }}{{ printf "%s/%s" $registry .reference }}
{{- end }}
{{- end }}

{{/* The reference of `image`, an object with registry, repository, tag and digest. `tag` is used where it has no tag. */}}
{{- define "forebay.reference" -}}
{{- $name := .image.repository }}
{{- with .image.registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" .) $name }}
{{- end }}
{{- if .image.digest }}
{{- $name = printf "%s@%s" $name .image.digest }}
{{- else }}
{{- $name = printf "%s:%s" $name (.image.tag | default .tag) }}
{{- end }}
{{- include "forebay.mirrored" (dict "root" .root "reference" $name) }}
{{- end }}

{{/* The image of the operator and the gateway. */}}
{{- define "forebay.image" -}}
{{- $sentence := "image.repository is needed: no image is published yet; build Dockerfile.operator and push it, see README" }}
{{- if required $sentence .Values.image.repository }}
{{- include "forebay.reference" (dict "root" . "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The image of Forebay's server, which pods add to an image of vLLM. By default it lies beside the operator's image. */}}
{{- define "forebay.overlay.image" -}}
{{- $image := deepCopy .Values.server.image }}
{{- if not $image.repository }}
{{- $_ := set $image "repository" (regexReplaceAll "[^/]*$" .Values.image.repository "forebay-server") }}
{{- $_ := set $image "registry" ($image.registry | default .Values.image.registry) }}
{{- end }}
{{- include "forebay.reference" (dict "root" . "image" $image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* Lists of pull Secrets, of names and of objects with a name, as one JSON list of objects. */}}
{{- define "forebay.pullSecrets" -}}
{{- $names := list }}
{{- range . }}
{{- range . }}
{{- $name := . }}
{{- if kindIs "map" . }}{{ $name = .name }}{{ end }}
{{- $names = append $names $name }}
{{- end }}
{{- end }}
{{- $secrets := list }}
{{- range uniq $names }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- end }}
{{- if $secrets }}{{ toJson $secrets }}{{ end }}
{{- end }}
