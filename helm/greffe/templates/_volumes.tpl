{{/* What a component's containers are given: variables that name files of secrets, mounts, volumes. */}}

{{/* Secrets of a component beside trust, tls and keys, as a JSON list of {name, secret, items, variables}. */}}
{{- define "greffe.secrets" -}}
{{- $c := index .root.Values .name -}}
{{- $found := list -}}
{{- with $c.database.existingSecret -}}
{{- $secret := ternary (default . $c.database.migrationSecret) . (eq (default "" $.for) "migration") -}}
{{- $found = append $found (dict "name" "database" "secret" $secret "items" (dict "url" $c.database.key) "variables" (dict "GREFFE__SERVICE__DATABASE__URL_FILE" "url")) -}}
{{- end -}}
{{- if eq .name "archive" -}}
{{- with $c.wraps.database.existingSecret -}}
{{- $secret := ternary (default . $c.wraps.database.migrationSecret) . (eq (default "" $.for) "migration") -}}
{{- $found = append $found (dict "name" "wraps" "secret" $secret "items" (dict "url" $c.wraps.database.key) "variables" (dict "GREFFE__ARCHIVE__WRAPS__URL_FILE" "url")) -}}
{{- end -}}
{{- end -}}
{{- if ne (default "" .for) "migration" -}}
{{- with .root.Values.telemetry.tls -}}
{{- if .existingSecret -}}
{{- $items := dict "ca.crt" .caKey -}}
{{- if .certKey }}{{ $_ := set $items "tls.crt" .certKey }}{{ $_ := set $items "tls.key" .keyKey }}{{ end -}}
{{- $found = append $found (dict "name" "collector" "secret" .existingSecret "items" $items "variables" dict) -}}
{{- end -}}
{{- end -}}
{{- if eq .name "archive" -}}
{{- if eq $c.objects.kind "s3" -}}
{{- $found = append $found (include "greffe.objectsSecret" (dict "name" "objects" "objects" $c.objects "prefix" "GREFFE__ARCHIVE__OBJECTS__") | fromJson) -}}
{{- if $c.objects.replica.enabled -}}
{{- $found = append $found (include "greffe.objectsSecret" (dict "name" "objects-replica" "objects" $c.objects.replica "prefix" "GREFFE__ARCHIVE__OBJECTS__REPLICA__") | fromJson) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $c.seal.kind "pkcs11" -}}
{{- $found = append $found (dict "name" "pin" "secret" $c.seal.pin.existingSecret "items" (dict "pin" $c.seal.pin.key) "variables" (dict "GREFFE__SERVICE__SEAL__PIN_FILE" "pin")) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "greffe.objectsSecret" -}}
{{- $o := .objects -}}
{{- $items := dict "access_key_id" $o.accessKeyIdKey "secret_access_key" $o.secretAccessKeyKey -}}
{{- with $o.caKey }}{{ $_ := set $items "ca.pem" . }}{{ end -}}
{{- $variables := dict (printf "%sACCESS_KEY_ID_FILE" .prefix) "access_key_id" (printf "%sSECRET_ACCESS_KEY_FILE" .prefix) "secret_access_key" -}}
{{- dict "name" .name "secret" $o.existingSecret "items" $items "variables" $variables | toJson -}}
{{- end -}}

{{/* Variables and mounts of a container. */}}
{{- define "greffe.env" -}}
{{- if ne (default "" .for) "migration" }}
{{- with (include "greffe.pod" . | fromYaml).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- range include "greffe.secrets" . | fromJsonArray }}
{{- $secret := . }}
{{- range $variable, $file := .variables }}
- name: {{ $variable }}
  value: /etc/greffe/{{ $secret.name }}/{{ $file }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "greffe.mounts" -}}
{{- $c := index .root.Values .name -}}
- name: settings
  mountPath: /etc/greffe/settings
  readOnly: true
- name: data
  mountPath: /var/lib/greffe
- name: tmp
  mountPath: /tmp
{{- range include "greffe.secrets" . | fromJsonArray }}
- name: {{ .name }}
  mountPath: /etc/greffe/{{ .name }}
  readOnly: true
{{- end }}
{{- if ne (default "" .for) "migration" }}
- name: trust
  mountPath: /etc/greffe/trust
  readOnly: true
- name: tls
  mountPath: /etc/greffe/tls
  readOnly: true
{{- if not (include "greffe.ownKeys" .) }}
- name: keys
  mountPath: /etc/greffe/keys
  readOnly: true
{{- end }}
{{- with (include "greffe.pod" . | fromYaml).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "greffe.volumes" -}}
{{- $c := index .root.Values .name -}}
- name: settings
  configMap:
    name: {{ default (include "greffe.name" .) .configMap }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- range include "greffe.secrets" . | fromJsonArray }}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0400
    items:
      {{- range $path, $key := .items }}
      - key: {{ $key }}
        path: {{ $path }}
      {{- end }}
{{- end }}
{{- if ne (default "" .for) "migration" }}
{{- /* A node's certificate and bundle can only be made after it has told its public keys: until then the pod has to run. */}}
{{- $optional := include "greffe.ownKeys" . }}
- name: trust
  secret:
    secretName: {{ .root.Values.trust.existingSecret }}
    defaultMode: 0444
    items:
      - key: {{ .root.Values.trust.rootKey }}
        path: root.pub
      - key: {{ .root.Values.trust.bundleKey }}
        path: bundle.bin
    {{- if $optional }}
    optional: true
    {{- end }}
- name: tls
  secret:
    secretName: {{ $c.tls.existingSecret }}
    defaultMode: 0400
    {{- if $optional }}
    optional: true
    {{- end }}
{{- if not $optional }}
- name: keys
  secret:
    secretName: {{ $c.keys.existingSecret }}
    defaultMode: 0400
    items:
      - key: {{ ternary "seal.key.wrapped" "seal.key" (eq $c.seal.kind "pkcs11") }}
        path: {{ ternary "seal.key.wrapped" "seal.key" (eq $c.seal.kind "pkcs11") }}
      {{- range $c.keys.items }}
      - key: {{ . }}
        path: secrets/{{ . }}
      {{- end }}
{{- end }}
{{- with (include "greffe.pod" . | fromYaml).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}
