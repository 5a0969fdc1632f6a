#!/usr/bin/env bash
# Makes the project's virtual environment, or completes or updates it; a finished one is left as is.
#
#   bash tools/setup_env.sh [VENV]                     VENV's default: .venv in the checkout
#   bash tools/setup_env.sh --detectron2-only PYTHON   only the detectron2 wheel, for that interpreter
#
# $PYTHON names the interpreter to start from (default: python3), 3.10 or newer. If detectron2 can
# already be imported there (built by its INSTALL.md, in the active conda or virtual environment),
# VENV shows that environment's packages and gets only what they lack; else requirements/lock.txt
# and the wheel of requirements/detectron2.txt are installed. Interrupted, it goes on when run again.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REQ=$ROOT/requirements
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$1" >&2; printf '        %s\n' "${@:2}" >&2; exit 1; }

check_python() { # PYTHON: it must run and be new enough
    "$1" -c '' 2>/dev/null || die "there is no Python interpreter '$1' that runs." \
        "Install Python 3.10 or newer, or name one: PYTHON=/path/to/python3 bash tools/setup_env.sh"
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        die "Python 3.10 or newer is needed; $1 is $("$1" --version 2>&1)." \
            "Name a newer one: PYTHON=python3.11 bash tools/setup_env.sh"
}

site_packages() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }

has_modules() { # PYTHON MODULE...: are they installed? (Looked up, not imported, so it's quick.)
    "$1" - "${@:2}" <<'PY'
import importlib.util, sys
sys.path[:] = filter(None, sys.path)  # not the current folder
sys.exit(not all(importlib.util.find_spec(name) for name in sys.argv[1:]))
PY
}

borrowed_pth() { # PYTHON: a .pth file that shows its packages; fails if it has no working detectron2
    "$1" - <<'PY'
import sys
sys.path[:] = filter(None, sys.path)
from detectron2 import __version__
for path in sys.path:
    if path.endswith(("site-packages", "dist-packages")):
        print(f"import site; site.addsitedir({path!r})")
PY
}

digest() { # FILE...
    "$PY" - "$@" <<'PY'
import hashlib, pathlib, sys
print(hashlib.sha256(b"\0".join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])).hexdigest())
PY
}

install_detectron2_wheel() { # PYTHON: less the wheel's compiled part and its stray package 'tools'
    local site tmp
    site=$(site_packages "$1")
    tmp=$site/.incoming-detectron2
    say "installing the detectron2 wheel of requirements/detectron2.txt"
    rm -rf "$tmp" "$site/detectron2" "$site"/sal_detectron2-*.dist-info
    "$1" -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.10 --no-compile \
        --target "$tmp" --require-hashes -r "$REQ/detectron2.txt"
    rm -rf "$tmp"/detectron2/_C*.so "$tmp/tools"
    sed -i.orig -e '/^tools\//d' -e '/^detectron2\/_C[^/]*\.so,/d' "$tmp"/*.dist-info/RECORD
    rm "$tmp"/*.dist-info/RECORD.orig
    mv "$tmp/detectron2" "$tmp"/*.dist-info "$site/"
    rm -r "$tmp"
}

detectron2_only() { # PYTHON
    local site
    check_python "$1"
    if has_modules "$1" detectron2; then
        say "detectron2 is already installed for $1"
        return
    fi
    "$1" -m pip --version >/dev/null 2>&1 || die "$1 has no pip." "Add it: $1 -m ensurepip"
    site=$(site_packages "$1")
    "$1" -c 'import os, sys, sysconfig as s
managed = os.path.exists(os.path.join(s.get_path("stdlib"), "EXTERNALLY-MANAGED"))
sys.exit(managed and sys.prefix == sys.base_prefix or not os.access(sys.argv[1], os.W_OK))' "$site" ||
        die "the packages of $1 are the operating system's or can't be written ($site)." \
            "Use a virtual environment: bash tools/setup_env.sh makes one with all that is needed."
    install_detectron2_wheel "$1"
    say "detectron2 is installed for $1"
}

create_venv() {
    local pth
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || die "$PYTHON lacks the module venv or ensurepip." \
        "On Debian or Ubuntu: sudo apt-get install python3-venv. Or name another: PYTHON=/path/to/python3"
    say "creating $VENV with $("$PYTHON" --version), $(command -v "$PYTHON")"
    drop_partial_packages
    "$PYTHON" -m venv "$VENV"
    rm -f "$STATE/borrowed"
    if pth=$(borrowed_pth "$PYTHON" 2>"$STATE/detectron2.log"); then
        say "detectron2: using the one that $PYTHON has, with its torch"
        printf '%s\n' "$pth" >"$(site_packages "$PY")/borrowed.pth"
        touch "$STATE/borrowed"
    elif has_modules "$PYTHON" detectron2; then
        say "detectron2: not using the one that $PYTHON has: $(tail -n 1 "$STATE/detectron2.log")"
    fi
    mark_done created "$("$PYTHON" -c 'import sys; print(sys.prefix, sys.version)')"
}

check_venv() { # one from an earlier run: does it still work, and is it of the Python asked for?
    "$PY" -c '' 2>/dev/null || die "$VENV does not work any more (was its Python removed?)." \
        "Remove it and run this again: rm -rf $VENV"
    [[ $PYTHON_ASKED ]] || return 0
    "$PYTHON" - "$VENV" "$(<"$STATE/created")" <<'PY' || die "$VENV was made with another Python than $PYTHON." \
        "Remove it (rm -rf $VENV) or name another: make setup VENV=... or bash tools/setup_env.sh VENV"
import os, sys
itself = os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1])
sys.exit(not itself and f"{sys.prefix} {sys.version}" != sys.argv[2])
PY
}

# A step is done if its mark holds the wanted text; the mark goes before the step and comes after.
is_done() { [[ -f $STATE/$1 && $(<"$STATE/$1") == "$2" ]] || { rm -f "$STATE/$1" "$STATE/checked"; false; }; }
mark_done() { printf '%s\n' "$2" >"$STATE/$1.new"; mv "$STATE/$1.new" "$STATE/$1"; }

drop_partial_packages() { # an interrupted pip leaves packages without RECORD, which it writes last
    local info
    for info in "$VENV"/lib/python*/site-packages/*.dist-info; do
        [[ -e $info/RECORD || ! -e $info ]] || rm -r "$info"
    done
}

install_packages() {
    drop_partial_packages
    "$PY" -m pip --version >/dev/null 2>&1 || "$PY" -m ensurepip --upgrade
    # First pip and setuptools: setuptools builds the three packages that come as source.
    awk '/^[a-z]/ { keep = /^(pip|setuptools)==/ } keep' "$REQ/lock.txt" >"$STATE/builders.txt"
    "$PY" -m pip install --quiet --require-hashes --no-deps --only-binary=:all: -r "$STATE/builders.txt"
    [[ ! -e $STATE/borrowed ]] || return 0
    say "installing requirements/lock.txt: some minutes, about 6 GB with torch's CUDA libraries"
    "$PY" -m pip install --require-hashes --no-deps --no-build-isolation --only-binary=:all: \
        --no-binary=antlr4-python3-runtime,fvcore,iopath -r "$REQ/lock.txt"
}

install_project() {
    if [[ ! -e $STATE/borrowed ]]; then
        say "installing the project itself, editable"
        PYTHONWARNINGS=ignore "$PY" -m pip install --quiet --no-deps --no-build-isolation -e "$ROOT"
        return
    fi
    say "installing the project, editable, and what the existing environment lacks for it"
    "$PY" -m pip list --format=freeze | grep -E '^(numpy|torch|torchvision)==' >"$STATE/keep.txt"
    PYTHONWARNINGS=ignore "$PY" -m pip install --no-build-isolation -c "$STATE/keep.txt" -e "${ROOT}[app,dev,export]"
}

check_imports() {
    "$PY" - <<'PY' || die "the environment is incomplete (see above)." "Make it anew: rm -rf $VENV, then run this again."
import importlib.util, platform, sys
sys.path[:] = filter(None, sys.path)
import torch, torchvision, detectron2, unet_sharp_det
ops = "with" if importlib.util.find_spec("detectron2._C") else "without"
print(f"[setup] Python {platform.python_version()}, torch {torch.__version__}, torchvision "
      f"{torchvision.__version__}, detectron2 {detectron2.__version__} ({ops} compiled ops), "
      f"unet_sharp_det {unet_sharp_det.__version__}")
PY
}

setup_venv() { # VENV
    VENV=$1 PY=$1/bin/python STATE=$1/.setup PYTHON_ASKED=${PYTHON:-} PYTHON=${PYTHON:-python3}
    [[ -e $STATE/created && ! $PYTHON_ASKED ]] || check_python "$PYTHON"
    [[ ! -e $VENV || -e $VENV/pyvenv.cfg || -e $STATE || -z $(ls -A "$VENV") ]] ||
        die "$VENV is no virtual environment and not empty." "Name another: bash tools/setup_env.sh .venv"
    mkdir -p "$STATE"
    if command -v flock >/dev/null; then # one run at a time for one VENV
        exec 9>"$STATE/lock"
        flock -n 9 || { say "waiting for another setup of $VENV"; flock 9; }
    fi
    if [[ -e $STATE/created ]]; then check_venv; else create_venv; fi
    # What someone removed by hand is installed again.
    has_modules "$PY" torch torchvision detectron2 unet_sharp_det || rm -f "$STATE"/{packages,detectron2,project}

    local wanted
    wanted=$(digest "$REQ/lock.txt")
    is_done packages "$wanted" || { install_packages; mark_done packages "$wanted"; }
    if [[ ! -e $STATE/borrowed ]]; then
        wanted=$(digest "$REQ/detectron2.txt")
        is_done detectron2 "$wanted" || { install_detectron2_wheel "$PY"; mark_done detectron2 "$wanted"; }
    fi
    wanted="$ROOT $(digest "$ROOT/setup.py" "$ROOT/pyproject.toml")"
    is_done project "$wanted" || { install_project; mark_done project "$wanted"; }
    is_done checked yes || { check_imports; mark_done checked yes; }
    say "$VENV is ready"
}

case ${1:-} in
    --detectron2-only) detectron2_only "${2:?name the interpreter: --detectron2-only PYTHON}" ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" ;;
    -*) die "unknown option $1." "See: bash tools/setup_env.sh --help" ;;
    *) setup_venv "${1:-$ROOT/.venv}" ;;
esac
