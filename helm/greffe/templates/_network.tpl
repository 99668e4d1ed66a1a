{{/* Rules of the NetworkPolicies. A peer is a pod of this release, or what `peers` says of another. */}}

{{/* NetworkPolicy peers that a component is: (dict "root" $ "name" "audit"). */}}
{{- define "greffe.peers" -}}
{{- $peers := list -}}
{{- if (index .root.Values .name).enabled -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (include "greffe.selector" . | fromYaml))) -}}
{{- end -}}
{{- if eq .name "escrow" -}}
{{- range .root.Values.peers.escrow }}{{ $peers = concat $peers (default list .selectors) }}{{ end -}}
{{- else -}}
{{- $peers = concat $peers (index .root.Values.peers .name).selectors -}}
{{- end -}}
{{- toJson $peers -}}
{{- end -}}

{{/* One rule, or nothing when nobody is meant: (dict "way" "to" "peers" LIST "port" 7400 "also" LIST-OF-PROTOCOLS). An empty
list in a NetworkPolicy means everybody, so none is ever rendered. */}}
{{- define "greffe.rule" -}}
{{- if .peers }}
- {{ .way }}:
    {{- toYaml .peers | nindent 4 }}
  ports:
    {{- range default (list "TCP") .protocols }}
    - port: {{ $.port }}
      protocol: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "greffe.ingressRules" -}}
{{- $v := .root.Values -}}
{{- $c := index $v .name -}}
{{- $callers := $c.clients -}}
{{- range get (dict "relay" list "archive" (list "relay") "audit" (list "relay" "archive" "escrow") "escrow" (list "audit")) .name -}}
{{- $callers = concat $callers (include "greffe.peers" (dict "root" $.root "name" .) | fromJsonArray) -}}
{{- end -}}
{{- include "greffe.rule" (dict "way" "from" "peers" $callers "port" 7400) }}
{{- if eq .name "archive" }}
{{- if $c.http.enabled }}
{{- include "greffe.rule" (dict "way" "from" "peers" $c.http.clients "port" 7443) }}
{{- end }}
{{- end }}
{{- if eq .name "audit" }}
{{- if $c.tiles.enabled }}
{{- include "greffe.rule" (dict "way" "from" "peers" $c.tiles.clients "port" 7490) }}
{{- end }}
{{- end }}
{{- include "greffe.rule" (dict "way" "from" "peers" $v.networkPolicy.monitoring.from "port" 7480) }}
{{- end -}}

{{- define "greffe.egressRules" -}}
{{- $v := .root.Values -}}
{{- $c := index $v .name -}}
{{- include "greffe.rule" (dict "way" "to" "peers" $v.networkPolicy.dns.to "port" $v.networkPolicy.dns.port "protocols" (list "UDP" "TCP")) }}
{{- $called := list -}}
{{- range get (dict "relay" (list "archive" "audit") "archive" (list "audit") "audit" (list "escrow") "escrow" (list "audit")) .name -}}
{{- $called = concat $called (include "greffe.peers" (dict "root" $.root "name" .) | fromJsonArray) -}}
{{- end -}}
{{- include "greffe.rule" (dict "way" "to" "peers" $called "port" 7400) }}
{{- include "greffe.databaseRules" . }}
{{- if and (eq .name "archive") (eq $c.objects.kind "s3") }}
{{- include "greffe.rule" (dict "way" "to" "peers" $c.objects.to "port" $c.objects.port) }}
{{- if $c.objects.replica.enabled }}
{{- include "greffe.rule" (dict "way" "to" "peers" $c.objects.replica.to "port" $c.objects.replica.port) }}
{{- end }}
{{- end }}
{{- if $v.telemetry.otlp }}
{{- include "greffe.rule" (dict "way" "to" "peers" $v.telemetry.to "port" $v.telemetry.port) }}
{{- end }}
{{- if eq $c.seal.kind "pkcs11" }}
{{- include "greffe.rule" (dict "way" "to" "peers" $c.seal.network.to "port" $c.seal.network.port) }}
{{- end }}
{{- end -}}

{{- define "greffe.databaseRules" -}}
{{- $c := index .root.Values .name -}}
{{- if $c.database.existingSecret }}
{{- include "greffe.rule" (dict "way" "to" "peers" $c.database.to "port" $c.database.port) }}
{{- end }}
{{- if eq .name "archive" }}
{{- if $c.wraps.database.existingSecret }}
{{- include "greffe.rule" (dict "way" "to" "peers" $c.wraps.database.to "port" $c.wraps.database.port) }}
{{- end }}
{{- end }}
{{- end -}}
