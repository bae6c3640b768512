#!/usr/bin/env bash
# make install DESTDIR=: what goes where; an installed configuration is never overwritten; the unit is sound.
#   tests/install/install.sh BUILD_DIRECTORY
set -euo pipefail
build=$1
to=$(mktemp -d "${TMPDIR:-/tmp}/quire-install.XXXXXX")
trap 'rm -rf "$to"' EXIT
prefix=$(sed -n 's/^prefix = //p' "$build/Makefile")
sysconfdir=$(make -s -C "$build" print-sysconfdir)

make -s -C "$build" install DESTDIR="$to"
test -x "$to$prefix/sbin/quired"
test -x "$to$prefix/bin/quire"
test -f "$to$sysconfdir/quire/quire.conf"
test -f "$to$sysconfdir/quire/nginx/quire.conf"
"$to$prefix/sbin/quired" --version | grep -q quire
test -s "$to$prefix/share/quire/models/static-en.quire"
for page in "$(dirname "$0")"/../../web/dist/*; do cmp "$page" "$to$prefix/share/quire/web/${page##*/}"; done
test -s "$to$prefix/share/bash-completion/completions/quire"
for page in man1/quire.1 man5/quire.conf.5 man8/quired.8; do
    test -s "$to$prefix/share/man/$page"
    if grep -n '@[A-Za-z_]*@' "$to$prefix/share/man/$page"; then exit 1; fi
done

cp "$to$sysconfdir/quire/nginx/quire.conf" "$to/site"
grep -qF "root \"$prefix/share/quire/web\";" "$to/site"
if grep -n '@[A-Z_]*@' "$to/site"; then exit 1; fi
echo "# mine" >"$to$sysconfdir/quire/quire.conf"
echo "# mine" >"$to$sysconfdir/quire/nginx/quire.conf"
make -s -C "$build" install DESTDIR="$to"
grep -qx "# mine" "$to$sysconfdir/quire/quire.conf"
grep -qx "# mine" "$to$sysconfdir/quire/nginx/quire.conf"

unit=$(find "$to" -name quired.service)
if grep -n '@[a-z_]*@' "$unit"; then exit 1; fi
backup=$(find "$to" -name quire-backup.service)
if grep -n '@[a-z_]*@' "$backup"; then exit 1; fi
socket=$(find "$to" -name quired.socket)
if grep -n '@[a-z_]*@' "$socket"; then exit 1; fi
# What systemd listens on is what the installed site speaks to.
sed -n 's/^ListenStream=//p' "$socket" | sort >"$to/held"
sed -n 's/^ *server unix:\([^ ]*\) .*/\1/p' "$to/site" | sort -u | cmp - "$to/held"
for unit in "$unit" "$backup"; do
    score=$(systemd-analyze security --offline=yes "$unit" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
    echo "systemd-analyze security of ${unit##*/}: $score"
    awk -v score="$score" 'BEGIN {exit !(score != "" && score < 2.0)}'
done

make -s -C "$build" uninstall DESTDIR="$to"
test ! -e "$to$prefix/sbin/quired"
test ! -e "$to$prefix/share/quire/models/static-en.quire"
test ! -e "$to$prefix/share/quire/web/index.html"
test -f "$to$sysconfdir/quire/quire.conf"
echo "installed, kept, removed as it should"
