"""TorchServe handler of the task `recognize`: hands batches to `tergan_core.torchserve`.

TorchServe takes the one class of this file. The import stands in the method: at the top, a failing one would be
reported as a missing `ts.torch_handler`.
"""


class RecognizeHandler:
    """Holds one model; TorchServe makes one object per worker."""

    def initialize(self, context):
        """Loads the model of the archive."""
        from tergan_core.torchserve import Worker

        self.worker = Worker(context, "recognize")

    def handle(self, rows, context):
        """One body per row."""
        return self.worker.handle(rows, context)
