#!/bin/sh
# Creates the secrets that the services share, once: each clone has passwords of its own.
set -eu
umask 022
cd /secrets
[ -s redis-password ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >redis-password
# The least rights of docs/reference/redis.md, and those that `sidecar check --connect` needs as well.
cat >users.acl <<ACL
user default off
user sidecar on >$(cat redis-password) ~sidecar:* -@all +get +mget +set +del +pttl +pexpire +scan +eval +incrby +hget +hset +hdel +hlen +hscan +hmget +zadd +zrem +zremrangebyscore +zremrangebyrank +zrevrangebyscore +client|tracking +select +info +config|get +time
ACL
