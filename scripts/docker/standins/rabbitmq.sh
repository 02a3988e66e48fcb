#!/bin/bash
# Entry point of the RabbitMQ stand-in: RABBITMQ_DEFAULT_USER and _PASS, the
# management plugin, data in /var/lib/rabbitmq.
set -euo pipefail
cat >/etc/rabbitmq/rabbitmq.conf <<CONF
default_user = ${RABBITMQ_DEFAULT_USER:-guest}
default_pass = ${RABBITMQ_DEFAULT_PASS:-guest}
loopback_users = none
log.console = true
CONF
echo '[rabbitmq_management].' >/etc/rabbitmq/enabled_plugins
mkdir -p /var/lib/rabbitmq
chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /etc/rabbitmq
# Erlang's schedulers do not spin when they have nothing to do.
export RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD=none
# The script becomes the broker, so that it is the broker that gets the signals.
export RUNNING_UNDER_SYSTEMD=true
unset RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS
exec setpriv --reuid rabbitmq --regid rabbitmq --init-groups /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server
