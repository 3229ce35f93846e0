"""TorchServe handler of the task `edit`: hands the rows of a batch to `tergan_core.serving`, the answers back.

TorchServe takes the one class of this file. Imports stand in the methods: at the top, a failing one would be reported
as a missing `ts.torch_handler`.
"""


class EditHandler:
    """Holds one model; TorchServe makes one object per worker."""

    def initialize(self, context):
        """Loads the model from the unpacked archive, on the GPU that TorchServe assigns, else on the CPU."""
        import torch

        from tergan_core.serving import Service

        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        options = (context.model_yaml_config or {}).get("handler", {})
        self.service = Service.load(properties["model_dir"], "edit", device, threads=options.get("threads"))

    def handle(self, rows, context):
        """One body per row; sets each request's own status and content type."""
        from tergan_core.serving import request_from_row

        requests = [request_from_row(row, context.get_all_request_header(index)) for index, row in enumerate(rows)]
        responses = self.service.handle(requests)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, response.phrase, index)
            context.set_response_content_type(index, response.content_type)
            for name, value in response.headers.items():
                context.set_response_header(index, name, value)
        return [response.body for response in responses]
