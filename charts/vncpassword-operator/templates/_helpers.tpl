{{- define "vnc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "vnc.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "vnc.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vnc.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vnc.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vnc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vnc.labels" -}}
{{ include "vnc.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vnc.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "vnc.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "vnc.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "vnc.check" -}}
{{- if and (not .Values.leaderElection.enabled) (gt (int .Values.replicaCount) 1) -}}
{{- fail "replicaCount: without leaderElection.enabled only one replica may run, or two would rotate the same instance" -}}
{{- end -}}
{{- $rrsa := .Values.credentials.rrsa -}}
{{- if ne (empty $rrsa.roleArn) (empty $rrsa.oidcProviderArn) -}}
{{- fail "credentials.rrsa: roleArn and oidcProviderArn are needed together" -}}
{{- end -}}
{{- if gt (len (list .Values.credentials.existingSecret $rrsa.roleArn $rrsa.roleName .Values.credentials.ramRole | compact)) 1 -}}
{{- fail "credentials: set one of existingSecret, rrsa.roleArn, rrsa.roleName and ramRole" -}}
{{- end -}}
{{- end -}}

{{- define "vnc.fleets" -}}
{{- if and .Values.fleets.enabled (not .Values.watchNamespaces) -}}true{{- end -}}
{{- end -}}

{{- /* What the operator does in each namespace that it watches. */ -}}
{{- define "vnc.namespaceRules" -}}
- apiGroups: [vncpassword.dev]
  resources: [vncpasswords]
  verbs: [get, list, watch{{ if include "vnc.fleets" . }}, create, patch, delete{{ end }}]
- apiGroups: [vncpassword.dev]
  resources: [vncpasswords/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
