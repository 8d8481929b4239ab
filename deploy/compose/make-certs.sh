#!/bin/sh
# Certificates of the compose file's members, by an authority of their own; `farcast` must be on PATH.
set -eu
cd "$(dirname "$0")"
umask 022
farcast ca init --dir ca --cluster demo
for name in c1 c2; do
    farcast ca issue --dir ca --role control --name $name --out certs
done
for region in sin fra iad; do
    farcast ca issue --dir ca --role edge --region $region --node-id $region-1 --out certs
done
# The containers run as 10001, keys are for their owner: hand them over, or open them on this machine of yours.
chown 10001 certs/*.key 2>/dev/null || chmod 644 certs/*.key
