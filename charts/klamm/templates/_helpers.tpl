{{- define "klamm.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "klamm.selectorLabels" -}}
app.kubernetes.io/name: klamm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The same as one line: key=value,key=value. */}}
{{- define "klamm.selector" -}}
{{- include "klamm.selectorLabels" . | replace ": " "=" | replace "\n" "," -}}
{{- end -}}

{{- define "klamm.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "klamm.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: klamm
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "klamm.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "klamm.name" .) -}}
{{- end -}}

{{- define "klamm.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* What the operator may do in a namespace that it manages. */}}
{{- define "klamm.rules" -}}
- apiGroups: [klamm.dev]
  resources: [kafkaclusters, topics]
  verbs: [get, list, watch]
- apiGroups: [klamm.dev]
  resources: [kafkaclusters/status, topics/status]
  verbs: [update]
# Only to add and remove the finalizer of topics with deletionPolicy Delete.
- apiGroups: [klamm.dev]
  resources: [topics]
  verbs: [patch]
# Owner references that block deletion need it where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [klamm.dev]
  resources: [kafkaclusters/finalizers]
  verbs: [update]
# Deleted when their broker was emptied, to be removed.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Deleted with scaleDown.volumePolicy Delete only, after the StatefulSet.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Deleted with networkPolicy.mode Disabled.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Deleting a pod is how a broker is restarted.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# The brokers' shared token, read by name. Never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
