{{- define "kedge.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{- define "kedge.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Labels of every object. Never part of a selector: they change with the version. */}}
{{- define "kedge.labels" -}}
{{ include "kedge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kedge
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels of pods: without the version, so that a new chart alone restarts nothing. */}}
{{- define "kedge.podLabels" -}}
{{ include "kedge.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A digest pins what runs; a tag only names it. Call with (dict "root" $ "image" .Values.images.step). */}}
{{- define "kedge.image" -}}
{{- with .image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.root.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "kedge.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "kedge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "kedge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The store's address as pods see it, and as KServe's storage initializer does. */}}
{{- define "kedge.store" -}}
{{- default "/var/lib/kedge/store" .Values.store.url -}}
{{- end }}

{{- define "kedge.storeClaim" -}}
{{- default (printf "%s-store" (include "kedge.fullname" .)) .Values.store.volume.existingClaim -}}
{{- end }}

{{- define "kedge.bundleRoot" -}}
{{- if .Values.store.url -}}
{{ trimSuffix "/" .Values.store.url }}/bundles
{{- else -}}
pvc://{{ include "kedge.storeClaim" . }}/bundles
{{- end -}}
{{- end }}

{{- define "kedge.collectorUrl" -}}
http://{{ include "kedge.fullname" . }}-collector.{{ .Release.Namespace }}.svc:{{ .Values.collector.port }}
{{- end }}

{{- /* Where releases of a model go: the driver, the namespace, and what a first slot and a first route need.
       Call with (dict "root" $ "host" .host). */}}
{{- define "kedge.platform" -}}
{{- $host := .host -}}
{{- with .root -}}
{{- $options := list -}}
{{- if .Values.route.enabled -}}
{{- with .Values.route -}}
{{- $options = list (printf "gateway=%s/%s" .gateway.namespace .gateway.name) -}}
{{- with .gateway.sectionName }}{{ $options = append $options (printf "section=%s" .) }}{{ end -}}
{{- $options = append $options (ternary (printf "host=%s" $host) (printf "domain=%s" .domain) (not (empty $host))) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.store.url }}{{ $options = append $options (printf "claim=%s" (include "kedge.storeClaim" .)) }}{{ end -}}
{{- if .Values.serving.enabled }}{{ $options = append $options (printf "account=%s-slots" (include "kedge.fullname" .)) }}{{ end -}}
{{ ternary "knative" "gateway" (eq .Values.serving.deploymentMode "Knative") }}:{{ .Release.Namespace }}{{ with $options }}?{{ join "&" . }}{{ end }}
{{- end }}
{{- end }}

{{- /* Steps of Kubeflow Pipelines, in the namespaces whose accounts may release. */}}
{{- define "kedge.fromSteps" -}}
{{- $namespaces := list -}}
{{- range .Values.release.subjects }}{{ with .namespace }}{{ $namespaces = append $namespaces . }}{{ end }}{{ end -}}
{{- with $namespaces | uniq -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
  podSelector:
    matchExpressions:
      - {key: workflows.argoproj.io/workflow, operator: Exists}
{{- end -}}
{{- end }}

{{- /* Secrets come only by reference. Call with a list of names, empty ones left out. */}}
{{- define "kedge.envFrom" -}}
{{- with compact . }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "kedge.plainEnv" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* A network rule to an address: its namespace for a Service's name, its port for any other. */}}
{{- define "kedge.egressTo" -}}
{{- $url := urlParse . -}}
{{- $host := splitList "." (first (splitList ":" $url.host)) -}}
{{- if eq (len $host) 1 -}}
- to: [{podSelector: {}}]
{{- else if or (eq (len $host) 2) (eq (index $host 2) "svc") -}}
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ index $host 1 }}}}}]
{{- else -}}
- ports: [{port: {{ default (ternary "443" "80" (eq $url.scheme "https")) (last (prepend (rest (splitList ":" $url.host)) "")) }}, protocol: TCP}]
{{- end -}}
{{- end }}

{{- /* Models in values, checked for what a schema cannot say: names must be unique and fit into a CronJob's 52. */}}
{{- define "kedge.checkModels" -}}
{{- $seen := dict -}}
{{- $name := include "kedge.fullname" . -}}
{{- range .Values.models -}}
{{- $model := .policy.model.name -}}
{{- if hasKey $seen $model }}{{ fail (printf "models: %q is there twice; a model has one policy" $model) }}{{ end -}}
{{- $_ := set $seen $model true -}}
{{- $job := printf "%s-check-%s" $name $model -}}
{{- if gt (len $job) 52 }}{{ fail (printf "models: the CronJob %q would be longer than 52 characters; set a shorter fullnameOverride" $job) }}{{ end -}}
{{- end -}}
{{- if and .Values.route.enabled (not .Values.serving.enabled) }}{{ fail "route.enabled: routes lead to slots, so set serving.enabled too" }}{{ end -}}
{{- end }}
