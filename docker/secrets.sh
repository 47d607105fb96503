#!/bin/sh
# Copies an example of environment variables and gives every variable without a value a random secret:
#   docker/secrets.sh .env.example .env
# The copy can be read by its owner only. A file that exists is not changed.
set -eu
example=$1 target=$2
if [ -e "$target" ]; then
  echo "$target exists: delete or edit it." >&2
  exit 1
fi
umask 077
while IFS= read -r line; do
  case $line in
    \#*) printf '%s\n' "$line" ;;
    *=) printf '%s%s\n' "$line" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <"$example" >"$target"
