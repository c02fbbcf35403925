#!/bin/sh
# Makes what the services must share and nobody else may know, once: each clone has passwords of its own.
set -eu
umask 022
cd /secrets
[ -s redis-password ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >redis-password
cat >users.acl <<ACL
user default off
user sidecar on >$(cat redis-password) ~sidecar:* &* -@all +@read +@write +@connection +@scripting +@transaction +info +config|get +role +time +client|tracking
ACL
