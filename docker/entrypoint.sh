#!/bin/sh
# A command (bash, sh, samedge ...) runs as it is; anything else is what to predict: `/inputs /outputs`, options first.
set -eu
case "$1" in
    /bin/* | /sbin/* | /usr/bin/* | /usr/sbin/* | /usr/local/bin/* | /opt/*/bin/*) exec "$@" ;;
    -* | */*) exec samedge predict "$@" ;; # a file of a mounted folder is no program, whatever its mode
esac
if [ ! -d "$1" ] && command -v "$1" >/dev/null; then
    exec "$@"
fi
exec samedge predict "$@"
