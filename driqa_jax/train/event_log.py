"""TensorBoard's event files, without TensorFlow."""

import importlib.util
import pathlib
import time


class EventLog:
    """Scalars by step, in a new file of the folder; on the disk once `write` has returned.

    The library's own `SummaryWriter` hands them to a thread, which dies with the first write that fails, a full disk's
    say, and then waits for ever for the dead thread to take more.

    Raises:
      OSError: a file cannot be written, here and in all methods.
    """

    def __init__(self, folder: pathlib.Path, start_step: int):
        """`start_step`: what a run before wrote past it is hidden. Wants the extra `tensorboard`, see `installed`."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self._file.write_event(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: dict[str, float]) -> None:
        """One event for all values of a step."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._file.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Nothing can be written after it."""
        self._file.close()


def installed() -> bool:
    """Whether event files can be written here."""
    return importlib.util.find_spec("tensorboardX") is not None
