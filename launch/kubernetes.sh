#!/usr/bin/env bash
# Train on Kubernetes: an indexed Job, one pod a node, every pod with the GPUs of its node, found by a headless Service.
#
#   launch/kubernetes.sh [options] --image I --claim C -- --config F.py --workdir D [--config.KEY=VALUE ...]
#
#   --image I       made with launch/Dockerfile and pushed where the cluster finds it
#   --claim C       a PersistentVolumeClaim that all pods may write (ReadWriteMany), mounted on /data: work folder, data
#   --name N        of the Job and of the Service (default: driqa)
#   --nodes N       pods (default: 2)
#   --gpus N        GPUs of a pod (default: 8); 0: none asked for
#   --dry-run       print the manifest, apply nothing
#
# launch/kubernetes.yaml is what this prints for the command in its first lines. A pod that is evicted or preempted has
# SIGTERM and two minutes to save; the Job makes it anew, and what ended with it, and the training goes on. A command that
# driqa train refuses (code 2) is not tried again. This was parsed, never run on a cluster.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dry_run.sh"

name=driqa nodes=2 gpus=8 image='' claim=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --image | --claim | --name | --nodes | --gpus)
      [ $# -gt 1 ] || refuse "$1 lacks its value"
      case $1 in --image) image=$2 ;; --claim) claim=$2 ;; --name) name=$2 ;; --nodes) nodes=$2 ;; --gpus) gpus=$2 ;; esac
      shift
      ;;
    --help | -h) help_text; exit 0 ;;
    *) refuse "$1: no such option; the training's own come after --" ;;
  esac
  shift
done
[ -n "$image" ] || refuse "--image is missing"
[ -n "$claim" ] || refuse "--claim is missing"
case $nodes$gpus in *[!0-9]*) refuse "--nodes $nodes --gpus $gpus: not numbers" ;; esac
[ $# -gt 1 ] || refuse "after -- come the arguments of driqa train: --config F.py --workdir D"
shift

# A word as a YAML string; $( ) is Kubernetes' own, and $$( ) stands for it.
string() {
  local word=${1//\\/\\\\}
  word=${word//\"/\\\"}
  printf '"%s"' "${word//\$(/\$\$(}"
}

manifest() {
  cat <<END
apiVersion: v1
kind: Service
metadata:
  name: $name
spec:
  clusterIP: None # headless: each pod by its name
  publishNotReadyAddresses: true # pods look for each other before they are ready
  selector:
    batch.kubernetes.io/job-name: $name
---
apiVersion: batch/v1
kind: Job
metadata:
  name: $name
spec:
  completionMode: Indexed
  completions: $nodes
  parallelism: $nodes
  backoffLimit: 20 # pods that end because another was lost count, those that are evicted do not
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
      - action: Ignore
        onExitCodes:
          containerName: train
          operator: In
          values: [143]
      - action: FailJob
        onExitCodes:
          containerName: train
          operator: In
          values: [2]
  template:
    spec:
      subdomain: $name
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: train
          image: $(string "$image")
          args:
            - train
END
  local word
  for word; do printf '            - %s\n' "$(string "$word")"; done
  cat <<END
            - --distributed
            - $name-0.$name:8476,$nodes,\$(JOB_COMPLETION_INDEX)
END
  if [ "$gpus" != 0 ]; then
    cat <<END
          resources:
            limits:
              nvidia.com/gpu: $gpus
END
  fi
  cat <<END
          volumeMounts:
            - name: data
              mountPath: /data
            - name: shm
              mountPath: /dev/shm
      volumes:
        - name: data
          persistentVolumeClaim:
            claimName: $(string "$claim")
        - name: shm # NCCL between the GPUs of a pod wants more than the usual 64 MiB
          emptyDir:
            medium: Memory
            sizeLimit: 8Gi
END
}

if [ "$dry_run" = 1 ]; then
  manifest "$@"
else
  manifest "$@" | kubectl apply -f -
fi
