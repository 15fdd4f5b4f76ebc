{{- define "ecr-operator.labels" -}}
app.kubernetes.io/name: ecr-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "ecr-operator.selector" -}}
app.kubernetes.io/name: ecr-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "ecr-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What PullSecrets write. By name only: nothing is listed or watched. Creating cannot be limited to names. */}}
{{- define "ecr-operator.pullSecretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, patch]
{{- end }}
