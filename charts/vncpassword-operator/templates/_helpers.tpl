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
{{- if and $rrsa.roleName (not .Values.serviceAccount.create) -}}
{{- fail "credentials.rrsa.roleName: the ServiceAccount is yours (serviceAccount.create is false): annotate it with pod-identity.alibabacloud.com/role-name yourself" -}}
{{- end -}}
{{- if and (not .Values.crds.install) (not .Values.crds.keep) -}}
{{- fail "crds.install: with crds.keep=false Helm would delete the kinds of an earlier release, and with them every object: upgrade with crds.keep=true first" -}}
{{- end -}}
{{- $own := include "vnc.ownEnv" . -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch (printf "(?m)name: %s(,|$)" .name) $own -}}
{{- fail (printf "extraEnv: %s is set by the chart already: set the value that it comes from" .name) -}}
{{- end -}}
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
  # `get` is for an object that somebody else has changed meanwhile.
  verbs: [get, list, watch{{ if include "vnc.fleets" . }}, create, patch, delete{{ end }}]
- apiGroups: [vncpassword.dev]
  resources: [vncpasswords/status]
  # `patch` is for Pods of the previous version, which run on during an upgrade. The version after this one drops it.
  verbs: [update, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* How the program runs, for the operator and for `helm test`. */ -}}
{{- define "vnc.env" -}}
{{- include "vnc.ownEnv" . }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "vnc.ownEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: HTTP_ADDR, value: "[::]:8080"}
- {name: LEADER_ELECT, value: {{ .Values.leaderElection.enabled | quote }}}
{{- if ne (include "vnc.fullname" .) "vncpassword-operator" }}
- {name: LEASE_NAME, value: {{ include "vnc.fullname" . | quote }}}
{{- end }}
- {name: LOG_FORMAT, value: {{ .Values.log.format | quote }}}
- {name: RUST_LOG, value: {{ .Values.log.level | quote }}}
- {name: SETTLE, value: {{ .Values.settle | quote }}}
- {name: MAX_CONCURRENT_RECONCILES, value: {{ .Values.maxConcurrentReconciles | quote }}}
- {name: FLEETS, value: {{ include "vnc.fleets" . | default "false" | quote }}}
- {name: ALLOW_REBOOT, value: {{ .Values.allowReboot | quote }}}
- {name: PER_OBJECT_METRICS, value: {{ .Values.metrics.perObject | quote }}}
- {name: ECS_ENDPOINT_NETWORK, value: {{ .Values.endpoints.network | quote }}}
{{- $rates := list }}
{{- range $action, $rate := .Values.ecsRate }}
{{- $rates = append $rates (printf "%s=%d/min" $action (int $rate)) }}
{{- end }}
{{- range $name, $value := dict
  "ALIBABA_CLOUD_REGION_ID" .Values.region
  "ECS_ENDPOINT" .Values.endpoints.ecs
  "STS_ENDPOINT" .Values.endpoints.sts
  "ECS_METADATA_ENDPOINT" .Values.endpoints.metadata
  "OTEL_EXPORTER_OTLP_ENDPOINT" .Values.tracing.otlpEndpoint
  "AMBIENT_CREDENTIALS_NAMESPACES" (join "," .Values.ambientCredentialsNamespaces)
  "WATCH_NAMESPACES" (join "," .Values.watchNamespaces)
  "ECS_RATE" (join "," $rates)
  "ALIBABA_CLOUD_ECS_METADATA" .Values.credentials.ramRole }}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- with .Values.credentials.existingSecret }}
- name: ALIBABA_CLOUD_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: access-key-id}}
- name: ALIBABA_CLOUD_ACCESS_KEY_SECRET
  valueFrom: {secretKeyRef: {name: {{ . }}, key: access-key-secret}}
- name: ALIBABA_CLOUD_SECURITY_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: security-token, optional: true}}
{{- end }}
{{- if .Values.credentials.rrsa.roleArn }}
- {name: ALIBABA_CLOUD_ROLE_ARN, value: {{ .Values.credentials.rrsa.roleArn | quote }}}
- {name: ALIBABA_CLOUD_OIDC_PROVIDER_ARN, value: {{ .Values.credentials.rrsa.oidcProviderArn | quote }}}
- {name: ALIBABA_CLOUD_OIDC_TOKEN_FILE, value: /var/run/secrets/rrsa/token}
{{- end }}
{{- if or .Values.credentials.existingSecret .Values.credentials.rrsa.roleArn .Values.credentials.rrsa.roleName }}
# Where a key or a role is meant, the RAM role of the node must never take its place.
- {name: ALIBABA_CLOUD_ECS_METADATA_DISABLED, value: "true"}
{{- end }}
{{- end -}}

{{- define "vnc.mounts" -}}
{{- if or .Values.credentials.rrsa.roleArn .Values.extraVolumeMounts }}
volumeMounts:
  {{- if .Values.credentials.rrsa.roleArn }}
  - {name: rrsa, mountPath: /var/run/secrets/rrsa, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "vnc.volumes" -}}
{{- if or .Values.credentials.rrsa.roleArn .Values.extraVolumes }}
volumes:
  {{- if .Values.credentials.rrsa.roleArn }}
  - name: rrsa
    projected:
      sources:
        - serviceAccountToken: {path: token, audience: sts.aliyuncs.com, expirationSeconds: 3600}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "vnc.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
