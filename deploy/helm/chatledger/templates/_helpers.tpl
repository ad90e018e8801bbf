{{- define "chatledger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "chatledger.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "chatledger.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "chatledger.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "chatledger.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chatledger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- /* Labels of everything but the migrations. */}}
{{- define "chatledger.labels" -}}
{{ include "chatledger.selectorLabels" . }}
{{ include "chatledger.chartLabels" . }}
{{- end }}

{{- define "chatledger.chartLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: chatledger
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "chatledger.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "chatledger.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "chatledger.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The database's URLs, from the Secret. */}}
{{- define "chatledger.databaseEnv" -}}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.urlKey }}}}
- name: DATABASE_DIRECT_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.directUrlKey }}, optional: true}}
{{- end }}

{{- /* What the servers are told, as a map of flags without the dashes: ours, and over it the operator's. */}}
{{- define "chatledger.config" -}}
{{- $config := dict "listen" "0.0.0.0:50051" "admin-listen" "0.0.0.0:9464" "log-format" "json" "log-filter" .Values.log }}
{{- $_ := set $config "shutdown-grace" (printf "%ds" (int .Values.shutdown.graceSeconds)) }}
{{- $_ := set $config "drain-delay" (printf "%ds" (int .Values.shutdown.drainSeconds)) }}
{{- $_ := set $config "migrate" (ternary "check" "auto" .Values.migrations.job) }}
{{- if .Values.migrations.existingConfigMap }}
{{- $_ := set $config "migrations-dir" "/etc/chatledger/migrations" }}
{{- end }}
{{- if .Values.tls.enabled }}
{{- $_ := set $config "tls-cert" "/etc/chatledger/tls/tls.crt" }}
{{- $_ := set $config "tls-key" "/etc/chatledger/tls/tls.key" }}
{{- if .Values.tls.clientCA }}
{{- $_ := set $config "tls-client-ca" "/etc/chatledger/tls/ca.crt" }}
{{- end }}
{{- else if not .Values.insecure }}
{{- fail "tls.enabled is false: the server doesn't serve beyond its pod without TLS, unless insecure is true" }}
{{- end }}
{{- if .Values.insecure }}
{{- $_ := set $config "insecure" true }}
{{- end }}
{{- mergeOverwrite $config .Values.config | toYaml }}
{{- end }}

{{- /* JSON's strings, numbers, booleans and lists are TOML's as well; Helm's own toToml makes 1024.0 of 1024. */}}
{{- define "chatledger.toml" -}}
{{- range $key, $value := include "chatledger.config" . | fromYaml }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
