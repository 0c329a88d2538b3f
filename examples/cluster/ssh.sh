#!/bin/bash
# Training on several machines by ssh, one worker on each: the first is the chief.
#
#   examples/cluster/ssh.sh input.yml host1 host2
#
# The folder of the project, its environment, the data and log_dir must be the same on all.
settings=$1
shift
hosts=("$@")
port=${SR_PORT:-22222}
# A host may have a port of its own, host1:22223.
for index in "${!hosts[@]}"; do
    [[ ${hosts[index]} == *:* ]] || hosts[index]+=":$port"
done
workers=$(printf '"%s",' "${hosts[@]}")

pids=()
for index in "${!hosts[@]}"; do
    config="{\"cluster\": {\"worker\": [${workers%,}]}, \"task\": {\"type\": \"worker\", \"index\": $index}}"
    # -tt: Ctrl-C, or the end of this script, reaches the worker too.
    ${SR_REMOTE:-ssh -tt} "${hosts[index]%:*}" "cd $(printf %q "$PWD") && TF_CONFIG=$(printf %q "$config") \
        ${SR_PYTHON:-python} main.py $(printf %q "$settings") train --distribution multi_worker --resume" \
        > "worker_$index.log" 2>&1 &
    pids+=($!)
done

# The workers stop by themselves when one is lost.
code=0
for pid in "${pids[@]}"; do
    wait "$pid" || code=$?
done
tail -n 2 worker_0.log
exit "$code"
