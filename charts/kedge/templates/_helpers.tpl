{{- /* The release's name may hold dots and begin with a digit; the names of Services may not. */}}
{{- define "kedge.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $release = ternary $release (printf "kedge-%s" $release) (regexMatch "^[a-z]" $release) -}}
{{- $full := ternary $release (printf "%s-%s" $release $name) (contains $name $release) -}}
{{- default $full .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{- define "kedge.selector" -}}
{{- dict "app.kubernetes.io/name" (default .Chart.Name .Values.nameOverride) "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end }}

{{- /* Labels of every object. Never part of a selector: they change with the version. */}}
{{- define "kedge.labels" -}}
{{- include "kedge.labelled" (dict "root" . "labels" dict) -}}
{{- end }}

{{- /* The same with an object's own. Call with (dict "root" $ "labels" (dict NAME VALUE ...)). */}}
{{- define "kedge.labelled" -}}
{{- $labels := merge (deepCopy .labels) (include "kedge.selector" .root | fromYaml) -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/version" .root.Chart.AppVersion "app.kubernetes.io/part-of" "kedge") -}}
{{- $labels = merge $labels (dict "app.kubernetes.io/managed-by" .root.Release.Service) -}}
{{- $labels = merge $labels (dict "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version)) -}}
{{- merge $labels .root.Values.commonLabels | toYaml -}}
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

{{- /* A pod's settings as JSON: those of all pods, and over them a component's own. Maps are added to, a null takes a
       name away, the rest is replaced. Call with (dict "root" $ "own" .Values.collector). */}}
{{- define "kedge.pod" -}}
{{- $set := dict -}}
{{- range $name := list "labels" "annotations" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" "dnsConfig" "hostAliases" "securityContext" "containerSecurityContext" "env" "secrets" "volumes" "volumeMounts" "resources" "terminationGracePeriodSeconds" "serviceAccount" -}}
{{- $value := deepCopy (get $.root.Values.pod $name) -}}
{{- $own := get $.own $name -}}
{{- if and (kindIs "map" $value) (kindIs "map" $own) -}}
{{- range $key, $each := $own -}}
{{- if kindIs "invalid" $each -}}
{{- $_ := unset $value $key -}}
{{- else if and (kindIs "map" $each) (kindIs "map" (get $value $key)) -}}
{{- $_ := set $value $key (mergeOverwrite (get $value $key) (deepCopy $each)) -}}
{{- else -}}
{{- $_ := set $value $key $each -}}
{{- end -}}
{{- end -}}
{{- else if $own -}}
{{- $value = $own -}}
{{- end -}}
{{- if kindIs "map" $value -}}
{{- range $key, $each := $value }}{{ if kindIs "invalid" $each }}{{ $_ := unset $value $key }}{{ end }}{{ end -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $set $name $value -}}{{- end -}}
{{- end -}}
{{- range $list, $key := dict "volumes" "name" "volumeMounts" "mountPath" -}}
{{- $seen := list -}}
{{- range $each := get $set $list -}}
{{- $place := trimSuffix "/" (get $each $key) -}}
{{- if has $place $seen }}{{ fail (printf "%s: %s %q is there twice; a pod has each once" $list $key $place) }}{{ end -}}
{{- $seen = append $seen $place -}}
{{- end -}}
{{- end -}}
{{- range $kind, $amounts := $set.resources -}}
{{- range $name, $amount := $amounts -}}{{ if not (kindIs "string" $amount) }}{{ $_ := set $amounts $name (toJson $amount) }}{{ end }}{{- end -}}
{{- end -}}
{{- if .root.Values.allowCode }}{{ $_ := set $set "env" (merge (dict "KEDGE_ALLOW_CODE" "1") $set.env) }}{{ end -}}
{{- toJson $set -}}
{{- end }}

{{- /* Labels and annotations of a pod: without the version, so that a new chart alone restarts nothing. Call with
       (dict "root" $ "own" .Values.collector "labels" (dict ...)), and "annotations" alike. */}}
{{- define "kedge.podMeta" -}}
{{- $set := include "kedge.pod" . | fromJson -}}
labels:
  {{- merge (deepCopy .labels) (include "kedge.selector" .root | fromYaml) $set.labels .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (deepCopy (default dict .annotations)) $set.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Everything of a pod's specification that is a setting, but its account. JSON keeps numbers as they were written.
       Call with (dict "root" $ "own" .Values.collector), and "only" (list ...) where a kind takes less. */}}
{{- define "kedge.podSpec" -}}
{{- $set := include "kedge.pod" . | fromJson -}}
{{- $names := default (list "securityContext" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" "dnsConfig" "hostAliases" "terminationGracePeriodSeconds") .only -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- range $name := $names }}
{{- with get $set $name }}
{{ $name }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What is a setting of a container, in the shape (dict "root" $ "own" .Values.collector "secrets" (list of names)). */}}
{{- define "kedge.container" -}}
{{- $set := include "kedge.pod" . | fromJson -}}
{{- with include "kedge.secrets" . | fromJsonArray }}
envFrom: # secrets come only by reference
  {{- range . }}
  - secretRef: {name: {{ . | quote }}}
  {{- end }}
{{- end }}
securityContext: {{ toJson $set.containerSecurityContext }}
resources: {{ toJson $set.resources }}
{{- end }}

{{- /* Names of the Secrets whose keys become variables, as JSON. */}}
{{- define "kedge.secrets" -}}
{{- concat (default list .secrets) (include "kedge.pod" . | fromJson).secrets | compact | uniq | toJson -}}
{{- end }}

{{- /* The same Secrets as files, in pods that outlive a change: variables are set once, and the kubelet renews files. */}}
{{- define "kedge.secretsEnv" -}}
{{- if include "kedge.secrets" . | fromJsonArray }}
- {name: KEDGE_SECRETS, value: /var/run/secrets/kedge/env}
{{- end }}
{{- end }}

{{- define "kedge.secretsMount" -}}
{{- if include "kedge.secrets" . | fromJsonArray }}
- {name: kedge-secrets, mountPath: /var/run/secrets/kedge/env, readOnly: true}
{{- end }}
{{- end }}

{{- define "kedge.secretsVolume" -}}
{{- with include "kedge.secrets" . | fromJsonArray }}
- name: kedge-secrets
  projected:
    sources:
      {{- range . }}
      - secret: {name: {{ . | quote }}}
      {{- end }}
{{- end }}
{{- end }}

{{- define "kedge.env" -}}
{{- $set := include "kedge.pod" . | fromJson -}}
{{- range $name, $value := $set.env }}
- {name: {{ $name | quote }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | toJson }}}
{{- end }}
{{- end }}

{{- define "kedge.volumes" -}}
{{- range (include "kedge.pod" . | fromJson).volumes }}
- {{ toJson . }}
{{- end }}
{{- end }}

{{- define "kedge.volumeMounts" -}}
{{- range (include "kedge.pod" . | fromJson).volumeMounts }}
- {{ toJson . }}
{{- end }}
{{- end }}

{{- /* Name of a component's account. Call with (dict "root" $ "own" .Values.collector "what" "collector"). */}}
{{- define "kedge.account" -}}
{{- default (printf "%s-%s" (include "kedge.fullname" .root) .what) (include "kedge.pod" . | fromJson).serviceAccount.name -}}
{{- end }}

{{- /* A component's account, unless an existing one is named; "keep" and "secrets" for that of the slots. */}}
{{- define "kedge.accountObject" -}}
{{- $account := (include "kedge.pod" . | fromJson).serviceAccount -}}
{{- if not $account.name }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "kedge.account" . | quote }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "kedge.labelled" (dict "root" .root "labels" $account.labels) | nindent 4 }}
  {{- with merge (ternary (dict "helm.sh/resource-policy" "keep") dict (hasKey . "keep")) $account.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .secret }}
secrets: # KServe's storage initializer reads its credentials from the account
  - name: {{ . | quote }}
{{- end }}
{{- end }}
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
{{ regexReplaceAll "^abfss://([^@]+)@([^.]+)\\.dfs\\.core\\.windows\\.net" (trimSuffix "/" .Values.store.url) "https://${2}.blob.core.windows.net/${1}" }}/bundles
{{- else -}}
pvc://{{ include "kedge.storeClaim" . }}/bundles
{{- end -}}
{{- end }}

{{- define "kedge.collectorUrl" -}}
http://{{ include "kedge.fullname" . }}-collector.{{ .Release.Namespace }}.svc:{{ .Values.collector.port }}
{{- end }}

{{- /* Where releases go: the driver, the namespace, and what a first slot and a first route need. */}}
{{- define "kedge.platform" -}}
{{- $options := list -}}
{{- if .Values.route.enabled -}}
{{- with .Values.route -}}
{{- $options = list (printf "gateway=%s/%s" .gateway.namespace .gateway.name) -}}
{{- with .gateway.sectionName }}{{ $options = append $options (printf "section=%s" .) }}{{ end -}}
{{- $options = append $options (printf "domain=%s" .domain) -}}
{{- end -}}
{{- $hosts := list -}}
{{- range .Values.models }}{{ if .host }}{{ $hosts = append $hosts (printf "%s:%s" .policy.model.name .host) }}{{ end }}{{ end -}}
{{- with $hosts }}{{ $options = append $options (printf "host=%s" (join "," .)) }}{{ end -}}
{{- end -}}
{{- if not .Values.store.url }}{{ $options = append $options (printf "claim=%s" (include "kedge.storeClaim" .)) }}{{ end -}}
{{- if .Values.serving.enabled }}{{ $options = append $options (printf "slots=%s-slots" (include "kedge.fullname" .)) }}{{ end -}}
{{ ternary "knative" "gateway" (eq .Values.serving.deploymentMode "Knative") }}:{{ .Release.Namespace }}{{ with $options }}?{{ join "&" . }}{{ end }}
{{- end }}

{{- /* Whether people have a pod to type in: where something is released. */}}
{{- define "kedge.tools" -}}
{{- and .Values.tools.enabled .Values.serving.enabled (not (empty .Values.models)) -}}
{{- end }}

{{- /* What every command is told: check, first training, guard, batch and people's own alike. With "offline" in the root
       it asks Kubeflow Pipelines nothing and gets no token, with "tmp" it has so much space. */}}
{{- define "kedge.commandEnv" -}}
- {name: KEDGE_PLATFORM, value: {{ include "kedge.platform" . | toJson }}}
- {name: KEDGE_STORE, value: {{ include "kedge.store" . | toJson }}}
- {name: KEDGE_STEP_IMAGE, value: {{ include "kedge.image" (dict "root" . "image" .Values.images.step) | toJson }}}
- {name: KEDGE_RELEASE_ACCOUNT, value: {{ include "kedge.stepsAccount" . | toJson }}}
- {name: KEDGE_STEP_POD, value: {{ include "kedge.stepPod" . | toJson }}}
- {name: KEDGE_KFP_HOST, value: {{ .Values.kfp.host | toJson }}}
- {name: KEDGE_KFP_UI, value: {{ .Values.kfp.ui | toJson }}}
- name: KEDGE_ACTOR
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with .Values.registry.uri }}
- {name: MLFLOW_TRACKING_URI, value: {{ . | toJson }}}
{{- end }}
{{- with .Values.kfp.namespace }}
- {name: KEDGE_KFP_NAMESPACE, value: {{ . | toJson }}}
{{- end }}
{{- if and .Values.kfp.audience (not .offline) }}
- {name: KF_PIPELINES_SA_TOKEN_PATH, value: /var/run/secrets/kubeflow/pipelines/token}
{{- end }}
{{- end }}

{{- define "kedge.commandMounts" -}}
- {name: policies, mountPath: /etc/kedge/policies, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if and .Values.kfp.audience (not .offline) }}
- {name: kfp-token, mountPath: /var/run/secrets/kubeflow/pipelines, readOnly: true}
{{- end }}
{{- if not .Values.store.url }}
- {name: store, mountPath: /var/lib/kedge/store}
{{- end }}
{{- end }}

{{- define "kedge.commandVolumes" -}}
- name: policies
  configMap: {name: {{ include "kedge.fullname" . }}-policies}
- name: tmp
  emptyDir: {sizeLimit: {{ default "1Gi" .tmp }}}
{{- if and .Values.kfp.audience (not .offline) }}
- name: kfp-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ toJson .Values.kfp.audience }}, expirationSeconds: 7200}
{{- end }}
{{- if not .Values.store.url }}
- name: store
  persistentVolumeClaim: {claimName: {{ include "kedge.storeClaim" . | toJson }}}
{{- end }}
{{- end }}

{{- /* Whether a model scores tables: empty, or not. */}}
{{- define "kedge.scores" -}}
{{- range .Values.models }}{{ if .score }}yes{{ end }}{{ end -}}
{{- end }}

{{- /* Steps of Kubeflow Pipelines, in the namespaces whose accounts may release. */}}
{{- define "kedge.fromSteps" -}}
{{- $namespaces := list -}}
{{- if .Values.kfp.host }}{{ $namespaces = append $namespaces (include "kedge.stepsNamespace" .) }}{{ end -}}
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

{{- /* A network rule to an address: its namespace for a Service's name, its port for any other. */}}
{{- define "kedge.egressTo" -}}
{{- $url := urlParse . -}}
{{- $host := splitList "." (first (splitList ":" $url.host)) -}}
{{- if eq (len $host) 1 -}}
- to: [{podSelector: {}}]
{{- else if or (eq (len $host) 2) (eq (index $host 2) "svc") -}}
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ index $host 1 | quote }}}}}]
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
{{- range $model, $_ := $seen -}}
{{- range $slot := list "blue" "green" -}}
{{- $taken := printf "%s-%s" $model $slot -}}
{{- if hasKey $seen $taken }}{{ fail (printf "models: %q is also what the slot %s of %q is called; give one of them another name" $taken $slot $model) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if (urlParse .Values.registry.uri).userinfo | contains ":" }}{{ fail "registry.uri holds a password, which every reader of a CronJob would see: leave it out, and put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into the Secret that registry.secret names" }}{{ end -}}
{{- if and .Values.route.enabled (not .Values.serving.enabled) }}{{ fail "route.enabled: routes lead to slots, so set serving.enabled too" }}{{ end -}}
{{- end }}

{{- /* The names of the namespace's InferenceServices as JSON; empty where no cluster was asked (helm template, Argo CD):
       a list that a cluster answered has items, even none, also in a namespace that is not there yet. */}}
{{- define "kedge.inferenceServices" -}}
{{- if .Capabilities.APIVersions.Has "serving.kserve.io/v1beta1" -}}
{{- $answer := lookup "serving.kserve.io/v1beta1" "InferenceService" .Release.Namespace "" -}}
{{- if hasKey $answer "items" -}}
{{- $names := list -}}
{{- range $answer.items }}{{ $names = append $names .metadata.name }}{{ end -}}
{{- toJson $names -}}
{{- end -}}
{{- else if hasKey (lookup "v1" "ConfigMap" .Release.Namespace "") "items" -}}
{{- /* a cluster without KServe: there are none, and what it refuses names every kind that it lacks */ -}}
[]
{{- end -}}
{{- end }}

{{- /* What a slot's pods are, but for the bundle: a predictor of KServe as JSON. The chart's first slots are made of it,
       and the drivers', who read it from a ConfigMap. Knative refuses a pod's security context and grace period. */}}
{{- define "kedge.predictor" -}}
{{- $call := dict "root" . "own" .Values.serving "what" "slots" -}}
{{- $set := include "kedge.pod" $call | fromJson -}}
{{- $serving := .Values.serving -}}
{{- $most := max $serving.replicas $serving.maxReplicas -}}
{{- $predictor := dict "minReplicas" $serving.replicas "maxReplicas" $most "serviceAccountName" (include "kedge.account" $call) "automountServiceAccountToken" false -}}
{{- if and (gt $most (int $serving.replicas)) (ne $serving.deploymentMode "Knative") -}}
{{- $predictor = merge $predictor (dict "scaleMetric" "cpu" "scaleTarget" $serving.scaleTarget) -}}
{{- end -}}
{{- $names := list "labels" "annotations" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" "dnsConfig" "hostAliases" -}}
{{- if ne $serving.deploymentMode "Knative" }}{{ $names = concat $names (list "securityContext" "terminationGracePeriodSeconds") }}{{ end -}}
{{- range $name := $names }}{{ with get $set $name }}{{ $_ := set $predictor $name . }}{{ end }}{{ end -}}
{{- range .Values.images.pullSecrets -}}
{{- $_ := set $predictor "imagePullSecrets" (append (default list $predictor.imagePullSecrets) (dict "name" .)) -}}
{{- end -}}
{{- $_ := set $predictor "model" (dict "modelFormat" (dict "name" "kedge") "runtime" (include "kedge.fullname" .)) -}}
{{- toPrettyJson $predictor -}}
{{- end }}

{{- /* Rules of a network policy, as they were written: a port of 10250 stays one. */}}
{{- define "kedge.rules" -}}
{{- range . }}
- {{ toJson . }}
{{- end }}
{{- end }}

{{- /* What steps of runs take of a pod's settings, for kedge submit: Kubeflow Pipelines has no field for the others. What
       the image says by itself is left out, so that by default a pipeline is the one that kedge compile makes elsewhere. */}}
{{- define "kedge.stepPod" -}}
{{- $set := include "kedge.pod" (dict "root" . "own" .Values.steps) | fromJson -}}
{{- $step := dict -}}
{{- if ne .Values.images.pullPolicy "IfNotPresent" }}{{ $_ := set $step "imagePullPolicy" .Values.images.pullPolicy }}{{ end -}}
{{- with .Values.images.pullSecrets }}{{ $_ := set $step "imagePullSecrets" . }}{{ end -}}
{{- range $name := list "labels" "annotations" "nodeSelector" "tolerations" "affinity" "resources" -}}
{{- with get $set $name }}{{ $_ := set $step $name . }}{{ end -}}
{{- end -}}
{{- $env := dict -}}
{{- range $name, $value := $set.env }}{{ $_ := set $env $name (ternary $value (toJson $value) (kindIs "string" $value)) }}{{ end -}}
{{- $tokens := .Values.collector.tokens -}}
{{- $account := include "kedge.stepsAccount" . -}}
{{- if and .Values.collector.enabled $tokens.enabled $account }}{{ $_ := set $env "KEDGE_COLLECT_TOKEN_FOR" (printf "%s@%s" $account $tokens.audience) }}{{ end -}}
{{- with $env }}{{ $_ := set $step "env" . }}{{ end -}}
{{- $user := dict -}}
{{- range $name, $own := dict "runAsUser" "65532" "runAsGroup" "65532" "runAsNonRoot" "true" -}}
{{- if hasKey $set.securityContext $name }}{{ $given := get $set.securityContext $name }}{{ if ne (toJson $given) $own }}{{ $_ := set $user $name $given }}{{ end }}{{ end -}}
{{- end -}}
{{- with $user }}{{ $_ := set $step "securityContext" . }}{{ end -}}
{{- toJson $step -}}
{{- end }}

{{- /* The namespace of Kubeflow's runs: the profile, or that of Kubeflow's own API. */}}
{{- define "kedge.stepsNamespace" -}}
{{- $host := splitList "." (first (splitList ":" (urlParse .Values.kfp.host).host)) -}}
{{- $named := and (gt (len $host) 1) (eq (index (append $host "svc") 2) "svc") -}}
{{- default (ternary (index (append $host "") 1) .Release.Namespace $named) .Values.kfp.namespace -}}
{{- end }}

{{- /* NAMESPACE/NAME of the account that release steps run as; empty: Kubeflow's own. */}}
{{- define "kedge.stepsAccount" -}}
{{- if and .Values.release.steps.enabled .Values.serving.enabled .Values.models -}}
{{- $name := printf "%s-%s-steps" (include "kedge.fullname" .) .Release.Namespace | trunc 63 | trimSuffix "-" -}}
{{ include "kedge.stepsNamespace" . }}/{{ default $name .Values.release.steps.name }}
{{- end -}}
{{- end }}
