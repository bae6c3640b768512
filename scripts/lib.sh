# shellcheck shell=bash
# lib.sh - what the scripts share: where things are, installing what is missing, building. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where the build goes, and which binaries the scripts use. A sanitizer build is used by naming its directory here.
build=${QUIRE_BUILD_DIR:-$root/.build}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# shellcheck disable=SC2034 # used by the scripts that source this
run_packages=(libfcgi0ldbl libnghttp2-14 libjson-c5 libarchive13 libssl3 libcurl4 libutf8proc2 libstemmer0d libroaring0 libxml2 nginx-light openssl curl jq zstd)
build_packages=(gcc libc6-dev make autoconf automake pkg-config libfcgi-dev libnghttp2-dev libjson-c-dev libarchive-dev libssl-dev libcurl4-openssl-dev
    libutf8proc-dev libstemmer-dev libroaring-dev libxml2-dev)

# as_root COMMAND...: as it is for root, through sudo otherwise.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "these need root or sudo: $*"
    fi
}

# need_packages NAME...: installs those that are missing, says so, and changes nothing when all are there.
need_packages() {
    local missing=() p
    for p in "$@"; do
        if ! dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed'; then
            # An nginx of any flavour will do, and a node and npm from anywhere.
            case $p in
            nginx-light) if command -v nginx >/dev/null; then continue; fi ;;
            nodejs) if command -v node >/dev/null; then continue; fi ;;
            npm) if command -v npm >/dev/null; then continue; fi ;;
            esac
            missing+=("$p")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing Debian packages: ${missing[*]}"
    local had_nginx=yes
    command -v nginx >/dev/null || had_nginx=no
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        as_root apt-get update -q >/dev/null || die "apt-get update failed"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
            die "could not install: ${missing[*]}"
    fi
    # Debian starts a web server on port 80 when nginx is installed; Quire's instances run their own.
    if [ "$had_nginx" = no ] && command -v nginx >/dev/null && [ -d /run/systemd/system ]; then
        as_root systemctl disable --now nginx >/dev/null 2>&1 || say "note: Debian's own nginx service was left running on port 80"
    fi
}

# need_promtool: prints the path of promtool, beside which prometheus lies. Where it is not installed it is taken out of Debian's package: to install that
# would start a Prometheus as a service, on port 9090, in a machine that only runs tests.
need_promtool() {
    local tools=$root/.build/tools
    if command -v promtool; then return 0; fi
    if [ ! -x "$tools/usr/bin/promtool" ]; then
        say "unpacking promtool from Debian's package prometheus"
        mkdir -p "$tools"
        (cd "$tools" && { apt-get download -q prometheus >/dev/null 2>&1 || { as_root apt-get update -q >/dev/null && apt-get download -q prometheus >/dev/null; }; } &&
            dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb) || die "promtool cannot be had: apt-get download prometheus fails"
    fi
    printf '%s\n' "$tools/usr/bin/promtool"
}

# PATH for nginx, which lies in /usr/sbin.
PATH=$PATH:/usr/sbin:/sbin

# configure_and_make DIR [configure switches]: builds in DIR unless everything there is newer than the sources.
configure_and_make() {
    local dir=$1
    shift
    mkdir -p "$dir"
    (
        flock 9
        if [ ! -x "$root/configure" ] || [ "$root/configure.ac" -nt "$root/configure" ] || [ "$root/Makefile.am" -nt "$root/Makefile.in" ]; then
            say "preparing the build (autoreconf)"
            (cd "$root" && flock "$root/.git" autoreconf -fi >"$dir/autoreconf.log" 2>&1) || {
                cat "$dir/autoreconf.log" >&2
                exit 1
            }
        fi
        cd "$dir"
        if [ ! -f Makefile ] || [ "$root/configure" -nt Makefile ] || [ "$*" != "$(cat switches 2>/dev/null)" ]; then
            say "configuring in $dir"
            "$root/configure" -q "$@" >configure.log 2>&1 || {
                cat configure.log >&2
                exit 1
            }
            # Else make takes config.h, which configure leaves alone when it says the same, for older than its stamp for ever.
            touch config.h
            printf '%s' "$*" >switches
        fi
        if ! make -q src/quired src/quire >/dev/null 2>&1; then
            say "building in $dir"
            make -s -j"$(nproc)" src/quired src/quire >make.log 2>&1 || {
                tail -n 60 make.log >&2
                exit 1
            }
        fi
    ) 9>"$dir/lock" || die "the build failed"
}

build_if_needed() {
    if [ -n "${QUIRE_BUILD_DIR:-}" ]; then
        [ -x "$build/src/quired" ] || die "QUIRE_BUILD_DIR=$build has no src/quired"
        return
    fi
    need_packages "${build_packages[@]}"
    configure_and_make "$build" --prefix=/usr --sysconfdir=/etc --localstatedir=/var
}
