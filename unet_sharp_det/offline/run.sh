#!/usr/bin/env bash
# Runs an experiment on this machine, without network. The first run unpacks what the machine lacks.
#
#   bash run.sh EXPERIMENT [--minutes N] [--jobs N] ...   the arguments of tools/run_experiments.py
#
# EXPERIMENT is a name of project/configs/experiments or a path of a YAML file. The same command
# again goes on where it was.
#   PYTHON         the interpreter (default: python3)
#   OUT            where the runs go, in a folder named as EXPERIMENT (default: output, here)
#   BUNDLE_STATE   where things are unpacked (default: unpacked, beside this script)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
STATE=${BUNDLE_STATE:-$HERE/unpacked}

if [[ $# -eq 0 || $1 == -h || $1 == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    exit $(($# == 0 ? 2 : 0))
fi
EXPERIMENT=$1
NAME=$(basename "$EXPERIMENT" .yaml)
[[ -f $EXPERIMENT || $EXPERIMENT == */* ]] || EXPERIMENT=$HERE/project/configs/experiments/$NAME.yaml
[[ -f $EXPERIMENT ]] || {
    echo "error: there is no experiment '$1'. Give the path of a YAML file, or one of:" \
        "$(cd "$HERE/project/configs/experiments" 2>/dev/null && ls -- *.yaml | sed 's/\.yaml$//' | xargs)" >&2
    exit 2
}
"$PYTHON" -c '' 2>/dev/null || {
    echo "error: there is no Python interpreter '$PYTHON' that runs. Name one: PYTHON=/path/to/python3" >&2
    exit 2
}
export PIP_NO_INDEX=1 HF_HUB_OFFLINE=1
"$PYTHON" "$HERE/project/unet_sharp_det/offline/prepare_host.py" "$HERE" "$STATE"

STATE=$(cd "$STATE" && pwd)
export DETECTRON2_DATASETS=$STATE/data
export PYTHONPATH=$HERE/project:$STATE/site${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" "$HERE/project/tools/run_experiments.py" "$EXPERIMENT" \
    --folder "${OUT:-output}/$NAME" "${@:2}"
