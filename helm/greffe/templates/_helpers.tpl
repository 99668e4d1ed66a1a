{{/* Names, labels and small choices that several templates make. */}}

{{- define "greffe.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of what belongs to one component: (dict "root" $ "name" "relay"). */}}
{{- define "greffe.name" -}}
{{- printf "%s-%s" (include "greffe.fullname" .root) .name -}}
{{- end -}}

{{- define "greffe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: greffe
{{ include "greffe.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "greffe.selector" -}}
app.kubernetes.io/name: greffe
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Metadata of anything: (dict "root" $ "name" COMPONENT "is" NAME "annotations" MAP). */}}
{{- define "greffe.metadata" -}}
name: {{ .is }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "greffe.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The service's name in the trust bundle and in its certificate. */}}
{{- define "greffe.identity" -}}
{{- if eq .name "escrow" }}{{ .root.Values.escrow.name }}{{ else }}{{ .name }}{{ end -}}
{{- end -}}

{{- define "greffe.replicas" -}}
{{- $c := index .root.Values .name -}}
{{- if eq .name "escrow" }}1{{ else if $c.autoscaling.enabled }}{{ $c.autoscaling.maxReplicas }}{{ else }}{{ $c.replicas }}{{ end -}}
{{- end -}}

{{/* What its pods are like: the service's own over what is alike for all. */}}
{{- define "greffe.pod" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.pod) (deepCopy (index .root.Values .name).pod)) -}}
{{- end -}}

{{- define "greffe.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Every replica of a component of this release, as a JSON list of host:port. */}}
{{- define "greffe.addresses" -}}
{{- $name := include "greffe.name" . -}}
{{- $addresses := list -}}
{{- range $i := until (int (include "greffe.replicas" .)) -}}
{{- $addresses = append $addresses (printf "%s-%d.%s.%s.svc.%s:7400" $name $i $name $.root.Release.Namespace $.root.Values.clusterDomain) -}}
{{- end -}}
{{- toJson $addresses -}}
{{- end -}}

{{/* Does the component keep its keys on its volume? */}}
{{- define "greffe.ownKeys" -}}
{{- if not (index .root.Values .name).keys.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "greffe.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "greffe.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
