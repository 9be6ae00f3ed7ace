# Sets up .venv for the scripts of this folder: `. bootstrap/environment.sh; prepare [--dev]`, from the top of the checkout.
# .tools/ contains pipenv in its own environment, since Debian refuses `pip install --user`; .venv/ the packages of Pipfile.lock.
# Does nothing if .venv/ is up to date.

export PIPENV_VENV_IN_PROJECT=1 PIPENV_IGNORE_VIRTUALENVS=1 PIPENV_DONT_LOAD_ENV=1 PIPENV_NOSPIN=1 PIPENV_VERBOSITY=-1
export PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONHOME

pipenv_version=2026.10.3

fail() {
    echo "bootstrap: $1" >&2
    exit 69
}

# Runs each candidate, since pyenv puts a python3.12 on PATH that fails unless 3.12 is enabled. P2P_PYTHON names the only
# candidate.
find_python() {
    fitting=
    for candidate in ${P2P_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        fitting=${fitting:-$candidate}
        "$candidate" -c 'import ensurepip, sqlite3, ssl, venv' >/dev/null 2>&1 || continue
        python=$candidate
        return
    done
    [ -n "$fitting" ] || fail "Python 3.11 or newer is needed: https://www.python.org/downloads/"
    version=$("$fitting" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "Python $version has no venv module; on Debian and Ubuntu: sudo apt install python$version-venv"
}

# Runs a command and prints its output only if it fails.
quietly() {
    "$@" >.tools/setup.log 2>&1 || {
        cat .tools/setup.log >&2
        fail "command failed: $*"
    }
}

# True if .venv/ is up to date. An environment with the development packages is also enough for running.
ready() {
    [ -x .venv/bin/python ] || return 1
    cmp -s Pipfile.lock .venv/synced-dev || { [ -z "$kind" ] && cmp -s Pipfile.lock .venv/synced; }
}

prepare() {
    kind=${1:-}
    if ready; then return; fi
    find_python
    mkdir -p .tools
    if command -v flock >/dev/null 2>&1; then  # two scripts may start at the same time
        exec 9>.tools/lock
        flock 9
        if ready; then exec 9>&-; return; fi
    fi
    echo "Setting up .venv (first run only, 1-2 minutes)..." >&2
    if ! .tools/bin/pipenv --version 2>/dev/null | grep -q "$pipenv_version"; then
        quietly "$python" -m venv .tools
        quietly .tools/bin/python -m pip install --quiet "pipenv==$pipenv_version"
    fi
    .venv/bin/python -c '' >/dev/null 2>&1 || rm -rf .venv
    quietly .tools/bin/pipenv --python "$python" sync $kind
    cp Pipfile.lock ".venv/synced${kind#-}"
    exec 9>&-
}
