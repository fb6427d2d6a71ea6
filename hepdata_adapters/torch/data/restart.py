"""Where Lightning is in its training, as its own counters say: they decide what comes next.

A checkpoint holds Lightning's counters and our position, and the two can disagree: an epoch that
was cut short (``limit_train_batches``, ``max_steps``, an early stop) is over for Lightning, and a
batch that was fetched may not have been trained. What Lightning says it trains next is delivered.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus


def fitting(trainer: Any) -> bool:
    """Whether the trainer is in `Trainer.fit`."""
    state = trainer.state
    return bool(state.fn == TrainerFn.FITTING and state.status == TrainerStatus.RUNNING)


def batches_done(trainer: Any) -> int:
    """Batches of the present epoch that are trained, once Lightning has begun to train."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)


def mend_counters(trainer: Any, length: int) -> None:
    """Let Lightning count an epoch once that ``max_steps`` or an early stop has cut.

    It counts that epoch as processed when it stops. Where it then goes on in it (as it does with
    ``max_steps``), it would call the rest of it the next epoch, or run an epoch of no batch.
    Must be called before the training begins. length: batches of a whole epoch.
    """
    loop = trainer.fit_loop
    epochs, batches = loop.epoch_progress, loop.epoch_loop.batch_progress
    if not batches.current.completed or epochs.current.processed < epochs.current.started:
        return  # fresh, or stopped in the middle, which Lightning knows
    both = epochs.current, epochs.total
    if batches.current.completed < _limited(length, trainer.limit_train_batches):
        for counter in both:
            counter.processed -= 1
            counter.completed = counter.processed
        return
    for counter in both:  # the epoch is over
        counter.completed = counter.processed
    inner = loop.epoch_loop
    optimizers = inner.automatic_optimization.optim_progress
    for progress in (batches, inner.scheduler_progress, optimizers):
        progress.reset_on_run()
    inner.val_loop.batch_progress.total.reset()


def _limited(length: int, limit: float) -> int:
    return min(length, limit) if isinstance(limit, int) else int(length * limit)
