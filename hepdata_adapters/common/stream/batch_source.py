"""What the datasets of all frameworks share: events, a split, the options of an epoch, a ledger."""

from __future__ import annotations

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.ledger import Ledger, SharedLedger
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions


class BatchSource:
    """A dataset, the split of it that is read, and how its epochs are cut into batches.

    Frameworks derive from it; what they add is how its batches become tensors, and in which
    process they are read.

    prepared: the files, specs and transform. split: which events, None for all.
    epoch_options: the same for all epochs and ranks.
    """

    prepared: Dataset
    split: SplitName | None
    epoch_options: EpochOptions
    _ledger: SharedLedger

    def _set_up(self, prepared: Dataset, split: SplitName | None, options: EpochOptions) -> None:
        self.prepared, self.split, self.epoch_options = prepared, split, options
        self._ledger = SharedLedger()

    @property
    def config(self) -> DatasetConfig:
        return self.prepared.config

    @property
    def specs(self) -> Specs:
        return self.prepared.specs

    @property
    def seed(self) -> int:
        """Of the order of the events."""
        return self.epoch_options.seed

    @property
    def shuffle(self) -> bool:
        """Whether the samples are mixed; otherwise events come in file order."""
        return self.epoch_options.shuffle

    @property
    def drop_last(self) -> bool:
        """Whether a last batch of fewer events is left out."""
        return self.epoch_options.drop_last

    @property
    def feature_names(self) -> list[str]:
        """Names of the d columns of ``x``."""
        return self.prepared.transform.feature_names

    @property
    def num_features(self) -> int:
        """d, the number of columns of ``x``."""
        return self.prepared.transform.num_features

    @property
    def ledger(self) -> Ledger:
        """What was left out, and what was delivered, truncated, filled and padded so far."""
        total = self.prepared.notes()
        total.merge(self.delivery)
        return total

    @property
    def delivery(self) -> Ledger:
        """The part of the ledger about events, over all workers."""
        return self._ledger.read()
