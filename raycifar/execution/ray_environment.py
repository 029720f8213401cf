"""What Ray reads from the environment when it is imported, and in the processes that it starts: import this first."""

import os

_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # reports are polled this often; 2 s would hold up short epochs
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # or the dashboard's Train page stays empty
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own makes Ctrl-C look like success
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a thread's question, as Ray is shut down, starts another one
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # a driver waits so long for its last trial's end, which comes at once
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # its TensorBoard's tags and steps; the others are named by us
    "PL_DISABLE_FORK": "1",  # as Tune sets it for a driver
    # A trial has several processes that hardly compute; Ray warns at thrice this number, by default the CPUs'.
    "RAY_worker_maximum_startup_concurrency": str(max(16, os.cpu_count() or 1)),
}
# Threads that spin for each other starve the trials beside them, and to wake one that sleeps takes as long as a small
# layer. So they spin for some microseconds: the second variable is GNU's runtime's, which heeds it before the first.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
for _key, _value in (_ENVIRONMENT | ({} if _WAITING.keys() & os.environ else _WAITING)).items():
    os.environ.setdefault(_key, _value)
