#!/usr/bin/env bash
# Prints manifests/install.yaml: the chart with its defaults, for `kubectl apply -f`. make manifest writes it.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

NAMESPACE=vncpassword-system

cd "$REPO"
cat <<YAML
# vncpassword-operator, whole: kubectl apply -f install.yaml. Written by make manifest from the chart; settings are easier there.
apiVersion: v1
kind: Namespace
metadata:
  name: $NAMESPACE
  labels:
    pod-security.kubernetes.io/enforce: restricted
YAML
# Nothing in it is Helm's.
hack/helm.sh template vncpassword-operator charts/vncpassword-operator --namespace "$NAMESPACE" --skip-tests |
  sed -e '/app.kubernetes.io\/managed-by: Helm/d' -e '/helm.sh\//d' -e '/^ *annotations:$/{N;/\n *helm.sh/d}' -e '/^# Source:/d'
