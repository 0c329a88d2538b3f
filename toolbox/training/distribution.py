"""Training on several devices and machines, with the figures of one.

`toolbox.model.build.build_network` builds a network in the scope of a strategy of TensorFlow. A
device with its copy of the network is a *replica*, a process is a *worker*. Each training step
cuts the batch of a single device into equal parts, one for each replica. What would differ from a
single device is reduced over all replicas inside the step: gradients before they are clipped,
batch statistics, means over the batch, figures. So all copies of all variables stay equal, and
whoever reads one reads its own copy: no reading needs the other workers. Worker 0, the chief,
writes all files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from toolbox.data_generator import BatchStream
from toolbox.errors import ConfigError, ToolboxError

Kind = Literal["none", "mirrored", "multi_worker"]
#: Environment variable: how many logical devices a CPU is divided into for ``mirrored``.
CPU_DEVICES = "SR_CPU_DEVICES"
#: Environment variable: the command line, without ``--resume``, that started all workers.
COMMAND = "SR_LAUNCH_COMMAND"
#: Seconds that workers wait for each other at the start, and without a sign of life later.
_JOIN_S, _SILENCE_S = 600, 30
#: Far apart, so that the random numbers of two replicas have nothing in common.
_SEED_STEP = 40503


class WorkerLostError(ToolboxError):
    """Another worker has stopped, so that training cannot continue."""


class Cluster(NamedTuple):
    """What TF_CONFIG says.

    Attributes
    ----------
    addresses : list of str
        ``host:port`` of every worker, the chief first.
    worker : int
        Which of them this process is.
    """

    addresses: list[str]
    worker: int


def read_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Return the workers that the variable TF_CONFIG names; None if it is not set.

    Raises
    ------
    ConfigError
        If it cannot be understood, or names processes that are no workers.
    """
    text = (os.environ if environment is None else environment).get("TF_CONFIG", "")
    if not text.strip():
        return None
    example = (
        '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
        '"index": 0}}'
    )
    try:
        content = json.loads(text)
        jobs, task = content.get("cluster") or {}, content.get("task") or {}
        if any(isinstance(jobs.get(job), str) for job in ("chief", "worker")):
            raise TypeError("a text instead of a list")
        addresses = [str(a) for job in ("chief", "worker") for a in jobs.get(job, ())]
        index = int(task.get("index", 0))
        if task.get("type", "worker") == "worker":
            index += len(jobs.get("chief", ()))
        foreign = sorted({*jobs, task.get("type", "worker")} - {"chief", "worker"})
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            f"TF_CONFIG must be JSON such as {example}; received {text!r}. Correct it, or unset it "
            f"to train on one machine."
        ) from None
    if not jobs:
        return None
    if foreign or not 0 <= index < len(addresses):
        what = f"{', '.join(foreign)} among them" if foreign else f"index {index}"
        raise ConfigError(
            f"TF_CONFIG must name workers alone and which of them this is, such as {example}; "
            f"received {len(addresses)} workers, {what}. Correct it."
        )
    return Cluster(addresses, index)


class Distribution:
    """How a training run is spread over devices and workers.

    Parameters
    ----------
    strategy : tf.distribute.Strategy, optional
        None for a single device.
    cluster : Cluster, optional
        None for a single worker.

    Attributes
    ----------
    replicas : int
        Devices of all workers.
    local : int
        Devices of this worker.
    first : int
        Number of the first of them.
    worker, workers : int
        Number of this worker, and how many there are.
    asked : bool
        Whether this worker was asked to stop.
    stopping : bool
        Whether any worker was asked to stop when the last step was made: the same on all.
    """

    def __init__(self, strategy: Any = None, cluster: Cluster | None = None) -> None:
        self.strategy = strategy
        self.cluster = cluster
        self.workers = len(cluster.addresses) if cluster else 1
        self.worker = cluster.worker if cluster else 0
        self.replicas = int(strategy.num_replicas_in_sync) if strategy else 1
        self.local = self.replicas // self.workers
        self.first = self.worker * self.local
        self.asked = self.stopping = False

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the files."""
        return self.worker == 0

    @property
    def described(self) -> str:
        """How many replicas there are, and where."""
        if self.workers == 1:
            return f"{self.replicas} devices"
        each = "1 device" if self.local == 1 else f"{self.local} devices"
        return f"{self.workers} workers of {each}"

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Let variables be made on every replica."""
        if self.strategy is None:
            yield
            return
        with self.strategy.scope(), tf.variable_creator_scope(_own_copies):
            yield

    def adopt(self, network: Any) -> None:
        """Prepare a network that was built in `scope` for training."""
        network.distribution = self
        if self.strategy is None:
            return
        for layer in network._flatten_layers():
            if isinstance(layer, keras.Model):
                # Keras would distribute data and reduce figures itself; see `replicated`.
                layer._distribute_strategy = None
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        self.spread_seeds(network)

    def spread_seeds(self, network: Any) -> None:
        """Let every replica draw numbers of its own, of which those of the first are as alone."""
        if self.strategy is None:
            return
        for variable in network.variables:
            if variable.name == "seed_generator_state":
                for i, own in enumerate(variable.value.values):
                    own.assign_add(tf.cast([(self.first + i) * _SEED_STEP, 0], own.dtype))

    # Data ---------------------------------------------------------------------------------------

    def refuse_batch_size(self, where: str, batch_size: int) -> None:
        """Refuse a batch that cannot be cut into equal parts."""
        if batch_size % self.replicas:
            better = -(-batch_size // self.replicas) * self.replicas
            raise ConfigError(
                f"{where}: batch_size must be divisible by the number of replicas, "
                f"{self.replicas} ({self.described}); received {batch_size}. Use {better}."
            )

    def training_dataset(self, batches: Any, start: int = 0) -> Any:
        """Return the endless training batches from number `start`, of several replicas the parts.

        Returns
        -------
        tf.data.Dataset
            Of (inputs, targets), with several replicas shaped (local, examples, ...).
        """
        if self.strategy is None:
            return batches.training_dataset(start)
        stream = _stream(batches)
        part = stream.batch_size // self.replicas

        def own(number: int) -> Any:
            return tf.nest.map_structure(self._cut(part), stream.batch(number))

        return (
            tf.data.Dataset.counter(start)
            .map(
                lambda number: stream.from_numpy(own, number, self.local, part),
                num_parallel_calls=2,
                deterministic=True,
            )
            .prefetch(tf.data.AUTOTUNE)
        )

    def evaluation_dataset(self, batches: Any) -> Any:
        """Return every example once.

        Returns
        -------
        tf.data.Dataset
            Of (inputs, targets), with several replicas of (inputs, targets, counted). A short last
            batch is seen whole by all replicas, and counted by the first: its means are those of a
            single device, and no replica is left without an example.
        """
        if self.strategy is None:
            return batches.evaluation_dataset()
        stream = _stream(batches)
        size, number = stream.batch_size, stream.num_evaluated()
        replicas = tf.range(self.first, self.first + self.local)

        def own(start: int) -> Any:
            cut = self._cut(size // self.replicas) if start + size <= number else self._repeated
            return tf.nest.map_structure(cut, stream.evaluation_batch(start))

        def counted(start: Any) -> Any:
            x, y = stream.from_numpy(own, start, self.local, None)
            return x, y, (start + size <= number) | (replicas == 0)

        starts = tf.data.Dataset.range(0, number, size)
        return starts.map(counted, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)

    def _cut(self, part: int) -> Callable[[np.ndarray], np.ndarray]:
        first, last = self.first * part, (self.first + self.local) * part

        def cut(array: np.ndarray) -> np.ndarray:
            return array[first:last].reshape(self.local, part, *array.shape[1:])

        return cut

    def _repeated(self, array: np.ndarray) -> np.ndarray:
        return np.repeat(array[None], self.local, axis=0)

    # Steps --------------------------------------------------------------------------------------

    def replicated(self, model: Any, step: Callable[[Any], Any], endless: bool) -> Any:
        """Return what ``fit`` and ``evaluate`` call: some steps of every replica.

        Parameters
        ----------
        model : SRModel
            The model.
        step : callable
            Its ``train_step`` or ``test_step``.
        endless : bool
            Whether the data have no end.

        Returns
        -------
        callable
            From an iterator to the figures of the epoch so far: the same on all workers.
        """

        def one(data: Any, asked: tf.Tensor) -> tf.Tensor:
            found = self.strategy.run(self._replica_step, (model, step, data, asked))
            return self.strategy.experimental_local_results(found)[0]

        def several(iterator: Any, asked: tf.Tensor) -> Any:
            def body(i: tf.Tensor, stop: tf.Tensor) -> Any:
                if endless:
                    return i + 1, stop + one(next(iterator), asked)
                following = iterator.get_next_as_optional()
                found = tf.cond(
                    following.has_value(),
                    lambda: one(following.get_value(), asked),
                    lambda: tf.constant(0.0),
                )
                return i + 1, stop + found

            count = model.steps_per_execution
            start = tf.constant(0), tf.constant(0.0)
            with self.strategy.scope():
                _, stop = (
                    body(*start)
                    if count == 1
                    else tf.while_loop(lambda i, _: i < count, body, start)
                )
                return model.get_metrics_result(), stop

        compiled = tf.function(several, autograph=False, reduce_retracing=True)

        def function(iterator: Any) -> Any:
            logs, stop = compiled(iterator, tf.constant(float(self.asked)))
            if self.workers > 1:
                self.stopping = bool(stop > 0)
            return logs

        return function

    def _replica_step(self, model: Any, step: Any, data: Any, asked: tf.Tensor) -> tf.Tensor:
        """Do a step of one replica, and add up the figures of all; return who wants to stop."""
        own = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        with tf.device("CPU:0"):
            x, y, *counted = tf.nest.map_structure(lambda part: part[own - self.first], data)
        variables = model.metrics_variables
        before = [tf.identity(variable.value) for variable in variables]
        for variable in variables:
            variable.assign(tf.zeros_like(variable.value))
        step((x, y))
        found = [tf.identity(variable.value) for variable in variables]
        if counted:
            found = [tf.where(counted[0], value, tf.zeros_like(value)) for value in found]
        # One vector: a message for each scalar would take longer than a small network's step.
        vector = tf.concat([[asked], *(tf.reshape(value, [-1]) for value in found)], axis=0)
        sums = tf.split(total(vector), [1, *(value.shape.num_elements() for value in found)])
        for variable, former, added in zip(variables, before, sums[1:], strict=True):
            variable.assign(former + tf.reshape(added, former.shape))
        return sums[0][0]

    # Agreement of workers -----------------------------------------------------------------------

    def gathered(self, values: Sequence[int]) -> np.ndarray:
        """Return whole numbers of all workers, (workers, len(values)); all must call it at once."""
        own = np.zeros((self.workers, len(values)), np.int64)
        own[self.worker] = values
        if self.workers == 1:
            return own
        parts = self._sum([own])
        return parts[0]

    def from_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the chief's arrays on all workers; theirs must have the same shapes and types."""
        if self.workers == 1:
            return list(arrays)
        return self._sum([a if self.is_chief else np.zeros_like(a) for a in arrays])

    def _sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        first = tf.constant(self.first)

        def of_replica(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            counts = tf.equal(context.replica_id_in_sync_group, first)
            return [total(tf.where(counts, t, tf.zeros_like(t))) for t in tensors]

        @tf.function
        def summed(tensors: Sequence[tf.Tensor]) -> Any:
            found = self.strategy.run(of_replica, (tensors,))
            return [self.strategy.experimental_local_results(f)[0] for f in found]

        return [t.numpy() for t in summed([tf.constant(a) for a in arrays])]

    def share_seed(self, settings: Any) -> None:
        """Give all workers the seed of the chief, where the settings leave it to chance."""
        settings.seed = int(self.gathered([settings.seed])[0, 0])

    def refuse_differences(self, facts: Mapping[str, int]) -> None:
        """Refuse workers that would train different things; all must call it at once.

        Parameters
        ----------
        facts : dict of str to int
            Checksums, by what they are of.
        """
        found = self.gathered(list(facts.values()))
        for name, column in zip(facts, found.T, strict=True):
            if len(set(column.tolist())) > 1:
                other = int(np.flatnonzero(column != column[0])[0])
                raise ConfigError(
                    f"{name} must be the same for all workers; received others on worker {other} "
                    f"({self._address(other)}) than on worker 0 ({self._address(0)}). Give all "
                    f"workers the same files, settings and versions."
                )

    def same_weights(self, network: Any) -> int:
        """Return a checksum of the weights; all workers must call it at once.

        Raises
        ------
        RuntimeError
            If they are not the same on all workers.
        """
        checksum = 0
        for array in network.get_weights():
            checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
        found = self.gathered([checksum])[:, 0]
        if len(set(found.tolist())) > 1:
            raise RuntimeError(f"the workers have ended with other weights: {found.tolist()}")
        return checksum

    def _address(self, worker: int) -> str:
        return self.cluster.addresses[worker] if self.cluster else "this machine"

    @contextlib.contextmanager
    def watching(self, command: str) -> Iterator[None]:
        """Turn the error of a lost connection into one line.

        Parameters
        ----------
        command : str
            What resumes the run.

        Raises
        ------
        WorkerLostError
            If another worker has stopped.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1 or not _is_loss(error):
                raise
            raise WorkerLostError(self._lost(str(error), command)) from None

    def _lost(self, error: str, command: str) -> str:
        named = sorted({int(n) for n in re.findall(r"/job:worker/replica:0/task:(\d+)\n", error)})
        gone = [n for n in named if n != self.worker] or self._silent()
        if self.workers == 2:
            gone = [1 - self.worker]
        which = " and ".join(f"worker {n} ({self._address(n)})" for n in gone) or "another worker"
        return (
            f"{which} of {self.workers} has stopped, so worker {self.worker} stops too. See its "
            f"output for the reason. Resume from the last saved state, with any number of "
            f"workers: {command}"
        )

    def _silent(self) -> list[int]:
        """Return the workers that take no connection."""
        return [
            number
            for number, address in enumerate(self.cluster.addresses if self.cluster else ())
            if number != self.worker and not _answers(address)
        ]


def total(values: Any) -> Any:
    """Return the sum over all replicas; the values themselves outside their steps.

    It can be differentiated: the gradient of a sum is the sum of the gradients.
    """
    context = tf.distribute.get_replica_context()
    if context is None or replicas() == 1:
        return values
    return context.all_reduce("SUM", tf.nest.map_structure(tf.identity, values))


def mean(values: tf.Tensor) -> tf.Tensor:
    """Return the mean over all elements on all replicas, which have as many each."""
    own = tf.reduce_mean(values)
    return total(own) / replicas() if is_split() else own


def replicas() -> int:
    """Return the number of replicas."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def is_split() -> bool:
    """Whether what is computed here sees only a part of the batch."""
    return replicas() > 1 and tf.distribute.in_cross_replica_context() is False


def apply_gradients(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Sum gradients over all replicas, then clip and apply them.

    Keras sums what it has clipped, which is another gradient, and one that is not finite on one
    replica would change the loss scale of that one alone.
    """
    known = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    optimizer.apply(total([g for g, _ in known]), [v for _, v in known])


def summed_already(optimizer: type[keras.Optimizer]) -> type[keras.Optimizer]:
    """Return an optimizer class that takes gradients as `apply_gradients` gives them."""

    def unchanged(self: Any, grads_and_vars: Any) -> Any:
        return grads_and_vars

    return type(optimizer.__name__, (optimizer,), {"_all_reduce_sum_gradients": unchanged})


_OPENED: dict[str, Distribution] = {}


def open_distribution(kind: Kind, where: str = "distribution") -> Distribution:
    """Return the devices of this process and, for ``multi_worker``, of the others.

    Before anything is computed, as TensorFlow wants it; once opened, it stays.

    Parameters
    ----------
    kind : {'none', 'mirrored', 'multi_worker'}
        One device; all GPUs of this machine; all workers that TF_CONFIG names.
    where : str
        Name of the settings file, for messages.

    Raises
    ------
    ConfigError
        If TF_CONFIG is missing, damaged or contradicts `kind`.
    WorkerLostError
        If the other workers do not start.
    """
    if kind not in _OPENED:
        _OPENED[kind] = {"mirrored": _mirrored, "multi_worker": _multi_worker}.get(kind, _single)(
            where
        )
    return _OPENED[kind]


def _single(where: str) -> Distribution:
    cluster = read_cluster()
    if cluster and len(cluster.addresses) > 1:
        raise ConfigError(
            f"{where}: distribution must be multi_worker where TF_CONFIG names "
            f"{len(cluster.addresses)} workers, or each would train and write for itself; received "
            f"another. Add --distribution multi_worker, or unset TF_CONFIG."
        )
    return Distribution()


def _mirrored(where: str) -> Distribution:
    _single(where)
    # Listing logical devices makes them, after which a CPU cannot be divided.
    gpus = tf.config.list_physical_devices("GPU")
    devices = tf.config.list_logical_devices("GPU") if gpus else _logical_cpus(where)
    if len(devices) == 1:
        return Distribution()
    return Distribution(tf.distribute.MirroredStrategy([d.name for d in devices]))


def _logical_cpus(where: str) -> list[Any]:
    text = os.environ.get(CPU_DEVICES, "1")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            f"{where}: {CPU_DEVICES} must be a whole number of at least 1; received {text!r}. "
            f"Correct or unset it."
        )
    parts = [tf.config.LogicalDeviceConfiguration()] * int(text)
    with contextlib.suppress(RuntimeError):  # something was computed before
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    devices = list(tf.config.list_logical_devices("CPU"))
    if len(devices) != int(text):
        raise ConfigError(
            f"{where}: {CPU_DEVICES} must be set before TensorFlow starts to compute; received "
            f"{text} after it has made {len(devices)}. Train in a process of its own."
        )
    return devices


def _multi_worker(where: str) -> Distribution:
    cluster = read_cluster()
    if cluster is None:
        raise ConfigError(
            f"{where}: distribution: multi_worker needs the variable TF_CONFIG, which names all "
            f"workers. Start with python -m sr_trainer.launch --workers 2 {where} train, see "
            f"docs/scaling.md, or use --distribution mirrored or none."
        )
    if len(cluster.addresses) == 1:
        return _mirrored(where)
    # A CPU is one device of a worker, so that all have equally many.
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": cluster.addresses},
            "task": {"type": "worker", "index": cluster.worker},
        }
    )
    _configure_heartbeats(len(cluster.addresses))
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise WorkerLostError(
            f"the {len(cluster.addresses)} workers {', '.join(cluster.addresses)} did not all "
            f"start within {_JOIN_S / 60:g} minutes ({first}). Start all of them, with addresses "
            f"that each can reach, and ports that are free."
        ) from None
    return Distribution(strategy, cluster)


def _configure_heartbeats(workers: int) -> None:
    """Let workers notice within `_SILENCE_S` that another one has stopped."""
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    job = coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=workers)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=1000 * _JOIN_S,
        heartbeat_timeout_in_ms=1000 * _SILENCE_S,
        coordinated_jobs=[job],
    )


def _is_loss(error: tf.errors.OpError) -> bool:
    """Whether an error says that a worker cannot be reached."""
    kinds = tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError
    return isinstance(error, kinds) or "Collective ops is aborted" in str(error)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def _stream(batches: Any) -> BatchStream:
    if isinstance(batches, BatchStream):
        return batches
    raise ConfigError(
        f"distribution must be none with data that cannot be cut, of {type(batches).__name__}. "
        f"Make it a subclass of BatchStream."
    )


def _own_copies(next_creator: Callable[..., Any], **options: Any) -> Any:
    """Make a variable of which every replica changes its own copy, in the same way as the others.

    Keras wants metrics to be summed when they are read, which all workers would have to do at once.
    """
    options["synchronization"] = tf.VariableSynchronization.AUTO
    options["aggregation"] = tf.VariableAggregation.NONE
    return next_creator(**options)
