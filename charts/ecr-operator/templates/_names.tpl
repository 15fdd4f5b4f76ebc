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
