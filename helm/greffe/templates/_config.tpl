{{/* The settings of one service, in the form that `greffe serve` reads. No secret is ever in it. A
migration (`for`) is told of databases only. */}}
{{- define "greffe.config" -}}
{{- $c := index .root.Values .name -}}
{{- $v := .root.Values -}}
[service]
mode = {{ toJson $v.mode }}
tenant = {{ toJson $v.tenant }}
listen = "0.0.0.0:7400"
data = "/var/lib/greffe/data"
root_key = "/etc/greffe/trust/root.pub"
bundle = "/etc/greffe/trust/bundle.bin"
{{- if not (include "greffe.ownKeys" .) }}
secrets = "/etc/greffe/keys"
{{- end }}

[service.health]
listen = "0.0.0.0:7480"

[service.tls]
cert = "/etc/greffe/tls/tls.crt"
key = {{ ternary "/var/lib/greffe/data/tls.key" "/etc/greffe/tls/tls.key" $c.tls.keyInDataFolder | toJson }}
ca = "/etc/greffe/tls/ca.crt"
{{- if $c.database.existingSecret }}

[service.database]
migrate = {{ eq $v.migrations.mode "start" }}
{{- end }}
{{- if and $v.telemetry.otlp (ne (default "" .for) "migration") }}

[service.telemetry]
otlp = {{ toJson $v.telemetry.otlp }}
{{- with $v.telemetry.tls }}
{{- if .existingSecret }}

[service.telemetry.tls]
ca = "/etc/greffe/collector/ca.crt"
{{- if .certKey }}
cert = "/etc/greffe/collector/tls.crt"
key = "/etc/greffe/collector/tls.key"
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq $c.seal.kind "pkcs11") (ne (default "" .for) "migration") }}

[service.seal]
kind = "pkcs11"
module = {{ toJson $c.seal.module }}
token = {{ toJson $c.seal.token }}
key = {{ toJson $c.seal.key }}
{{- end }}
{{- range $peer := get (dict "relay" (list "audit" "archive") "archive" (list "audit") "escrow" (list "audit") "audit" list) .name }}

[service.peers.{{ $peer }}]
{{- if (index $v $peer).enabled }}
addresses = {{ include "greffe.addresses" (dict "root" $.root "name" $peer) }}
{{- else }}
addresses = {{ toJson (index $v.peers $peer).addresses }}
{{- end }}
{{- end }}
{{- if eq .name "audit" }}
{{- range $v.peers.escrow }}

[service.peers.{{ .name }}]
addresses = {{ toJson .addresses }}
{{- end }}
{{- if $v.escrow.enabled }}

[service.peers.{{ $v.escrow.name }}]
addresses = {{ include "greffe.addresses" (dict "root" .root "name" "escrow") }}
{{- end }}
{{- end }}

[service.log]
format = {{ toJson $v.log.format }}
filter = {{ toJson $v.log.filter }}
{{- with $c.limits }}

[service.limits]
{{- range $key, $value := . }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}

[{{ .name }}]
{{- range $key, $value := $c.settings }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- if eq .name "audit" }}
{{- if and $c.tiles.enabled (ne (default "" .for) "migration") }}

[audit.tiles]
listen = "0.0.0.0:7490"
entries = {{ $c.tiles.entries }}
{{- end }}
{{- end }}
{{- if eq .name "archive" }}
{{- if $c.http.enabled }}

[archive.http]
listen = "0.0.0.0:7443"
{{- end }}
{{- if $c.wraps.database.existingSecret }}

[archive.wraps]
migrate = {{ eq $v.migrations.mode "start" }}
{{- end }}
{{- if and (eq $c.objects.kind "s3") (ne (default "" .for) "migration") }}

[archive.objects]
kind = "s3"
{{- include "greffe.objects" $c.objects | nindent 0 }}
{{- if $c.objects.caKey }}
ca = "/etc/greffe/objects/ca.pem"
{{- end }}
{{- if $c.objects.replica.enabled }}

[archive.objects.replica]
kind = "s3"
{{- include "greffe.objects" $c.objects.replica | nindent 0 }}
{{- if $c.objects.replica.caKey }}
ca = "/etc/greffe/objects-replica/ca.pem"
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{ end -}}

{{- define "greffe.objects" -}}
endpoint = {{ toJson .endpoint }}
region = {{ toJson .region }}
bucket = {{ toJson .bucket }}
prefix = {{ toJson .prefix }}
path_style = {{ .pathStyle }}
{{- end -}}
