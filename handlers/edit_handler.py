"""TorchServe handler of the task `edit`: hands batches to `tergan_core.torchserve`.

TorchServe takes the one class of this file. Imports stand in the methods: at the top, a failing one would be reported
as a missing `ts.torch_handler`.
"""


class EditHandler:
    """Holds one model; TorchServe makes one object per worker."""

    def initialize(self, context):
        """Loads the model of the archive."""
        from tergan_core import torchserve

        self.service = torchserve.load(context, "edit")

    def handle(self, rows, context):
        """One body per row."""
        from tergan_core import torchserve

        return torchserve.handle(self.service, rows, context)
